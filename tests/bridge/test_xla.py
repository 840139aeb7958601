"""XLA where it is faster: what is chosen, that it computes the same, and that a trial leaves nothing behind."""

from __future__ import annotations

import time

import numpy as np
import pytest

from elephas_fast.keras_bridge import Trainer, describe, weights_of, xla

ORDER, BATCHES = np.arange(45), [(0, 8), (8, 16), (16, 24), (24, 32), (32, 40), (40, 45)]


@pytest.fixture
def always(monkeypatch):
    """XLA wins every trial that it can take part in."""
    monkeypatch.setattr(xla, "_WORTH", np.inf)


@pytest.fixture
def never(monkeypatch):
    monkeypatch.setattr(xla, "_WORTH", 0.0)


def trained(trainer, rows, update, *, single=False, measure=True):
    """What some rounds of one batch, or one round of all, send."""
    options = {"single_batches": single}
    trainer.reset(3, **options)
    if measure:
        trainer.measure_xla(rows, 8, update=update)
        trainer.reset(3, **options)
    else:
        trainer.use_xla(None)
    flat, opaque = weights_of(trainer.model, trainer.layout)
    flat[:] = np.linspace(-1, 1, len(flat), dtype=np.float32)
    sent = []
    for batches in [[batch] for batch in BATCHES] if single else [BATCHES]:
        delta = np.zeros(trainer.layout.size, np.float32)
        if single:
            made = trainer.single_round(rows, ORDER, batches[0], flat, opaque, delta, update=update)
            parts = made.gradient if isinstance(made.gradient, list) else [made.gradient]
            delta = made.scale * np.concatenate([np.ravel(part) for part in parts])
        else:
            train = trainer.train_round if update == "delta" else trainer.gradient_round
            train(rows, ORDER, batches, flat, opaque, delta)
        sent.append(delta.copy())
    return np.concatenate(sent), trainer.logs()


@pytest.mark.parametrize("single", [False, True], ids=["all batches", "each batch"])
@pytest.mark.parametrize("update", ["delta", "gradient"])
def test_xla_computes_the_same_to_rounding(keras, classifier, rows, always, update, single):
    trainer = Trainer(describe(classifier(keras.layers.BatchNormalization(), optimizer="adam")))
    plain, plain_logs = trained(trainer, rows, update, single=single, measure=False)
    compiled, compiled_logs = trained(trainer, rows, update, single=single)
    np.testing.assert_allclose(compiled, plain, rtol=1e-3, atol=1e-5)
    assert compiled_logs == pytest.approx(plain_logs, rel=1e-4)
    assert trainer.uses_xla


@pytest.mark.parametrize("single", [False, True], ids=["all batches", "each batch"])
@pytest.mark.parametrize("update", ["delta", "gradient"])
def test_a_trial_that_xla_loses_leaves_nothing_behind(keras, classifier, rows, never, update, single):
    """Dropout, moving statistics, Adam's moments and metrics go on as if there had been none."""
    model = classifier(keras.layers.BatchNormalization(), keras.layers.Dropout(0.4), optimizer="adam")
    spec = describe(model)
    with_trial, logs = trained(Trainer(spec), rows, update, single=single)
    without, expected = trained(Trainer(spec), rows, update, single=single, measure=False)
    np.testing.assert_array_equal(with_trial, without)
    assert logs == expected


@pytest.mark.parametrize("slow", [False, True], ids=["slow without", "slow with"])
def test_the_faster_is_taken_and_the_function_left_as_it_was(classifier, slow):
    function = Trainer(describe(classifier()))._train
    assert xla.is_faster(function, lambda: time.sleep(0.03 if function._xla is slow else 0.0)) is not slow
    assert function._xla is None


def test_what_xla_cannot_compile_is_trained_without_it(keras, classifier, rows, always):
    import tensorflow as tf

    @keras.saving.register_keras_serializable("tests")
    class Wordy(keras.layers.Layer):
        def call(self, x):
            return x + 0.0 * tf.cast(tf.strings.length(tf.strings.as_string(x)), "float32")

    trainer = Trainer(describe(classifier(Wordy())))
    sent, _ = trained(trainer, rows, "delta")
    assert not trainer.uses_xla
    assert np.any(sent)


def test_a_choice_is_made_once_for_each_kind_of_rows(classifier, rows, monkeypatch):
    asked = []
    monkeypatch.setattr(xla, "is_faster", lambda function, run: bool(asked.append(function)))
    trainer = Trainer(describe(classifier()))
    for batch_size in (8, 8, 16, 100):  # of 100 there is none
        trainer.measure_xla(rows, batch_size, update="delta")
    trainer.measure_xla(rows, 8, update="gradient")
    trainer.measure_xla(rows, 8, update="delta", class_weight={0: 1.0, 1: 2.0, 2: 1.0})
    assert asked == [trainer._train, trainer._train, trainer._gradients, trainer._train]


def test_what_was_traced_before_a_trial_is_not_traced_again(keras, classifier, rows):
    traced = []

    class Told(keras.layers.Layer):
        def call(self, x):
            traced.append("")
            return x

    trainer = Trainer(describe(classifier(Told())))
    flat, opaque = weights_of(trainer.model, trainer.layout)
    delta, begun = np.empty(trainer.layout.size, np.float32), len(traced)
    trainer.train_round(rows, ORDER, BATCHES, flat, opaque, delta)
    trainer.measure_xla(rows, 8, update="delta")
    trainer.train_round(rows, ORDER, BATCHES, flat, opaque, delta)
    assert len(traced) - begun == 2, "expected one trace without XLA and one with it"


def test_steps_that_the_model_traces_itself_are_left_alone(classifier, rows, always):
    trainer = Trainer(describe(classifier(run_eagerly=True)))
    trainer.measure_xla(rows, 8, update="delta")
    assert trainer._train._xla is None
