"""DataFrames of features and labels, to and from arrays and RDDs of pairs, as Elephas' ``ml.adapter`` has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark import RDD, SparkContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from elephas_fast.input_spec import InputSpec
from elephas_fast.spark.frames import packed
from elephas_fast.spark.labeled_points import encode_label, to_labeled_point

_ANY = (InputSpec("x", None, "float64"),)


def to_data_frame(sc: SparkContext, features: Any, labels: Any, categorical: bool = False) -> DataFrame:
    """A DataFrame with columns ``features`` (mllib vectors) and ``label`` of two arrays; ``categorical``: the labels
    are one-hot, their class is taken."""
    spark = SparkSession.builder.getOrCreate()
    return spark.createDataFrame(to_labeled_point(sc, features, labels, categorical))


def from_data_frame(
    df: DataFrame, categorical: bool = False, nb_classes: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features float64[rows, n] and labels float64[rows] of the columns ``features`` and ``label``, in the driver;
    ``categorical``: labels one-hot, float64[rows, nb_classes], for the classes there are where that is not given."""
    rows = list(_present(_selected(df, "features", "label").collect()))
    features = np.asarray([row.x for row in rows], np.float64)
    labels = np.asarray([row.y for row in rows], np.float64)
    if categorical:
        classes = nb_classes or int(labels.max(initial=-1)) + 1
        labels = np.asarray([encode_label(label, classes) for label in labels]).reshape(len(labels), classes)
    return features, labels


def df_to_simple_rdd(
    df: DataFrame,
    categorical: bool = False,
    nb_classes: int | None = None,
    features_col: str = "features",
    label_col: str = "label",
    *,
    featuresCol: str | None = None,
    labelCol: str | None = None,
) -> RDD[tuple[NDArray[Any], Any]]:
    """``(x, y)`` rows of a DataFrame: float32[n], and the label as a number, an array, or one-hot as
    float32[nb_classes]. ``featuresCol``, ``labelCol``: as 0.3 named the columns.

    ``categorical`` without ``nb_classes`` runs a job that looks for the highest class.
    """
    selected = _selected(df, featuresCol or features_col, labelCol or label_col)
    classes = None
    if categorical:
        highest = nb_classes or selected.agg(F.max("y")).head()[0]  # type: ignore[index]
        classes = nb_classes or int(highest or 0) + 1

    def pairs(rows: Iterable[Any]) -> Iterator[tuple[NDArray[Any], Any]]:
        for row in _present(rows):
            y = np.asarray(row.y, np.float32) if isinstance(row.y, list) else row.y
            yield (
                np.asarray(row.x, np.float32),
                y if classes is None else encode_label(y, classes).astype(np.float32),
            )

    return selected.rdd.mapPartitions(pairs)


def _present(rows: Iterable[Any]) -> Iterator[Any]:
    """The rows. Raises ``ValueError`` for one without features or label."""
    for row in rows:
        for name, what in (("x", "features"), ("y", "label")):
            if row[name] is None:
                raise ValueError(f"{what}: expected no nulls, got a row with one; drop or fill them")
        yield row


def _selected(df: DataFrame, features: str, label: str) -> DataFrame:
    (x,), (y,) = packed(df, "features", [features], _ANY), packed(df, "label", [label], _ANY)
    return df.select(x.alias("x"), y.alias("y"))
