"""Metrics added over workers are Keras' own over all rows; weights, empty workers and evaluation included."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from elephas_fast.batches import Arrays
from elephas_fast.keras_bridge import Trainer, describe, merge_metrics, weights_of

PARTS = [(0, 3), (3, 40), (40, 41), (41, 90)]


@pytest.fixture
def binary(keras):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
    metrics = [
        "accuracy",
        keras.metrics.AUC(name="auc"),
        keras.metrics.Precision(name="p"),
        keras.metrics.R2Score(name="r2"),
    ]
    model.compile("sgd", "binary_crossentropy", metrics=metrics, weighted_metrics=["mse"])
    return model


@pytest.fixture
def rows90():
    generator = np.random.default_rng(2)
    x = generator.normal(size=(90, 4)).astype(np.float32)
    y = (x[:, :1] + generator.normal(size=(90, 1)) > 0).astype(np.float32)
    return Arrays((x,), (y,), (generator.uniform(0, 2, 90).astype(np.float32),))


def states_of(spec, arrays, flat, opaque):
    workers = [Trainer(spec) for _ in range(2)]
    return [workers[i % 2].evaluate(arrays.slice(begin, end), flat, opaque, 16) for i, (begin, end) in enumerate(PARTS)]


def test_merged_evaluation_equals_keras_evaluate(keras, binary, rows90):
    spec = describe(binary)
    flat, opaque = weights_of(binary, Trainer(spec).layout)
    states = pickle.loads(pickle.dumps(states_of(spec, rows90, flat, opaque)))
    expected = binary.evaluate(
        rows90.x[0], rows90.y[0], sample_weight=rows90.sample_weight[0], batch_size=16, verbose=0, return_dict=True
    )
    for source in (binary, spec):
        merged = merge_metrics(source, states)
        assert list(merged) == ["loss", "accuracy", "auc", "p", "r2", "mse"]
        weighted = merged.pop("loss"), expected["loss"]
        # Keras averages the batches' losses by rows, and the batches differ
        assert weighted[0] == pytest.approx(weighted[1], rel=0.02)
        assert merged == pytest.approx({name: expected[name] for name in merged}, rel=1e-6)


def test_loss_is_exact_where_batches_are_whole(keras, binary, rows90):
    arrays = Arrays(rows90.x, rows90.y)
    spec = describe(binary)
    flat, opaque = weights_of(binary, Trainer(spec).layout)
    merged = merge_metrics(binary, states_of(spec, arrays, flat, opaque))
    expected = binary.evaluate(rows90.x[0], rows90.y[0], verbose=0, return_dict=True)
    assert merged == pytest.approx(expected, rel=1e-5)


def test_workers_without_rows_count_for_nothing(keras, binary, rows90):
    spec = describe(binary)
    trainer = Trainer(spec)
    flat, opaque = weights_of(binary, trainer.layout)
    empty = trainer.evaluate(rows90.slice(0, 0), flat, opaque, 16)
    full = trainer.evaluate(rows90, flat, opaque, 16)
    assert empty == []
    assert merge_metrics(spec, [empty, full, empty]) == merge_metrics(spec, [full])
    assert merge_metrics(spec, [empty]) == {}
    assert merge_metrics(spec, []) == {}


def test_evaluation_leaves_the_running_metrics_alone(keras, binary, rows90):
    trainer = Trainer(describe(binary))
    flat, opaque = weights_of(binary, trainer.layout)
    delta = np.empty(trainer.layout.size, np.float32)
    assert trainer.logs() == {}
    trainer.train_round(rows90, np.arange(90), [(0, 30)], flat, opaque, delta)
    before = trainer.logs()
    trainer.evaluate(rows90, flat, opaque, 16)
    assert trainer.logs() == before
    trainer.begin_epoch()
    assert trainer.logs() == {}
    assert trainer.metric_state() == []


def test_merging_needs_no_data_and_leaves_the_model_as_it_was(keras, classifier, rows):
    model = classifier(keras.layers.BatchNormalization(), optimizer="adam")
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    state = trainer.evaluate(rows, flat, opaque, 16)
    assert not model.optimizer.built
    merged = merge_metrics(model, [state])
    assert not model.optimizer.built
    np.testing.assert_array_equal(weights_of(model, trainer.layout)[0], flat)
    assert merged == pytest.approx(model.evaluate(rows.x[0], rows.y[0], verbose=0, return_dict=True), rel=1e-5)


def test_merging_follows_a_new_compilation(keras, classifier, rows):
    model = classifier()
    flat, opaque = weights_of(model, Trainer(describe(model)).layout)
    first = Trainer(describe(model)).evaluate(rows, flat, opaque, 16)
    assert list(merge_metrics(model, [first])) == ["loss", "accuracy"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["sparse_top_k_categorical_accuracy", "accuracy"])
    second = Trainer(describe(model)).evaluate(rows, flat, opaque, 16)
    assert list(merge_metrics(model, [second])) == ["loss", "sparse_top_k_categorical_accuracy", "accuracy"]
    with pytest.raises(ValueError, match="states: expected metric variables of the model"):
        merge_metrics(model, [first])


def test_metrics_of_the_models_own(keras, rows):
    class Watched(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.mean = keras.metrics.Mean(name="activity")

        def call(self, x):
            self.mean.update_state(keras.ops.mean(x))
            return x

    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3), Watched()])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    merged = merge_metrics(model, [trainer.evaluate(rows, flat, opaque, 45)])
    expected = model.evaluate(rows.x[0], rows.y[0], batch_size=45, verbose=0, return_dict=True)
    assert merged == pytest.approx(expected, rel=1e-5)
    assert set(merged) == {"loss", "activity"}


def test_states_of_different_models_do_not_mix(keras, classifier, binary, rows, rows90):
    model = classifier()
    states = []
    for one, arrays in ((model, rows), (binary, rows90)):
        trainer = Trainer(describe(one))
        states.append(trainer.evaluate(arrays, *weights_of(one, trainer.layout), 16))
    with pytest.raises(ValueError, match="merge states of one model only"):
        merge_metrics(model, states)


def test_a_model_that_cannot_evaluate_is_built_by_its_train_step(keras, rows):
    class Encoder(keras.Model):
        """Compiled without a loss, as generative models are: ``test_step`` has nothing to compute."""

        def train_step(self, data):
            x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
            loss = self.optimizer.learning_rate * 0 + keras.ops.mean(self(x, training=True) ** 2)
            self.compute_metrics(x, x, self(x))
            return {"size": loss}

    inputs = keras.Input((6,))
    model = Encoder(inputs, keras.layers.Dense(6)(inputs))
    model.compile("sgd", metrics=["mae"])
    trainer = Trainer(describe(model))
    flat, opaque = weights_of(model, trainer.layout)
    delta = np.empty(trainer.layout.size, np.float32)
    trainer.train_round(rows, np.arange(45), [(0, 20), (20, 45)], flat, opaque, delta)
    merged = merge_metrics(model, [trainer.metric_state()])
    assert merged == pytest.approx(trainer.logs())
    assert merged == pytest.approx({"size": float(np.mean(model.predict(rows.x[0], verbose=0) ** 2))}, rel=1e-4)
