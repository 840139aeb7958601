"""MLlib's LabeledPoints, vectors and matrices, and what this package trains on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark import RDD, SparkContext
from pyspark.mllib.linalg import DenseMatrix, DenseVector, Matrices, Matrix, Vector, Vectors
from pyspark.mllib.regression import LabeledPoint


def from_vector(vector: Vector) -> NDArray[np.float64]:
    """The numbers of a dense or sparse vector, float64[n]."""
    return np.asarray(vector.toArray())


def to_vector(array: Any) -> DenseVector:
    """A dense vector of an array of one axis. Raises ``ValueError`` for another shape."""
    values = np.asarray(array)
    if values.ndim != 1:
        raise ValueError(f"array: expected one axis, got shape {list(values.shape)}")
    return Vectors.dense(values)


def from_matrix(matrix: Matrix) -> NDArray[np.float64]:
    """The numbers of a dense or sparse matrix, float64[rows, columns]."""
    return np.asarray(matrix.toArray())


def to_matrix(array: Any) -> DenseMatrix:
    """A dense matrix of an array of two axes. Raises ``ValueError`` for another shape."""
    values = np.asarray(array)
    if values.ndim != 2:
        raise ValueError(f"array: expected two axes, got shape {list(values.shape)}")
    return Matrices.dense(values.shape[0], values.shape[1], values.ravel(order="F"))


def encode_label(label: Any, nb_classes: int) -> NDArray[np.float64]:
    """One class as float64[nb_classes] of zeros and a one. Raises ``ValueError`` for a class that is not below it."""
    index = _class_of(label, nb_classes)
    encoded = np.zeros(nb_classes)
    encoded[index] = 1.0
    return encoded


def to_labeled_point(sc: SparkContext, features: Any, labels: Any, categorical: bool = False) -> RDD[LabeledPoint]:
    """LabeledPoints of the rows of two arrays; ``categorical``: the labels are one-hot, their class is taken."""
    x, y = np.asarray(features), np.asarray(labels)
    if len(x) != len(y):
        raise ValueError(f"features and labels: expected as many of one as of the other, got {len(x)} and {len(y)}")
    scalars = np.argmax(y, axis=1) if categorical else y.reshape(len(y))
    points = [LabeledPoint(float(label), to_vector(row)) for row, label in zip(x, scalars, strict=True)]
    return sc.parallelize(points)


def from_labeled_point(
    rdd: RDD[LabeledPoint], categorical: bool = False, nb_classes: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features float64[rows, n] and labels float64[rows], in the driver; ``categorical``: labels one-hot,
    float64[rows, nb_classes], for the classes there are where ``nb_classes`` is not given."""
    points = rdd.collect()
    features = np.asarray([from_vector(point.features) for point in points])
    labels = np.asarray([point.label for point in points], np.float64)
    if categorical:
        classes = nb_classes or int(labels.max(initial=-1)) + 1
        labels = np.asarray([encode_label(label, classes) for label in labels]).reshape(len(labels), classes)
    return features, labels


def lp_to_simple_rdd(
    lp_rdd: RDD[LabeledPoint], categorical: bool = False, nb_classes: int | None = None
) -> RDD[tuple[NDArray[Any], Any]]:
    """``(x, y)`` rows of LabeledPoints: float32[n], and the label as a number or one-hot as float32[nb_classes].

    ``categorical`` without ``nb_classes`` runs a job that looks for the highest class.
    """
    classes = None
    if categorical:
        classes = nb_classes or int(lp_rdd.map(lambda point: point.label).max()) + 1

    def rows(points: Iterable[LabeledPoint]) -> Iterator[tuple[NDArray[Any], Any]]:
        for point in points:
            x = from_vector(point.features).astype(np.float32)
            yield x, point.label if classes is None else encode_label(point.label, classes).astype(np.float32)

    return lp_rdd.mapPartitions(rows)


def _class_of(label: Any, nb_classes: int) -> int:
    index = int(label)
    if index != label or not 0 <= index < nb_classes:
        raise ValueError(f"label: expected a class from 0 to {nb_classes - 1}, got {label!r}")
    return index
