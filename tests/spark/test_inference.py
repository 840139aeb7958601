"""Prediction and evaluation, in the driver and as a Spark job."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from elephas_fast import SparkModel
from elephas_fast.spark import inference
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.spark.conftest import dense_model


@pytest.fixture
def always_distributed(monkeypatch):
    monkeypatch.setattr(inference, "LOCAL_ROWS", 0)


def test_predict_array(sc, digits, always_distributed):
    _, _, x, _ = digits
    model = dense_model()
    rows = SparkModel(model, num_workers=2).predict(x)
    assert isinstance(rows, list)
    assert rows[0].shape == (10,)
    np.testing.assert_allclose(np.stack(rows), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_predict_array_in_the_driver(sc, digits):
    _, _, x, _ = digits
    model = dense_model()
    np.testing.assert_allclose(
        np.stack(SparkModel(model, num_workers=2).predict(x)), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("partitions", [1, 3, 7])
def test_predict_rdd_keeps_the_order(sc, digits, partitions):
    _, _, x, _ = digits
    model = dense_model()
    rows = SparkModel(model, num_workers=2).predict(sc.parallelize(list(x), partitions))
    np.testing.assert_allclose(np.stack(rows), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_predict_with_empty_partitions(sc, digits):
    _, _, x, _ = digits
    model = dense_model()
    rows = SparkModel(model).predict(sc.parallelize(list(x[:3]), 8))
    np.testing.assert_allclose(np.stack(rows), model.predict(x[:3], verbose=0), rtol=1e-5, atol=1e-6)


def test_two_inputs_and_outputs(sc, always_distributed):
    a, b = keras.Input((3,)), keras.Input((2,))
    model = keras.Model([a, b], [keras.layers.Dense(2)(a), keras.layers.Dense(1)(b)])
    model.compile("sgd", "mse")
    x = (np.random.default_rng(0).normal(size=(20, 3)), np.random.default_rng(1).normal(size=(20, 2)))
    rows = SparkModel(model).predict([part.astype(np.float32) for part in x])
    expected = model.predict(list(x), verbose=0)
    for output in range(2):
        np.testing.assert_allclose(np.stack([row[output] for row in rows]), expected[output], rtol=1e-4, atol=1e-5)


def test_evaluate_equals_keras(sc, digits, always_distributed):
    _, _, x, y = digits
    model = dense_model()
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy", keras.metrics.AUC()])
    spark_model = SparkModel(model)
    expected = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(spark_model.evaluate(x, y), expected, rtol=1e-4)
    np.testing.assert_allclose(spark_model.evaluate(to_simple_rdd(sc, x, y)), expected, rtol=1e-4)
    by_name = spark_model.evaluate(x, y, return_dict=True)
    assert list(by_name)[:2] == ["loss", "accuracy"]


def test_evaluate_in_the_driver_puts_loss_first(sc, digits):
    _, _, x, y = digits
    model = dense_model()
    loss, accuracy = SparkModel(model).evaluate(x, y)
    np.testing.assert_allclose([loss, accuracy], model.evaluate(x, y, verbose=0), rtol=1e-5)


def test_evaluate_without_metrics_is_the_loss(sc):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((5, 2), np.float32), np.ones(5, np.float32)
    np.testing.assert_allclose(SparkModel(model).evaluate(x, y), model.evaluate(x, y, verbose=0), rtol=1e-5)
