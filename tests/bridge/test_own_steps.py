"""Models that bring their own train_step, or do without the tracing Keras offers."""

from __future__ import annotations

import numpy as np
import pytest

from elephas_fast.keras_bridge import merge_metrics, runtime, weights_of


def assert_same(model, trainer, flat):
    expected, _ = weights_of(model, trainer.layout)
    np.testing.assert_allclose(flat, expected, rtol=2e-5, atol=2e-6)


def test_own_train_step_and_its_logs(keras, rows, train):
    tf = runtime.tensorflow()

    class Doubled(keras.Model):
        def train_step(self, data):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                loss = 2.0 * keras.ops.mean((self(x, training=True)[:, 0] - keras.ops.cast(y, "float32")) ** 2)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"doubled": loss}

    inputs = keras.Input((6,))
    model = Doubled(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    trainer, flat, states = train(model, rows, frequency="epoch")
    losses = [
        float(model.train_on_batch(rows.x[0][b : b + 8], rows.y[0][b : b + 8], return_dict=True)["doubled"])
        for b in range(0, 45, 8)
    ]
    assert_same(model, trainer, flat)
    mean = np.average(losses, weights=[8, 8, 8, 8, 8, 5])
    assert trainer.logs() == pytest.approx({"doubled": mean}, rel=1e-5)
    assert merge_metrics(model, [states[0], states[0]]) == pytest.approx({"doubled": mean}, rel=1e-5)


@pytest.mark.parametrize("how", ["run_eagerly", "make_train_function"])
def test_models_that_trace_themselves(keras, rows, train, how):
    class Own(keras.Model):
        def make_train_function(self, force=False):
            self.train_function = lambda iterator: self.train_step(next(iterator))
            return self.train_function

    inputs = keras.Input((6,))
    model = (Own if how == "make_train_function" else keras.Model)(inputs, keras.layers.Dense(3)(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], run_eagerly=how == "run_eagerly")
    trainer, flat, states = train(model, rows, frequency=4)
    merged = merge_metrics(model, states)
    keras.utils.set_random_seed(1)
    for begin in range(0, 45, 8):
        model.train_on_batch(rows.x[0][begin : begin + 8], rows.y[0][begin : begin + 8])
    assert_same(model, trainer, flat)
    assert merged == pytest.approx(trainer.logs())
    assert list(merged) == ["loss", "accuracy"]
