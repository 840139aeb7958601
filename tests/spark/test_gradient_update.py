"""``update='gradient'`` with one worker, no shuffling and a round of one batch is ``keras.Model.fit``."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from elephas_fast import SparkModel
from elephas_fast.utils.rdd_utils import to_simple_rdd

OPTIMIZERS = {
    "sgd with momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov, clipnorm": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.5),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adam, schedule, decay": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.02, 5, 0.9), weight_decay=0.01, global_clipnorm=1.0
    ),
}


def build(optimizer):
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="relu", kernel_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1, activation="sigmoid", kernel_constraint=keras.constraints.MaxNorm(1.5)),
        ]
    )
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_keras_fit(sc, mode, name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 8)).astype(np.float32)
    y = (x.sum(1, keepdims=True) > 0).astype(np.float32)
    expected, got = build(OPTIMIZERS[name]()), build(OPTIMIZERS[name]())
    by_keras = expected.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0)
    by_us = SparkModel(got, mode=mode, frequency="batch", num_workers=1, update="gradient").fit(
        to_simple_rdd(sc, x, y), batch_size=32, epochs=3, shuffle=False, verbose=0
    )
    for a, b in zip(expected.get_weights(), got.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(expected.optimizer.variables, got.optimizer.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6, err_msg=a.path)
    for key, values in by_keras.history.items():
        np.testing.assert_allclose(values, by_us.history[key], rtol=1e-4, atol=1e-6, err_msg=key)


def test_a_second_fit_goes_on_where_keras_goes_on(sc):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(64, 8)).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)
    expected, got = build(keras.optimizers.Adam(0.01)), build(keras.optimizers.Adam(0.01))
    spark_model = SparkModel(got, mode="asynchronous", frequency="batch", num_workers=1, update="gradient")
    rdd = to_simple_rdd(sc, x, y)
    for _ in range(2):
        expected.fit(x, y, batch_size=32, epochs=1, shuffle=False, verbose=0)
        spark_model.fit(rdd, batch_size=32, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(expected.get_weights(), got.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert int(got.optimizer.iterations.numpy()) == 4
