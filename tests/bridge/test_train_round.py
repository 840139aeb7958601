"""A round in delta mode is Keras' own training: same weights, same metrics, whatever the model or the round length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elephas_fast.batches import Arrays, collect
from elephas_fast.keras_bridge import Trainer, describe, merge_metrics, set_weights, weights_of


def fit(model: Any, arrays: Arrays, **options: Any) -> Any:
    x = arrays.x[0] if len(arrays.x) == 1 else list(arrays.x)
    y = arrays.y[0] if len(arrays.y) == 1 else list(arrays.y)
    weights = arrays.sample_weight
    given = None if weights is None else weights[0] if len(weights) == 1 else list(weights)
    return model.fit(x, y, sample_weight=given, batch_size=8, shuffle=False, verbose=0, **options).history


def assert_same(model: Any, trainer: Trainer, flat: np.ndarray, rtol: float = 2e-5) -> None:
    expected, _ = weights_of(model, trainer.layout)
    np.testing.assert_allclose(flat, expected, rtol=rtol, atol=2e-6)


@pytest.mark.parametrize(
    ("optimizer", "frequency"),
    [("sgd", "epoch"), ("rmsprop", 2), ("adagrad", 3), ("adadelta", "batch"), ("adam", "epoch")],
)
def test_equals_keras_fit(keras, classifier, rows, train, optimizer, frequency):
    model = classifier(optimizer=optimizer)
    trainer, flat, states = train(model, rows, epochs=3, frequency=frequency)
    history = fit(model, rows, epochs=3)
    assert_same(model, trainer, flat)
    for epoch, state in enumerate(states):
        assert merge_metrics(model, [state]) == pytest.approx({k: v[epoch] for k, v in history.items()}, rel=1e-4)


def test_batch_normalization_and_fixed_dropout_equal_keras_fit(keras, classifier, rows, train):
    model = classifier(keras.layers.BatchNormalization(), keras.layers.Dropout(0.4, seed=5), optimizer="adam")
    before = [v.numpy() for v in model.non_trainable_weights]
    trainer, flat, _ = train(model, rows, epochs=2, frequency=4)
    fit(model, rows, epochs=2)
    assert all(not np.allclose(v, b) for v, b in zip(model.non_trainable_weights, before, strict=True))
    assert_same(model, trainer, flat)


def test_padding_of_the_delta_is_zero(keras, classifier, rows, train):
    model = classifier()
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    delta = np.full(trainer.layout.size, np.nan, np.float32)
    trainer.train_round(rows, np.arange(45), [(0, 8)], flat, opaque, delta)
    inside = np.zeros(trainer.layout.size, bool)
    for begin, end in trainer.layout.ranges:
        inside[begin:end] = True
    assert not inside.all()
    np.testing.assert_array_equal(delta[~inside], 0.0)
    assert np.isfinite(delta).all()


def test_nonfinite_elements_are_counted(keras, classifier, rows):
    model = classifier()
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    delta = np.empty(trainer.layout.size, np.float32)
    poisoned = Arrays((np.full_like(rows.x[0], np.inf),), rows.y)
    logs = trainer.train_round(poisoned, np.arange(45), [(0, 8), (8, 16)], flat, opaque, delta)
    assert (logs.rows, logs.batches) == (16, 2)
    assert logs.nonfinite == np.count_nonzero(~np.isfinite(delta)) > 0


def test_sample_weights(keras, classifier, rows, train):
    weights = np.random.default_rng(0).uniform(0, 3, 45).astype(np.float32)
    weighted = Arrays(rows.x, rows.y, (weights,))
    model = classifier(weighted_metrics=["accuracy"])
    trainer, flat, states = train(model, weighted, epochs=2, frequency=3)
    history = fit(model, weighted, epochs=2)
    assert_same(model, trainer, flat)
    assert merge_metrics(model, states[1:]) == pytest.approx({k: v[1] for k, v in history.items()}, rel=1e-4)


@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weight(keras, rows, train, one_hot):
    targets = np.eye(3, dtype=np.float32)[rows.y[0]] if one_hot else rows.y[0]
    arrays = Arrays(rows.x, (targets,))
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    kind = "CategoricalCrossentropy" if one_hot else "SparseCategoricalCrossentropy"
    model.compile("sgd", getattr(keras.losses, kind)(from_logits=True))
    class_weight = {0: 5.0, 2: 0.1}
    trainer, flat, _ = train(model, arrays, frequency=2, class_weight=class_weight)
    fit(model, arrays, class_weight=class_weight)
    assert_same(model, trainer, flat)


def test_class_weight_with_sample_weight_is_an_error(keras, classifier, rows, train):
    weighted = Arrays(rows.x, rows.y, (np.ones(45, np.float32),))
    with pytest.raises(ValueError, match="class_weight: expected rows without sample weights"):
        train(classifier(), weighted, class_weight={0: 2.0})


def several(keras: Any, as_dict: bool) -> Any:
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    u = keras.layers.Dense(1, name="u")(joined)
    v = keras.layers.Dense(3, name="v")(joined)
    model = keras.Model({"b": b, "a": a}, {"v": v, "u": u}) if as_dict else keras.Model([b, a], [v, u])
    loss = {"u": "mse", "v": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    model.compile("sgd", loss, loss_weights={"u": 0.5, "v": 2.0}, metrics={"v": ["accuracy"]})
    return model


@pytest.mark.parametrize(("as_dict", "per_output_weights"), [(False, True), (True, False)])
def test_several_inputs_and_outputs(keras, train, as_dict, per_output_weights):
    model = several(keras, as_dict)
    spec = describe(model)
    generator = np.random.default_rng(0)
    data = {
        "a": generator.normal(size=(45, 4)).astype(np.float32),
        "b": generator.normal(size=(45, 2)).astype(np.float32),
        "u": generator.normal(size=(45, 1)).astype(np.float32),
        "v": generator.integers(0, 3, 45),
    }
    weights = {"u": generator.uniform(size=45).astype(np.float32), "v": generator.uniform(size=45).astype(np.float32)}
    assert {i.name for i in spec.inputs} == {"a", "b"}
    assert {o.name for o in spec.outputs} == {"u", "v"}
    sample_weight = tuple(weights[o.name] for o in spec.outputs) if per_output_weights else (weights["u"],)
    x = tuple(data[i.name] for i in spec.inputs)
    y = tuple(data[o.name] for o in spec.outputs)
    trainer, flat, states = train(model, Arrays(x, y, sample_weight), epochs=2, frequency=2)
    names = ["v", "u"]
    history = model.fit(
        {name: data[name] for name in "ab"},
        {name: data[name] for name in names} if as_dict else [data[name] for name in names],
        sample_weight=(
            {name: weights[name] if per_output_weights else weights["u"] for name in names}
            if as_dict
            else [weights[name] if per_output_weights else weights["u"] for name in names]
        ),
        epochs=2,
        batch_size=8,
        shuffle=False,
        verbose=0,
    ).history
    assert_same(model, trainer, flat)
    merged = merge_metrics(model, states[1:])
    assert merged == pytest.approx({k: v[1] for k, v in history.items()}, rel=1e-4)
    assert next(iter(merged)) == "loss"


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_embedding(keras, train, dtype):
    model = keras.Sequential(
        [
            keras.Input((5,), dtype=dtype),
            keras.layers.Embedding(20, 4),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    spec = describe(model)
    assert (spec.inputs[0].shape, spec.inputs[0].dtype) == ((5,), dtype)
    generator = np.random.default_rng(0)
    arrays = Arrays(
        (generator.integers(0, 20, (45, 5)).astype(dtype),), (generator.normal(size=45).astype(np.float32),)
    )
    trainer, flat, _ = train(model, arrays, epochs=2, frequency=3)
    fit(model, arrays, epochs=2)
    assert_same(model, trainer, flat)


def test_words_as_inputs(keras):
    words = keras.Input((2,), dtype="string")
    ids = keras.layers.StringLookup(vocabulary=["a", "b"])(words)
    model = keras.Model(words, keras.layers.Dense(1)(keras.layers.Flatten()(keras.layers.Embedding(3, 2)(ids))))
    model.compile("sgd", "mse")
    spec = describe(model)
    arrays = collect([(["a", "z"], 1.0), (["b", "b"], 0.0)], inputs=spec.inputs, outputs=spec.outputs)
    trainer = Trainer(spec)
    flat, opaque = weights_of(model, trainer.layout)
    delta = np.empty(trainer.layout.size, np.float32)
    trainer.train_round(arrays, np.arange(2), [(0, 1), (1, 2)], flat, opaque, delta)
    for i in range(2):
        model.train_on_batch(keras.ops.convert_to_tensor([["a", "z"], ["b", "b"]][i : i + 1]), arrays.y[0][i : i + 1])
    assert_same(model, trainer, flat - delta)


def test_half_precision_model_follows_keras(keras, rows, train):
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, dtype="float16"), keras.layers.Dense(1, dtype="float32")]
    )
    model.compile("sgd", "mse")
    arrays = Arrays(rows.x, (rows.x[0][:, :1].copy(),))
    trainer, flat, _ = train(model, arrays, frequency="epoch")
    fit(model, arrays)
    assert_same(model, trainer, flat, rtol=1e-3)


def test_mixed_precision_with_loss_scaling_follows_keras(keras, rows, train):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, dtype="mixed_float16"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01)), "mse")
    arrays = Arrays(rows.x, (rows.x[0][:, :1].copy(),))
    trainer, flat, _ = train(model, arrays, epochs=2, frequency=2)
    fit(model, arrays, epochs=2)
    assert_same(model, trainer, flat, rtol=1e-3)


def test_optimizer_extras_work_locally(keras, classifier, rows, train):
    options = {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 4, 0.5), "clipnorm": 0.3}
    model = classifier(optimizer=keras.optimizers.Adam(use_ema=True, ema_overwrite_frequency=5, **options))
    trainer, flat, _ = train(model, rows, epochs=1, frequency="epoch")
    # fit() overwrites the weights by their averages at its end; a round leaves the fit open
    for begin in range(0, 45, 8):
        model.train_on_batch(rows.x[0][begin : begin + 8], rows.y[0][begin : begin + 8])
    assert_same(model, trainer, flat)


def test_frozen_layers_stay(keras, classifier, rows, train):
    model = classifier()
    model.layers[0].trainable = False
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer, flat, _ = train(model, rows, frequency="epoch")
    roles = [t.role for t in trainer.layout.tensors]
    assert roles == ["state", "state", "trainable", "trainable"]
    fit(model, rows)
    assert_same(model, trainer, flat)


def test_shuffled_rounds_follow_the_indices(keras, classifier, rows):
    model = classifier(optimizer="adam")
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    delta = np.empty(trainer.layout.size, np.float32)
    indices = np.random.default_rng(1).permutation(45)
    trainer.train_round(rows, indices, [(0, 16), (16, 32), (32, 45)], flat, opaque, delta)
    for part in (indices[:16], indices[16:32], indices[32:]):
        model.train_on_batch(rows.x[0][part], rows.y[0][part])
    assert_same(model, trainer, flat - delta)


def test_long_rounds_are_cut_into_chunks_without_a_trace(keras, classifier, rows, monkeypatch):
    from elephas_fast.keras_bridge import trainer as module

    model = classifier(optimizer="adam")
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    whole, cut = (np.empty(trainer.layout.size, np.float32) for _ in range(2))
    batches = [(0, 8), (8, 16), (16, 24), (24, 32), (32, 40), (40, 45)]
    trainer.reset(0)
    trainer.train_round(rows, np.arange(45), batches, flat, opaque, whole)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 17 * 32)
    trainer.reset(0)
    trainer.train_round(rows, np.arange(45), batches, flat, opaque, cut)
    np.testing.assert_array_equal(whole, cut)


def test_batch_lengths_cost_one_trace(keras, rows):
    traces = []

    class Counting(keras.layers.Dense):
        def call(self, x):
            traces.append(x.shape)
            return super().call(x)

    model = keras.Sequential([keras.Input((6,)), Counting(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    delta = np.empty(trainer.layout.size, np.float32)
    traces.clear()
    for batches in ([(0, 8)], [(0, 45)], [(0, 20), (20, 40), (40, 45)], [(3, 4)]):
        trainer.train_round(rows, np.arange(45), batches, flat, opaque, delta)
    assert traces == [(None, 6)]


def test_only_the_statistics_of_a_normalization_cost_another_trace(keras, rows, monkeypatch):
    """What BatchNormalization counts changes in each round; the constants in the graph are those of other layers."""
    from elephas_fast.keras_bridge.steps import StepFunction

    normalization = keras.layers.Normalization()
    normalization.adapt(rows.x[0])
    layers = [normalization, keras.layers.Dense(3), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    delta, new_opaque = np.empty(trainer.layout.size, np.float32), np.empty_like(opaque)
    traces, honest = [], StepFunction._trace
    monkeypatch.setattr(
        StepFunction, "_trace", lambda function, signature: traces.append(signature) or honest(function, signature)
    )

    def train():
        trainer.train_round(rows, np.arange(45), [(0, 45)], flat, opaque, delta, new_opaque)
        end = trainer.layout.trainable_size
        flat[:end] -= delta[:end]
        flat[end:], opaque[:] = delta[end:], new_opaque

    for _ in range(3):
        train()
    assert len(traces) == 1
    for weight, tensor in zip(model.weights, trainer.layout.tensors, strict=True):
        if weight is normalization.adapt_mean:
            flat[tensor.offset : tensor.offset + tensor.size] += 1.0
    (before,) = trainer.predict(rows.x, flat, opaque, 45)
    train()
    assert len(traces) == 3
    set_weights(model, trainer.layout, flat, opaque)
    (now,) = trainer.predict(rows.x, flat, opaque, 45)
    np.testing.assert_allclose(now, model.predict(rows.x[0], verbose=0), rtol=1e-5, atol=1e-6)
    assert not np.allclose(now, before)
