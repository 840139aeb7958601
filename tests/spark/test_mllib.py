"""LabeledPoints, vectors and matrices."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.mllib.linalg import Matrices, Vectors
from pyspark.mllib.regression import LabeledPoint

from elephas_fast import SparkMLlibModel, load_spark_model
from elephas_fast.mllib.adapter import from_matrix, from_vector, to_matrix, to_vector
from elephas_fast.utils.rdd_utils import encode_label, from_labeled_point, lp_to_simple_rdd, to_labeled_point
from tests.spark.conftest import assert_nothing_left, dense_model


def test_vectors_and_matrices_come_back_as_they_were():
    np.testing.assert_array_equal(from_vector(to_vector(np.arange(3.0))), np.arange(3.0))
    np.testing.assert_array_equal(from_vector(Vectors.sparse(4, {1: 2.0})), [0.0, 2.0, 0.0, 0.0])
    values = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(from_matrix(to_matrix(values)), values)
    np.testing.assert_array_equal(from_matrix(Matrices.sparse(2, 2, [0, 1, 1], [1], [5.0])), [[0, 0], [5, 0]])
    with pytest.raises(ValueError, match="array: expected one axis"):
        to_vector(values)
    with pytest.raises(ValueError, match="array: expected two axes"):
        to_matrix(values[0])


def test_labels_are_classes():
    np.testing.assert_array_equal(encode_label(2.0, 3), [0, 0, 1])
    for label in (3, -1, 0.5):
        with pytest.raises(ValueError, match="label: expected a class from 0 to 2"):
            encode_label(label, 3)


def test_labeled_points_there_and_back(sc):
    x, y = np.arange(6.0).reshape(3, 2), np.array([0.0, 2.0, 1.0])
    for labels, categorical in ((y, False), (np.eye(3)[y.astype(int)], True)):
        points = to_labeled_point(sc, x, labels, categorical)
        assert [point.label for point in points.collect()] == [0.0, 2.0, 1.0]
        features, back = from_labeled_point(points, categorical)
        np.testing.assert_array_equal(features, x)
        np.testing.assert_array_equal(back, labels)
    rows = lp_to_simple_rdd(points, categorical=True, nb_classes=4).collect()
    np.testing.assert_array_equal([row[1] for row in rows], np.eye(4)[y.astype(int)])
    rows = lp_to_simple_rdd(points).collect()
    assert [row[1] for row in rows] == [0.0, 2.0, 1.0]
    with pytest.raises(ValueError, match="features and labels"):
        to_labeled_point(sc, x, y[:2])


@pytest.mark.parametrize("sparse", [False, True])
def test_a_model_of_labeled_points(sc, digits, sparse, tmp_path):
    x, y, x_test, y_test = digits
    labels = np.argmax(y, axis=1)
    if sparse:
        rows = [(row.nonzero()[0].tolist(), row[row.nonzero()].tolist()) for row in x]
        points = sc.parallelize(
            [LabeledPoint(float(label), Vectors.sparse(64, *row)) for row, label in zip(rows, labels, strict=True)], 2
        )
    else:
        points = to_labeled_point(sc, x, y, categorical=True)
    model = SparkMLlibModel(dense_model(), mode="synchronous", frequency=8, num_workers=2)
    history = model.train(points, nb_epoch=10, batch_size=32, validation_split=0.1, categorical=True, nb_classes=10)
    assert len(history.history["val_loss"]) == 10
    outputs = model.predict(to_matrix(x_test))
    assert (outputs.numRows, outputs.numCols) == (len(x_test), 10)
    assert np.mean(np.argmax(from_matrix(outputs), axis=1) == np.argmax(y_test, axis=1)) > 0.9
    one = model.predict(to_vector(x_test[5]))
    np.testing.assert_allclose(from_vector(one), from_matrix(outputs)[5], atol=1e-5)
    vectors = sc.parallelize([Vectors.dense(row) for row in x_test[:7]], 2)
    np.testing.assert_allclose(model.predict(vectors), from_matrix(outputs)[:7], atol=1e-5)
    assert model.fit(points, 1, 32, 0, 0.0, True, 10).history.keys() == {"loss", "accuracy"}
    by_name = model.fit(labeled_points=points, categorical=True).history  # with Elephas' defaults
    assert len(by_name["val_loss"]) == 10
    assert from_vector(model.predict(mllib_data=to_vector(x_test[5]))).shape == (10,)
    with pytest.raises(TypeError, match="train: expected at most 6 arguments"):
        model.train(points, 1, 32, 0, 0.0, True, 10, "more")
    with pytest.raises(TypeError, match="fit: expected 'epochs' once"):
        model.fit(points, 1, epochs=1)
    file = str(tmp_path / "m.h5")
    model.save(file)
    assert type(load_spark_model(file)) is SparkMLlibModel
    assert_nothing_left()
