"""A model with everything: BatchNormalization, Dropout, Embedding, Normalization (an int64 weight), two of each end."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from elephas_fast import SparkModel
from elephas_fast.utils.rdd_utils import to_simple_rdd

ROWS = 240


def data():
    rng = np.random.default_rng(0)
    dense = rng.normal(3.0, 2.0, size=(ROWS, 6)).astype(np.float32)
    words = rng.integers(0, 20, size=(ROWS, 5)).astype(np.int32)
    target = ((dense.sum(1) + words.sum(1)) > 66).astype(np.float32)[:, None]
    return (dense, words), (target, dense[:, :2].copy())


def build(dense):
    keras.utils.set_random_seed(0)
    a, b = keras.Input((6,), name="dense"), keras.Input((5,), dtype="int32", name="words")
    normalization = keras.layers.Normalization(name="normalization")
    normalization.adapt(dense)
    h = keras.layers.Concatenate()(
        [normalization(a), keras.layers.Flatten()(keras.layers.Embedding(20, 3, name="embedding")(b))]
    )
    h = keras.layers.Dense(16, activation="relu", name="hidden")(h)
    h = keras.layers.BatchNormalization(momentum=0.9, name="batch_normalization")(h)
    h = keras.layers.Dropout(0.2)(h)
    outputs = [keras.layers.Dense(1, activation="sigmoid", name="sign")(h), keras.layers.Dense(2, name="first")(h)]
    model = keras.Model([a, b], outputs)
    model.compile("adam", {"sign": "binary_crossentropy", "first": "mse"}, metrics={"sign": ["accuracy"]})
    return model


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
@pytest.mark.parametrize("frequency", ["epoch", "batch", 2])
def test_trains_and_keeps_what_must_be_kept(sc, mode, frequency):
    x, y = data()
    model = build(x[0])
    before = {w.path: w.numpy() for w in model.weights}
    dtypes = {w.path: str(w.dtype) for w in model.weights}
    history = SparkModel(model, mode=mode, frequency=frequency, num_workers=2).fit(
        to_simple_rdd(sc, x, y), epochs=4, batch_size=16, verbose=0, seed=0
    )
    after = {w.path: w.numpy() for w in model.weights}
    assert {w.path: str(w.dtype) for w in model.weights} == dtypes
    for path, value in before.items():
        if path.startswith("normalization/"):
            np.testing.assert_array_equal(after[path], value, err_msg=path)
        elif "gamma" not in path and "beta" not in path:
            assert not np.array_equal(after[path], value), path
    assert np.all(after["batch_normalization/moving_variance"] > 0)
    assert np.all(np.isfinite(np.concatenate([v.ravel().astype(np.float64) for v in after.values()])))
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert {"loss", "sign_loss", "first_loss", "sign_accuracy"} <= set(history.history)


def test_synchronous_moving_statistics_are_the_mean_of_the_workers(sc):
    """Plain SGD, no dropout: gamma, beta, moving mean and variance equal the mean over local Keras fits."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(2.0, 3.0, size=(64, 5)).astype(np.float32), rng.normal(size=(64, 1)).astype(np.float32)

    def model():
        keras.utils.set_random_seed(0)
        m = keras.Sequential([keras.Input((5,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
        m.compile("sgd", "mse")
        return m

    got = model()
    SparkModel(got, mode="synchronous", num_workers=2).fit(
        to_simple_rdd(sc, x, y), epochs=1, batch_size=16, shuffle=False, verbose=0
    )
    local = []
    for part in (slice(0, 32), slice(32, 64)):
        m = model()
        m.fit(x[part], y[part], batch_size=16, epochs=1, shuffle=False, verbose=0)
        local.append(m.get_weights())
    for value, one, two in zip(got.get_weights(), *local, strict=True):
        np.testing.assert_allclose(value, (one + two) / 2, rtol=1e-5, atol=1e-6)


def test_row_weights_and_class_weights(sc):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype(np.float32)
    y = rng.integers(0, 3, 64)
    w = rng.uniform(0.5, 2.0, 64).astype(np.float32)

    def model():
        keras.utils.set_random_seed(0)
        m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        m.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        return m

    options = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0}
    expected, got = model(), model()
    expected.fit(x, y, sample_weight=w, **options)
    rows = [(a, int(b), float(c)) for a, b, c in zip(x, y, w, strict=True)]
    SparkModel(got, mode="asynchronous", frequency="batch").fit(sc.parallelize(rows, 1), **options)
    for a, b in zip(expected.get_weights(), got.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    expected, got = model(), model()
    expected.fit(x, y, class_weight={0: 1.0, 1: 3.0, 2: 0.5}, **options)
    SparkModel(got, mode="asynchronous", frequency="batch", num_workers=1).fit(
        to_simple_rdd(sc, x, y), class_weight={0: 1.0, 1: 3.0, 2: 0.5}, **options
    )
    for a, b in zip(expected.get_weights(), got.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
