"""update='gradient' with one worker, no shuffling and one batch a round is keras.Model.fit: weights and slots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elephas_fast import optimizers
from elephas_fast.batches import Arrays, order, rounds
from elephas_fast.keras_bridge import Trainer, describe, merge_metrics, weights_of

EPOCHS, BATCH_SIZE = 3, 8


def token_model(keras: Any) -> Any:
    """L2 regularization, an Embedding (sparse gradients), BatchNormalization, fixed dropout, a constraint."""
    l2 = keras.regularizers.L2(0.01)
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            keras.layers.Embedding(30, 6, embeddings_regularizer=l2),
            keras.layers.Flatten(),
            keras.layers.Dense(12, activation="tanh", kernel_regularizer=l2, kernel_constraint="max_norm"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2, seed=3),
            keras.layers.Dense(3),
        ]
    )


def token_rows(weighted: bool) -> Arrays:
    generator = np.random.default_rng(1)
    x = generator.integers(0, 30, (45, 5)).astype(np.int32)
    weights = (generator.uniform(0, 2, 45).astype(np.float32),) if weighted else None
    return Arrays((x,), (generator.integers(0, 3, 45),), weights)


def compiled(keras: Any, optimizer: Any) -> Any:
    model = token_model(keras)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def serve(model: Any, arrays: Arrays, class_weight: Any) -> tuple[Trainer, np.ndarray, Any, list[Any]]:
    """One worker sending gradients, one server applying the compiled optimizer's rule."""
    trainer = Trainer(describe(model, update="gradient"))
    layout = trainer.layout
    rule = optimizers.FlatOptimizer(optimizers.get(model.optimizer), layout)
    slots = rule.initial_slots()
    flat, opaque = weights_of(model, layout)
    delta = np.full(layout.size, np.nan, np.float32)
    trainer.reset(0)
    step, states = 0, []
    for epoch in range(EPOCHS):
        trainer.begin_epoch()
        indices = order(arrays.rows, shuffle=False, seed=0, partition=0, epoch=epoch)
        for batches in rounds(arrays.rows, BATCH_SIZE, "batch"):
            logs = trainer.gradient_round(arrays, indices, batches, flat, opaque, delta, class_weight=class_weight)
            assert logs.nonfinite == 0
            trainable = slice(0, layout.trainable_size)
            assert rule.apply(step, flat[trainable], slots, delta[trainable]) == 0
            flat[layout.trainable_size :] = delta[layout.trainable_size :]
            step += 1
        states.append(trainer.metric_state())
    return trainer, flat, dict(zip(rule.slot_names, slots, strict=True)), states


CASES = {
    "sgd": (lambda o: o.SGD(0.05, momentum=0.9, clipnorm=0.2), "class"),
    "rmsprop": (lambda o: o.RMSprop(0.005, momentum=0.5), None),
    "adagrad": (lambda o: o.Adagrad(0.05), "sample"),
    "adadelta": (lambda o: o.Adadelta(0.5, weight_decay=0.01), None),
    "adam": (lambda o: o.Adam(0.01, global_clipnorm=0.5), None),
}


@pytest.mark.parametrize(("optimizer", "weighting"), CASES.values(), ids=CASES)
def test_equals_keras_fit(keras, optimizer, weighting):
    model = compiled(keras, optimizer(keras.optimizers))
    arrays = token_rows(weighting == "sample")
    class_weight = {0: 3.0, 1: 0.5} if weighting == "class" else None
    trainer, flat, slots, states = serve(model, arrays, class_weight)
    history = model.fit(
        arrays.x[0],
        arrays.y[0],
        sample_weight=arrays.sample_weight[0] if arrays.sample_weight else None,
        class_weight=class_weight,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
    ).history
    layout = trainer.layout
    expected, _ = weights_of(model, layout)
    # Rules round a quotient twice (ADR 7); where a gradient is nearly nothing, dividing by its own root magnifies that.
    np.testing.assert_allclose(flat, expected, rtol=1e-5, atol=5e-5)
    assert_slots(model, layout, slots)
    for epoch, state in enumerate(states):
        assert merge_metrics(model, [state]) == pytest.approx({k: v[epoch] for k, v in history.items()}, rel=1e-4)


def assert_slots(model: Any, layout: Any, slots: dict[str, np.ndarray]) -> None:
    trainable = [t for t in layout.tensors if t.role == "trainable"]
    by_path = {v.path: v.numpy() for v in model.optimizer.variables}
    checked = 0
    for tensor in trainable:
        for name, slot in slots.items():
            path = next(p for p in by_path if p.endswith(f"{tensor.name.replace('/', '_')}_{name}"))
            mine = slot[tensor.offset : tensor.offset + tensor.size].reshape(tensor.shape)
            np.testing.assert_allclose(mine, by_path[path], rtol=1e-4, atol=1e-5, err_msg=path)
            checked += 1
    assert checked == len(trainable) * len(slots) > 0


def test_several_batches_are_a_mean_weighted_by_rows(keras):
    """The mean over batches of unequal size is the gradient of all rows, and regularization counts once."""
    l2 = keras.regularizers.L2(0.1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, kernel_regularizer=l2)])
    model.compile("sgd", "mse")
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(21, 4)).astype(np.float32), generator.normal(size=(21, 2)).astype(np.float32)
    arrays = Arrays((x,), (y,))
    trainer = Trainer(describe(model, update="gradient"))
    flat, opaque = weights_of(model, trainer.layout)
    cut, whole = (np.full(trainer.layout.size, np.nan, np.float32) for _ in range(2))
    logs = trainer.gradient_round(arrays, np.arange(21), [(0, 8), (8, 16), (16, 21)], flat, opaque, cut)
    trainer.gradient_round(arrays, np.arange(21), [(0, 21)], flat, opaque, whole)
    assert (logs.rows, logs.batches) == (21, 3)
    np.testing.assert_allclose(cut, whole, rtol=1e-5, atol=1e-6)
    kernel, bias = (v.numpy() for v in model.weights)
    by_hand = 2 * x.T @ (x @ kernel + bias - y) / y.size + 2 * 0.1 * kernel
    tensor = trainer.layout.tensors[0]
    np.testing.assert_allclose(whole[tensor.offset : tensor.offset + 8].reshape(4, 2), by_hand, rtol=1e-4)


def test_unused_weights_have_zero_gradients(keras):
    a, b = keras.Input((3,)), keras.Input((3,))
    used, unused = keras.layers.Dense(1)(a), keras.layers.Dense(1)(b)
    model = keras.Model([a, b], [used, unused])
    model.compile("sgd", ["mse", "mse"], loss_weights=[1.0, 0.0])
    trainer = Trainer(describe(model, update="gradient"))
    flat, opaque = weights_of(model, trainer.layout)
    delta = np.full(trainer.layout.size, np.nan, np.float32)
    rows = Arrays((np.ones((5, 3), np.float32),) * 2, (np.zeros((5, 1), np.float32),) * 2)
    trainer.gradient_round(rows, np.arange(5), [(0, 5)], flat, opaque, delta)
    assert np.isfinite(delta).all()
    assert np.any(delta[:32] != 0)
    np.testing.assert_array_equal(delta[32:], 0.0)


def test_no_batches_is_a_zero_gradient(keras, classifier, rows):
    trainer = Trainer(describe(classifier(), update="gradient"))
    flat, opaque = weights_of(trainer.model, trainer.layout)
    delta = np.full(trainer.layout.size, np.nan, np.float32)
    logs = trainer.gradient_round(rows, np.arange(45), [], flat, opaque, delta)
    assert (logs.rows, logs.batches, logs.nonfinite) == (0, 0, 0)
    np.testing.assert_array_equal(delta, 0.0)


def test_nonfinite_gradients_are_counted(keras, classifier, rows):
    trainer = Trainer(describe(classifier(), update="gradient"))
    flat, opaque = weights_of(trainer.model, trainer.layout)
    delta = np.empty(trainer.layout.size, np.float32)
    poisoned = Arrays((np.full_like(rows.x[0], np.nan),), rows.y)
    logs = trainer.gradient_round(poisoned, np.arange(45), [(0, 8)], flat, opaque, delta)
    assert logs.nonfinite == np.count_nonzero(~np.isfinite(delta)) > 0


def test_own_train_step_is_refused(keras):
    class Own(keras.Model):
        def train_step(self, data):
            return {}

    inputs = keras.Input((4,))
    model = Own(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="update: expected 'delta' for a model with its own train_step"):
        describe(model, update="gradient")


def test_loss_scaling_is_refused(keras, classifier):
    model = classifier(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()))
    with pytest.raises(ValueError, match="update: expected 'delta' for an optimizer that scales the loss"):
        describe(model, update="gradient")


def test_own_compute_loss_is_honoured(keras, rows):
    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return 3.0 * keras.ops.mean(y_pred)

    inputs = keras.Input((6,))
    model = Own(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    trainer = Trainer(describe(model, update="gradient"))
    flat, opaque = weights_of(model, trainer.layout)
    delta = np.empty(trainer.layout.size, np.float32)
    trainer.gradient_round(rows, np.arange(45), [(0, 45)], flat, opaque, delta)
    np.testing.assert_allclose(delta[:6], 3 * rows.x[0].mean(axis=0), rtol=1e-4, atol=1e-6)
    assert trainer.logs()["loss"] == pytest.approx(
        3 * float(np.mean(model.predict(rows.x[0], verbose=0))), rel=1e-4, abs=1e-5
    )


def test_gradients_leave_tensorflows_weights_alone(keras, classifier, rows):
    trainer = Trainer(describe(classifier(), update="gradient"))
    flat, opaque = weights_of(trainer.model, trainer.layout)
    flat += np.float32(0.5)
    delta = np.empty(trainer.layout.size, np.float32)
    trainer.gradient_round(rows, np.arange(45), [(0, 45)], flat, opaque, delta)
    held = trainer.model.weights[0].numpy()
    tensor = trainer.layout.tensors[0]
    np.testing.assert_array_equal(held.reshape(-1), flat[tensor.offset : tensor.offset + tensor.size])
