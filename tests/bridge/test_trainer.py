"""What a trainer keeps between rounds, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest

from elephas_fast.keras_bridge import Trainer, describe, set_weights, trainer_for, weights_of


def test_reset_repeats_a_fit_and_seeds_decide_dropout(keras, classifier, rows):
    trainer = Trainer(describe(classifier(keras.layers.Dropout(0.5), optimizer="adam")))
    flat, opaque = weights_of(trainer.model, trainer.layout)

    def run(seed: int) -> np.ndarray:
        trainer.reset(seed)
        delta = np.empty(trainer.layout.size, np.float32)
        trainer.train_round(rows, np.arange(45), [(0, 20), (20, 40)], flat, opaque, delta)
        return delta

    first, other, again = run(1), run(2), run(1)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_fixed_seeds_do_not_follow_the_fit(keras, classifier, rows):
    trainer = Trainer(describe(classifier(keras.layers.Dropout(0.5, seed=9))))
    flat, opaque = weights_of(trainer.model, trainer.layout)
    deltas = []
    for seed in (1, 2):
        trainer.reset(seed)
        deltas.append(np.empty(trainer.layout.size, np.float32))
        trainer.train_round(rows, np.arange(45), [(0, 20)], flat, opaque, deltas[-1])
    np.testing.assert_array_equal(*deltas)


def test_learning_rate_is_set_and_reset(keras, classifier, rows):
    trainer = Trainer(describe(classifier(optimizer=keras.optimizers.SGD(0.5))))
    flat, opaque = weights_of(trainer.model, trainer.layout)
    half, full = (np.empty(trainer.layout.size, np.float32) for _ in range(2))
    trainer.set_learning_rate(0.25)
    trainer.train_round(rows, np.arange(45), [(0, 45)], flat, opaque, half)
    trainer.reset(0)
    trainer.train_round(rows, np.arange(45), [(0, 45)], flat, opaque, full)
    np.testing.assert_allclose(2 * half, full, rtol=1e-4, atol=1e-6)
    scheduled = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5))
    with pytest.raises(ValueError, match="learning_rate: expected an optimizer with a plain learning rate"):
        Trainer(describe(classifier(optimizer=scheduled))).set_learning_rate(0.1)


def test_each_function_is_traced_once(keras, classifier, rows):
    traced: list[str] = []

    class Told(keras.layers.Layer):
        def call(self, x):
            traced.append("")
            return x

    spec = describe(
        classifier(Told(), optimizer="adam", metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy()])
    )
    trainer = Trainer(spec)
    flat, opaque = weights_of(trainer.model, trainer.layout)
    delta, begun = np.empty(trainer.layout.size, np.float32), len(traced)
    for number, train in enumerate((trainer.train_round, trainer.gradient_round), 1):
        for _ in range(2):
            train(rows, np.arange(45), [(0, 20), (20, 40)], flat, opaque, delta)
        assert len(traced) - begun == number
    trainer.evaluate(rows, flat, opaque, 45)
    assert len(traced) - begun == 3


def test_lanes_take_turns_as_if_alone(keras, classifier, rows):
    """Two partitions share a process: each must train as it would with a process of its own."""
    spec = describe(classifier(keras.layers.Dropout(0.3), optimizer="adam"))
    trainer = Trainer(spec)
    flat, opaque = weights_of(trainer.model, trainer.layout)
    parts = [np.arange(0, 20), np.arange(20, 45)]

    def step(lane: int, begin: int) -> np.ndarray:
        delta = np.empty(trainer.layout.size, np.float32)
        trainer.train_round(rows, parts[lane], [(begin, begin + 10)], flat, opaque, delta)
        return delta

    alone, metrics = [], []
    for lane in range(2):
        trainer.reset(lane)
        alone.append([step(lane, 0), step(lane, 10)])
        metrics.append(trainer.logs())
    states = []
    for lane in range(2):
        trainer.reset(lane)
        states.append(trainer.optimizer_state())
    for turn in range(2):
        for lane in range(2):
            trainer.set_optimizer_state(states[lane])
            np.testing.assert_array_equal(step(lane, 10 * turn), alone[lane][turn])
            states[lane] = trainer.optimizer_state()
    for lane in range(2):
        trainer.set_optimizer_state(states[lane])
        assert trainer.logs() == metrics[lane]


def test_trainers_are_kept_per_description(keras, classifier):
    first, second = describe(classifier()), describe(classifier(optimizer="adam"))
    third = describe(classifier(keras.layers.Dense(2)))
    trainer = trainer_for(first, threads=1)
    assert trainer_for(first) is trainer
    other = trainer_for(second)
    assert other is not trainer
    assert trainer_for(first) is trainer
    trainer_for(third)
    assert trainer_for(first) is trainer
    assert trainer_for(second) is not other


def test_buffers_given_are_not_written(keras, classifier, rows):
    trainer = Trainer(describe(classifier(keras.layers.BatchNormalization())))
    flat, opaque = weights_of(trainer.model, trainer.layout)
    flat.setflags(write=False)
    kept = flat.copy()
    delta = np.empty(trainer.layout.size, np.float32)
    for _ in range(3):
        trainer.train_round(rows, np.arange(45), [(0, 8), (8, 16)], flat, opaque, delta)
    np.testing.assert_array_equal(flat, kept)


def test_predict_and_evaluate_use_the_given_weights(keras, classifier, rows):
    model = classifier(keras.layers.BatchNormalization())
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    flat *= np.float32(1.5)
    set_weights(model, trainer.layout, flat, opaque)
    (output,) = trainer.predict(rows.x, flat, opaque, 10)
    np.testing.assert_allclose(output, model.predict(rows.x[0], verbose=0), rtol=1e-5, atol=1e-6)
    (nothing,) = trainer.predict((rows.x[0][:0],), flat, opaque, 10)
    assert nothing.shape == (0, 3)
