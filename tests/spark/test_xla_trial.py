"""``xla='measure'`` over Spark, and a model that was compiled with ``jit_compile=True``."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from elephas_fast import SparkModel
from elephas_fast.utils.rdd_utils import to_simple_rdd

RNG = np.random.default_rng(4)
X = RNG.normal(size=(160, 12, 4)).astype(np.float32)
Y = (X.sum((1, 2)) > 0).astype(np.float32)


def recurrent(**options) -> keras.Model:
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((12, 4)), keras.layers.LSTM(8), keras.layers.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"], **options)
    return model


def fitted(sc, model, **options):
    history = SparkModel(model, mode="synchronous", num_workers=2).fit(
        to_simple_rdd(sc, X, Y), epochs=4, batch_size=16, verbose=0, shuffle=False, **options
    )
    return history, model.get_weights()


@pytest.mark.parametrize("frequency", ["batch", "epoch"])
def test_trains_as_without(sc, frequency):
    history, weights = fitted(sc, recurrent(), frequency=frequency)
    assert [part.xla for part in history.partitions] == [False, False]
    for model, options in ((recurrent(), {"xla": "measure"}), (recurrent(jit_compile=True), {})):
        again, others = fitted(sc, model, frequency=frequency, **options)
        assert again.updates == history.updates
        assert options or [part.xla for part in again.partitions] == [True, True]
        np.testing.assert_allclose(again.history["loss"], history.history["loss"], rtol=1e-3)
        for one, other in zip(weights, others, strict=True):
            np.testing.assert_allclose(other, one, rtol=5e-3, atol=5e-4)
