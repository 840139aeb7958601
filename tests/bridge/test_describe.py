"""A description rebuilds the same model in another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from elephas_fast.batches import Arrays
from elephas_fast.input_spec import InputSpec
from elephas_fast.keras_bridge import Trainer, describe, layout_of
from elephas_fast.layout import Layout

REBUILD = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    spec, rows = pickle.load(file)
from elephas_fast.keras_bridge import layout_of, trainer_for
import numpy as np
trainer = trainer_for(spec, threads=1)
flat = np.linspace(-1, 1, trainer.layout.size, dtype=np.float32)
opaque = np.zeros(trainer.layout.opaque_size, np.uint8)
delta = np.zeros(trainer.layout.size, np.float32)
trainer.train_round(rows, np.arange(rows.rows), [(0, rows.rows)], flat, opaque, delta)
places = [(t.shape, t.dtype, t.role, t.offset) for t in trainer.layout.tensors]
rebuilt = [(t.shape, t.dtype, t.role, t.offset) for t in layout_of(trainer.model).tensors]
print(trainer.layout.fingerprint, places == rebuilt, np.abs(delta).sum() > 0)
"""


def in_another_process(tmp_path: Path, spec, rows) -> list[str]:
    file = tmp_path / "spec.pickle"
    file.write_bytes(cloudpickle.dumps((spec, rows)))
    done = subprocess.run(
        [sys.executable, "-c", REBUILD, str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def test_user_code_travels_to_another_process(keras, rows, tmp_path):
    """Unregistered layer, registered regularizer, function as activation, loss, metric: none passed by the user."""

    class Scale(keras.layers.Layer):
        def __init__(self, start, **options):
            super().__init__(**options)
            self.start = start

        def build(self, shape):
            self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

        def call(self, x):
            return self.start * x * self.factor

        def get_config(self):
            return {**super().get_config(), "start": self.start}

    @keras.saving.register_keras_serializable("bridge_tests")
    class Cubic(keras.regularizers.Regularizer):
        def __call__(self, x):
            return 0.1 * keras.ops.sum(keras.ops.abs(x) ** 3)

        def get_config(self):
            return {}

    def bent(x):
        return keras.ops.tanh(x) + 0.1 * x

    def gap(y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_pred - keras.ops.cast(y_true, y_pred.dtype)), axis=-1)

    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4, activation=bent, kernel_regularizer=Cubic()), Scale(2.0)]
    )
    model.compile(keras.optimizers.Adam(0.01), loss=gap, metrics=[gap, "mae"])
    spec = describe(model)
    assert set(spec.custom_objects) == {"Scale", "bridge_tests>Cubic", "bent", "gap"}
    arrays = Arrays(rows.x, (np.zeros((45, 4), np.float32),))
    assert in_another_process(tmp_path, spec, arrays) == [layout_of(model).fingerprint, "True", "True"]


def tower(keras, with_config=True):
    class Tower(keras.Model):
        def __init__(self, units, blob=None, **options):
            super().__init__(**options)
            self.units, self.blob = units, blob
            self.inner = keras.layers.Dense(units)
            self.drop = keras.layers.Dropout(0.1)

        def call(self, inputs, training=False):
            return {"b": self.inner(inputs["left"]), "a": self.drop(inputs["right"], training=training)}

        if with_config:

            def get_config(self):
                return {**super().get_config(), "units": self.units}

    model = Tower(3, blob=None if with_config else object())
    model({"right": np.zeros((2, 4), np.float32), "left": np.zeros((2, 5), np.float32)})
    return model


def test_subclassed_model(keras):
    # layers made before shift Keras' automatic names: the driver's layout must hold all the same
    keras.layers.Dense(1)
    model = tower(keras)
    model.compile("sgd", {"a": "mse", "b": "mse"})
    spec = describe(model)
    assert spec.inputs == (InputSpec("left", (5,)), InputSpec("right", (4,)))
    assert [o.name for o in spec.outputs] == ["a", "b"]
    assert Trainer(spec).layout.fingerprint == layout_of(model).fingerprint


def test_subclassed_model_without_config(keras):
    model = tower(keras, with_config=False)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"has no configuration to rebuild it from .*implement get_config\(\)"):
        describe(model)


def test_shapes_and_dtypes_of_inputs(keras):
    words, image = keras.Input((None,), dtype="int32", name="words"), keras.Input((8, 8, 3), name="image")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 2)(words))
    joined = keras.layers.Concatenate()([pooled, keras.layers.Flatten()(image)])
    model = keras.Model([words, image], keras.layers.Dense(1, name="score")(joined))
    model.compile("sgd", "mse")
    spec = describe(model)
    assert spec.inputs == (InputSpec("words", (None,), "int32"), InputSpec("image", (8, 8, 3), "float32"))
    assert spec.outputs == (InputSpec("score"),)


def test_description_is_small_and_holds_no_weights(keras):
    model = keras.Sequential([keras.Input((1000,)), keras.layers.Dense(1000)])
    model.compile("adam", "mse")
    assert len(cloudpickle.dumps(describe(model))) < 10_000


def test_digest_tells_models_apart_and_not_fits(keras, classifier):
    model = classifier()
    assert describe(model).digest == describe(model).digest
    other = classifier(optimizer=keras.optimizers.SGD(0.5))
    assert describe(other).digest != describe(model).digest

    def make_loss(factor):
        def loss(y_true, y_pred):
            return factor * keras.ops.mean((y_pred - y_true) ** 2)

        return loss

    digests = set()
    for factor in (1.0, 2.0):
        model.compile("sgd", make_loss(factor))
        digests.add(describe(model).digest)
    assert len(digests) == 2


def test_learning_rate_set_after_compile_travels(keras, classifier):
    model = classifier(optimizer="adam")
    model.optimizer.learning_rate = 0.125
    assert float(Trainer(describe(model)).model.optimizer.learning_rate.numpy()) == 0.125


def test_freezing_travels(keras, classifier):
    model = classifier(keras.layers.BatchNormalization())
    model.layers[0].kernel.trainable = False
    model.layers[1].trainable = False
    model.compile("sgd", "mse")
    trainer = Trainer(describe(model))
    assert [v.trainable for v in trainer.model.weights] == [v.trainable for v in model.weights]
    roles = [t.role for t in layout_of(trainer.model).tensors]
    assert roles == [t.role for t in layout_of(model).tensors]
    assert roles == ["state", "trainable", *["state"] * 4, *["trainable"] * 2]


def test_constraints_are_in_the_layout(keras):
    limit = keras.constraints.MaxNorm(1.5, axis=[0])
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_constraint=limit)])
    kernel, bias = layout_of(model).tensors
    assert kernel.constraint == {"class_name": "MaxNorm", "config": {"max_value": 1.5, "axis": [0]}}
    assert bias.constraint is None
    assert Layout.from_json(layout_of(model).to_json()).tensors[0].constraint == kernel.constraint


def test_prediction_needs_no_compilation(keras):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    spec = describe(model, update=None)
    assert spec.compile_config is None
    trainer = Trainer(spec)
    flat = np.arange(trainer.layout.size, dtype=np.float32)
    (out,) = trainer.predict((np.ones((5, 3), np.float32),), flat, np.zeros(0, np.uint8), 2)
    assert out.shape == (5, 2)


def test_safe_lambda_of_a_named_function(keras):
    def halved(x):
        return x / 2

    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(halved, output_shape=(3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert describe(model).custom_objects == {"halved": halved}


def test_a_model_that_compiles_itself_is_compiled_as_it_was(keras):
    """As those of keras_hub: their own compile() has defaults, with which a worker would train otherwise."""

    class Hub(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(1)
            self.dense.vocabulary_size = 7  # a number in keras_hub, a method in Keras' own lookups
            self.compile()

        def build(self, input_shape):
            self.dense.build(input_shape)
            super().build(input_shape)

        def call(self, inputs):
            return self.dense(inputs)

        def compile(self, optimizer="sgd", loss="mse", **options):
            super().compile(optimizer=optimizer, loss=loss, **options)

    model = Hub()
    model.build((None, 3))
    model.compile(keras.optimizers.Adam(0.125), "mae", metrics=["mse"])
    again = Trainer(describe(model, {"Hub": Hub})).model
    assert isinstance(again.optimizer, keras.optimizers.Adam)
    assert float(again.optimizer.learning_rate) == 0.125
    assert (again.loss, again.get_compile_config()["metrics"]) == ("mae", ["mse"])


def test_models_made_alike_are_one_to_a_worker(keras, classifier):
    """Keras numbers layers and optimizers; a worker must know a model again when it is made a second time."""

    def digest(*layers, **how):
        return describe(classifier(*layers, **how)).digest

    def functional(activation="relu", outputs=1):
        x = keras.Input((4,))
        made = [keras.layers.Dense(2, activation=activation)(keras.layers.Dropout(0.5)(x)) for _ in range(outputs)]
        model = keras.Model(x, made)
        model.compile(keras.optimizers.Adam(0.1), "mse")
        return describe(model).digest

    assert digest() == digest()
    assert digest(keras.layers.ReLU()) == digest(keras.layers.ReLU()) != digest(keras.layers.Softmax())
    assert digest(keras.layers.Dense(4, name="one")) != digest(keras.layers.Dense(4, name="two"))
    assert digest(optimizer=keras.optimizers.Adam(0.1)) == digest(optimizer=keras.optimizers.Adam(0.1))
    assert digest(optimizer=keras.optimizers.Adam(0.1)) != digest(optimizer=keras.optimizers.Adam(0.2))
    assert functional() == functional() != functional("tanh")
    assert functional(outputs=2) != functional(outputs=2)  # whose metrics are named after its layers
