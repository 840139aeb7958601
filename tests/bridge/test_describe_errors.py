"""What cannot travel to a worker is one sentence on the driver, before any job starts."""

from __future__ import annotations

import numpy as np
import pytest

from elephas_fast.keras_bridge import describe


def lambda_layer(keras):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def lambda_loss(keras):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", loss=lambda y_true, y_pred: y_pred - y_true)
    return model


def adapted_lookup(keras):
    layer = keras.layers.StringLookup()
    layer.adapt(np.array(["a", "b"]))
    words = keras.Input((2,), dtype="string")
    model = keras.Model(words, keras.layers.Embedding(4, 1)(layer(words)))
    model.compile("sgd", "mse")
    return model


def not_compiled(keras):
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def not_built(keras):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def double_precision(keras):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, dtype="float64")])
    model.compile("sgd", "mse")
    return model


def own_compile(keras):
    class Own(keras.Model):
        def compile(self, extra=None, **options):
            super().compile(**options)

    inputs = keras.Input((3,))
    model = Own(inputs, keras.layers.Dense(1)(inputs))
    model.compile(optimizer="sgd", loss="mse")
    return model


def late_weights(keras):
    @keras.saving.register_keras_serializable("bridge_tests")
    class Growing(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 1))

        def call(self, x):
            return keras.ops.matmul(x, self.kernel)

    layer = Growing()
    model = keras.Sequential([keras.Input((3,)), layer])
    layer._tracker.unlock()
    layer.late = layer.add_weight(shape=(2,))
    model.compile("sgd", "mse")
    return model


def two_of_a_name(keras):
    def loss(y_true, y_pred):
        return keras.ops.mean((y_pred - y_true) ** 2)

    first = loss

    def loss(y_true, y_pred):
        return keras.ops.mean(y_pred - y_true)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", loss=first, metrics=[loss])
    return model


def no_model(keras):
    return keras.layers.Dense(1)


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda_layer, "layer 'lambda.*' is a Lambda around a Python lambda"),
        (lambda_loss, "compiled with a Python lambda"),
        (adapted_lookup, "layer 'string_lookup.*' was adapted, and Keras leaves its vocabulary out"),
        (not_compiled, r"is not compiled; call model.compile"),
        (not_built, r"has no weights yet; start it with keras.Input or call model.build"),
        (double_precision, r"weight '.*kernel': .* got float64; build the model with dtype='float32'"),
        (own_compile, r"overrides compile\(\); override get_compile_config\(\)"),
        (late_weights, "expected its configuration to rebuild 2 weights, got 1"),
        (two_of_a_name, "expected one function or class named 'loss', got two"),
        (no_model, "model: expected a keras.Model, got Dense"),
    ],
)
@pytest.mark.filterwarnings("ignore:`compile:UserWarning")
def test_what_cannot_travel_is_one_sentence_on_the_driver(keras, build, message):
    with pytest.raises(ValueError, match=message) as raised:
        describe(build(keras))
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(("model:", "weight"))


def test_unknown_update(keras, classifier):
    with pytest.raises(ValueError, match="update: expected 'delta' or 'gradient', got 'both'"):
        describe(classifier(), update="both")


def test_missing_custom_object_is_reported_on_the_driver(keras):
    """A function that only a closure of the layer knows cannot be found."""

    def hidden(x):
        return x

    class Odd(keras.layers.Dense):
        def get_config(self):
            return {
                **super().get_config(),
                "activation": {
                    "class_name": "function",
                    "config": "hidden",
                    "module": "builtins",
                    "registered_name": "function",
                },
            }

    model = keras.Sequential([keras.Input((3,)), Odd(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"Keras could not rebuild it .*hidden.*custom_objects"):
        describe(model)
    assert describe(model, {"hidden": hidden}).custom_objects["hidden"] is hidden
