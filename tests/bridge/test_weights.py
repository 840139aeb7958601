"""Weights of every dtype survive the way to the buffers and back, unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from elephas_fast.batches import Arrays
from elephas_fast.keras_bridge import Trainer, describe, layout_of, set_weights, weights_of


def normalized(keras):
    layer = keras.layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(5, 3, size=(50, 4)).astype(np.float32))
    return keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)])


def of_policy(policy):
    def build(keras):
        layers = [keras.layers.Dense(3, dtype=policy), keras.layers.BatchNormalization(dtype=policy)]
        return keras.Sequential([keras.Input((4,)), *layers])

    return build


def counting(keras):
    @keras.saving.register_keras_serializable("bridge_tests")
    class Counting(keras.layers.Layer):
        def build(self, shape):
            self.calls = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False)
            self.seen = self.add_weight(shape=(3,), dtype="bool", initializer="zeros", trainable=False)

        def call(self, x):
            self.calls.assign_add(1)
            return x

    return keras.Sequential([keras.Input((4,)), Counting(), keras.layers.Dense(2)])


BUILDERS = {
    "Normalization": normalized,
    "counters": counting,
    "float16": of_policy("float16"),
    "bfloat16": of_policy("bfloat16"),
    "mixed_bfloat16": of_policy("mixed_bfloat16"),
    "mixed_float16": of_policy("mixed_float16"),
}


def random_weights(model):
    generator = np.random.default_rng(0)
    values = []
    for variable in model.weights:
        old = variable.numpy()
        if old.dtype.kind in "iu":
            new = generator.integers(0, 2**40 if old.dtype.itemsize == 8 else 99, old.shape)
        elif old.dtype.kind == "b":
            new = generator.integers(0, 2, old.shape)
        else:
            new = generator.normal(size=old.shape)
        values.append(np.asarray(new).astype(old.dtype))
        variable.assign(values[-1])
    return values


@pytest.mark.fault(25)
@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_round_trip_leaves_dtype_and_value(keras, build):
    model = build(keras)
    values = random_weights(model)
    layout = layout_of(model)
    flat, opaque = weights_of(model, layout)
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape, variable.numpy().dtype))
    set_weights(model, layout, flat, opaque)
    for variable, value in zip(model.weights, values, strict=True):
        assert variable.numpy().dtype == value.dtype
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.fault(25)
@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_trainer_loads_and_returns_every_dtype(keras, build):
    """A round of no batches: nothing moved, so the delta is zero and state and opaque bytes come back as they went."""
    model = build(keras)
    model.compile("sgd", "mse")
    values = random_weights(model)
    trainer = Trainer(describe(model))
    layout = trainer.layout
    flat, opaque = weights_of(model, layout)
    delta, new_opaque = np.full(layout.size, np.nan, np.float32), np.full_like(opaque, 255)
    nothing = Arrays((np.zeros((0, 4), np.float32),), (np.zeros((0, 2), np.float32),))
    trainer.train_round(nothing, np.arange(0), [], flat, opaque, delta, new_opaque)
    np.testing.assert_array_equal(delta[: layout.trainable_size], 0.0)
    np.testing.assert_array_equal(delta[layout.trainable_size :], flat[layout.trainable_size :])
    for variable, value in zip(trainer.model.weights, values, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    for tensor in layout.tensors:
        if tensor.role == "opaque":
            place = slice(tensor.offset, tensor.offset + tensor.nbytes)
            np.testing.assert_array_equal(new_opaque[place], opaque[place])


def test_opaque_counters_move_with_training(keras):
    model = counting(keras)
    model.compile("sgd", "mse")
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    counter = next(t for t in trainer.layout.tensors if t.dtype == "int64")
    opaque[counter.offset : counter.offset + 8].view(np.int64)[:] = 2**40
    rows = Arrays((np.ones((12, 4), np.float32),), (np.ones((12, 2), np.float32),))
    delta, new_opaque = np.empty(trainer.layout.size, np.float32), opaque.copy()
    trainer.train_round(rows, np.arange(12), [(0, 4), (4, 8), (8, 12)], flat, opaque, delta, new_opaque)
    assert new_opaque[counter.offset : counter.offset + 8].view(np.int64)[0] == 2**40 + 3


def test_adapted_normalization_is_used_and_follows_new_statistics(keras):
    """Keras computes constants from these weights and bakes them into graphs."""
    model = normalized(keras)
    model.compile("sgd", "mse")
    x = np.random.default_rng(1).normal(5, 3, size=(20, 4)).astype(np.float32)
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    for shift in (0.0, 2.0):
        statistics = flat.copy()
        statistics[trainer.layout.trainable_size :] += np.float32(shift)
        set_weights(model, trainer.layout, statistics, opaque)
        (got,) = trainer.predict((x,), statistics, opaque, 8)
        np.testing.assert_allclose(got, model(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
def test_scalars_and_empty_weights(keras):
    @keras.saving.register_keras_serializable("bridge_tests")
    class Odd(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(), initializer="ones")
            self.nothing = self.add_weight(shape=(0, 3), initializer="zeros")

        def call(self, x):
            return x * self.scale

    model = keras.Sequential([keras.Input((2,)), Odd()])
    model.compile("sgd", "mse")
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    delta = np.full(trainer.layout.size, np.nan, np.float32)
    rows = Arrays((np.ones((4, 2), np.float32),), (np.zeros((4, 2), np.float32),))
    trainer.train_round(rows, np.arange(4), [(0, 4)], flat, opaque, delta)
    assert delta[0] == pytest.approx(0.02)
    np.testing.assert_array_equal(delta[1:], 0.0)


def test_wrong_number_of_weights(keras):
    model = normalized(keras)
    layout = layout_of(model)
    flat, opaque = weights_of(model, layout)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="model: expected 5 weights, got 2"):
        set_weights(other, layout, flat, opaque)
