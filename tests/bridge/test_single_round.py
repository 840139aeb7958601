"""Rounds of one batch on aliased weights: the same numbers as Keras' own steps, and no hidden copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elephas_fast.batches import Arrays, order, rounds
from elephas_fast.keras_bridge import Trainer, describe, merge_metrics, private, weights_of
from elephas_fast.keras_bridge.aliases import Aliases

OPTIMIZERS = {
    "sgd": lambda o: o.SGD(0.05),
    "momentum, clipnorm": lambda o: o.SGD(0.05, momentum=0.9, clipnorm=0.2),
    "rmsprop": lambda o: o.RMSprop(0.005),
    "adagrad": lambda o: o.Adagrad(0.05),
    "adadelta, decay": lambda o: o.Adadelta(0.5, weight_decay=0.01),
    "adam, schedule": lambda o: o.Adam(o.schedules.ExponentialDecay(0.01, 4, 0.9)),
}


def serve(trainer: Trainer, arrays: Arrays, flat: np.ndarray, opaque: np.ndarray, epochs: int) -> list[Any]:
    """A lone worker with update='delta', one batch a round, whose server subtracts what comes."""
    layout, states = trainer.layout, []
    split = layout.trainable_size
    delta, new_opaque = np.full(layout.size, np.nan, np.float32), opaque.copy()
    for epoch in range(epochs):
        trainer.begin_epoch()
        indices = order(arrays.rows, shuffle=True, seed=0, partition=0, epoch=epoch)
        for batches in rounds(arrays.rows, 8, "batch"):
            update = trainer.single_round(arrays, indices, batches[0], flat, opaque, delta, new_opaque, update="delta")
            if isinstance(update.gradient, np.ndarray):
                flat[:split] -= np.float32(update.scale) * update.gradient[:split]
                flat[split:] = update.gradient[split:]
            else:
                places = [t for t in layout.tensors if t.role == "trainable"]
                for tensor, gradient in zip(places, update.gradient, strict=True):
                    flat[tensor.offset : tensor.offset + tensor.size] -= gradient.reshape(-1) * np.float32(update.scale)
                if update.state is not None:
                    flat[split:] = update.state
            opaque[:] = new_opaque
        states.append(trainer.metric_state())
    return states


@pytest.mark.parametrize("alias", [True, False], ids=["aliased", "copied"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_equals_keras_own_steps(keras, classifier, rows, optimizer, alias):
    norm = keras.layers.BatchNormalization()
    model = classifier(norm, keras.layers.Dropout(0.3, seed=5), optimizer=optimizer(keras.optimizers))
    trainer = Trainer(describe(model))
    flat, opaque = trainer.layout.new_flat(), np.zeros(trainer.layout.opaque_size, np.uint8)
    weights_of(model, trainer.layout, flat, opaque)
    trainer.reset(0, single_batches=True)
    assert trainer.reads_only("delta")
    if alias:
        assert trainer.live_in(flat)
    states = serve(trainer, rows, flat, opaque, epochs=2)
    trainer.check_home()
    trainer.leave()
    for epoch in range(2):
        indices = order(rows.rows, shuffle=True, seed=0, partition=0, epoch=epoch)
        logs = {"loss": 0.0, "accuracy": 0.0}
        for (batch,) in rounds(rows.rows, 8, "batch"):
            part = rows.take(indices[slice(*batch)])
            for name, value in model.train_on_batch(part.x[0], part.y[0], return_dict=True).items():
                logs[name] += float(value) * part.rows / rows.rows
        assert merge_metrics(model, [states[epoch]]) == pytest.approx(logs, rel=1e-4)
    expected, _ = weights_of(model, trainer.layout)
    np.testing.assert_allclose(flat, expected, rtol=2e-5, atol=2e-6)


def test_variables_are_the_buffer(classifier, rows):
    """What is written into the buffer is what the model computes with, at once and without any call in between."""
    model = classifier()
    trainer = Trainer(describe(model))
    flat, opaque = trainer.layout.new_flat(), np.zeros(0, np.uint8)
    weights_of(model, trainer.layout, flat, opaque)
    trainer.reset(0, single_batches=True)
    assert trainer.live_in(flat)
    before = trainer.predict(rows.x, flat, opaque, 45)[0]
    flat *= np.float32(2.0)
    kernel = trainer.layout.tensors[0]
    np.testing.assert_array_equal(
        trainer.model.weights[0].numpy().reshape(-1), flat[kernel.offset : kernel.offset + kernel.size]
    )
    assert not np.allclose(trainer.predict(rows.x, flat, opaque, 45)[0], before)
    trainer.leave()
    flat[:] = np.nan
    assert np.isfinite(trainer.model.weights[0].numpy()).all()


def test_training_by_keras_never_writes_to_the_buffer(classifier, rows):
    """TensorFlow's own optimizer copies on write; the next round begins from the buffer again."""
    trainer = Trainer(describe(classifier(optimizer="adam")))
    flat, opaque = trainer.layout.new_flat(), np.zeros(0, np.uint8)
    flat[:] = np.random.default_rng(0).normal(size=len(flat)).astype(np.float32)
    kept = flat.copy()
    trainer.reset(0)
    assert trainer.live_in(flat)
    delta = np.zeros_like(flat)
    indices = np.arange(rows.rows)
    trainer.train_round(rows, indices, [(0, 8), (8, 16)], flat, opaque, delta)
    np.testing.assert_array_equal(flat, kept)
    assert np.abs(delta).max() > 0
    again = trainer.gradient_round(rows, indices, [(0, 8)], flat, opaque, delta)
    assert again.nonfinite == 0
    trainer.check_home()
    trainer.leave()


def test_a_layer_that_writes_to_its_weights_is_noticed(keras, rows):
    @keras.saving.register_keras_serializable("bridge_tests")
    class Writing(keras.layers.Layer):
        def build(self, shape):
            self.gain = self.add_weight(shape=(), initializer="ones")

        def call(self, x):
            y = x * self.gain
            self.gain.assign_add(0.25)
            return y

    model = keras.Sequential([keras.Input((6,)), Writing(), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer = Trainer(describe(model))
    flat, opaque = trainer.layout.new_flat(), np.zeros(0, np.uint8)
    weights_of(model, trainer.layout, flat, opaque)
    trainer.reset(0, single_batches=True)
    trainer.live_in(flat)
    trainer.single_round(rows, np.arange(45), (0, 8), flat, opaque, np.zeros_like(flat), update="delta")
    with pytest.raises(RuntimeError, match="wrote to trainable weights"):
        trainer.check_home()
    trainer.leave()


def test_memory_without_alignment_is_refused(classifier):
    trainer = Trainer(describe(classifier()))
    flat = np.zeros(trainer.layout.size + 17, np.float32)
    begin = 1 if flat.__array_interface__["data"][0] % 64 == 0 else 0
    with pytest.raises(ValueError, match="64 bytes"):
        trainer.live_in(flat[begin : begin + trainer.layout.size])


def test_models_without_a_compiled_rule_train_by_keras(keras, classifier, rows):
    model = classifier(optimizer=keras.optimizers.Lion(0.01))
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    trainer.reset(0, single_batches=True)
    assert not trainer.reads_only("delta")
    home = trainer.layout.new_flat()
    home[:] = flat
    serve(trainer, rows, home, opaque, epochs=1)
    indices = order(rows.rows, shuffle=True, seed=0, partition=0, epoch=0)
    for (batch,) in rounds(rows.rows, 8, "batch"):
        part = rows.take(indices[slice(*batch)])
        model.train_on_batch(part.x[0], part.y[0])
    np.testing.assert_allclose(home, weights_of(model, trainer.layout)[0], rtol=2e-5, atol=2e-6)


def test_state_of_the_rule_travels_with_its_lane(classifier, rows):
    """Two partitions that take turns end where each ends alone."""
    model = classifier(optimizer="adam")
    trainer = Trainer(describe(model))
    start, opaque = weights_of(model, trainer.layout)
    batches = [(0, 8), (8, 16), (16, 24), (24, 32)]
    delta = np.zeros_like(start)

    def step(batch: tuple[int, int]) -> np.ndarray:
        update = trainer.single_round(rows, np.arange(45), batch, start, opaque, delta, update="delta")
        return np.array(update.gradient)

    trainer.reset(0, single_batches=True)
    alone = [step(batch) for batch in batches]
    trainer.reset(0, single_batches=True)
    fresh = trainer.optimizer_state()
    first = [step(batches[0])]
    mine = trainer.optimizer_state()
    trainer.set_optimizer_state(fresh)
    step(batches[3])
    trainer.set_optimizer_state(mine)
    first += [step(batch) for batch in batches[1:]]
    np.testing.assert_array_equal(first, alone)


def test_public_and_direct_calls_give_the_same(classifier, rows):
    trainer = Trainer(describe(classifier()))
    batch = rows.slice(0, 8)
    from elephas_fast.keras_bridge import runtime, steps

    concrete = trainer._gradients.prepare(steps.Signature.of(batch)).call
    tensors = [runtime.tensorflow().constant(array) for array in (*batch.x, *batch.y)]
    direct, public = private.flat_call(concrete)(tensors), private.public_call(concrete)(tensors)
    for a, b in zip(direct, public, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert private.flat_call(_Bare(concrete))(tensors)[0].shape == direct[0].shape


class _Bare:
    """A concrete function of a TensorFlow without the private ways in."""

    def __init__(self, concrete: Any) -> None:
        self._concrete = concrete

    def __call__(self, *tensors: Any) -> Any:
        return self._concrete(*tensors)


def test_aliases_tell_when_they_are_gone(classifier):
    trainer = Trainer(describe(classifier()))
    flat = trainer.layout.new_flat()
    variable = trainer.model.weights[0]
    aliases = Aliases([(trainer.layout.tensors[0], variable.value.handle)], flat)
    assert not aliases.hold()
    aliases.make()
    assert aliases.hold()
    variable.assign_add(np.ones(variable.shape, np.float32))
    assert not aliases.hold()
    assert not flat.any()
    aliases.release()
