"""Every documented argument of every generation's ``SparkModel`` and its kin, what their calls return, and the members
that scripts use."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from pyspark import RDD
from pyspark.mllib.linalg import DenseMatrix, DenseVector, Matrices, Vectors
from pyspark.mllib.regression import LabeledPoint

from elephas_fast import AsynchronousSparkModel, SparkMLlibModel, SparkModel
from elephas_fast import optimizers as elephas_optimizers
from elephas_fast.enums.frequency import Frequency
from elephas_fast.enums.modes import Mode
from elephas_fast.mllib import adapter
from elephas_fast.utils import functional_utils, rdd_utils

SGD = elephas_optimizers.SGD(lr=0.1)
WIDTH, CLASSES, ROWS = 4, 3, 30
KINDS = {kind.__name__: kind for kind in (SparkModel, AsynchronousSparkModel, SparkMLlibModel)}


def network(metrics: tuple[str, ...] = ("accuracy",)) -> keras.Model:
    model = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(CLASSES, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=list(metrics))
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, WIDTH)).astype(np.float32), np.eye(CLASSES, dtype=np.float32)[np.arange(ROWS) % 3]


# Generation, class, positional arguments ("sc" and "model" stand for the real ones), keywords, what they mean:
# mode, frequency, num_workers, batch_size, port.
COMPILED = {"master_optimizer": "adam", "master_loss": "mse", "master_metrics": ["mae"], "custom_objects": {}}
SYNC7 = ("synchronous", "epoch", 2, 16, None)
CONSTRUCTORS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], tuple[Any, ...]]] = [
    ("0.1", "SparkModel", ("sc", "model"), {}, ("asynchronous", "epoch", 4, 32, None)),
    ("0.2", "SparkModel", ("sc", "model", SGD, "hogwild", "batch", 2), {}, ("hogwild", "batch", 2, 32, None)),
    (
        "0.3", "SparkModel", ("sc", "model"),
        {"optimizer": SGD, "mode": "synchronous", "frequency": "batch", "num_workers": 3},
        ("synchronous", "batch", 3, 32, None),
    ),
    ("0.3", "SparkModel", (), {"sc": "sc", "master_network": "model"}, ("asynchronous", "epoch", 4, 32, None)),
    ("0.3", "SparkMLlibModel", ("sc", "model", SGD), {"num_workers": 2}, ("asynchronous", "epoch", 2, 32, None)),
    ("2017", "SparkModel", ("sc", "model"), COMPILED, ("asynchronous", "epoch", 4, 32, None)),
    (
        "2017", "SparkModel", ("sc", "model", None, "asynchronous", "epoch", 2, "adam", "mse", ["mae"], {}), {},
        ("asynchronous", "epoch", 2, 32, None),
    ),
    (
        "0.4", "SparkModel", ("model", "asynchronous", "epoch", "http", 2, SGD, {}, 16), {},
        ("asynchronous", "epoch", 2, 16, None),
    ),
    (
        "0.4", "SparkModel", ("model",),
        {"mode": "hogwild", "frequency": "batch", "parameter_server_mode": "socket", "num_workers": 2,
         "elephas_optimizer": SGD, "custom_objects": {}, "batch_size": 16},
        ("hogwild", "batch", 2, 16, None),
    ),
    (
        "0.4", "SparkMLlibModel", ("model",), {"mode": "asynchronous", "elephas_optimizer": SGD, "num_workers": 4},
        ("asynchronous", "epoch", 4, 32, None),
    ),
    *(
        (
            generation, kind, ("model", "hogwild", "batch", "http", 2, {}, 16, 4321), {},
            ("hogwild", "batch", 2, 16, 4321),
        )
        for generation in ("1", "6") for kind in ("SparkModel", "SparkMLlibModel")
    ),
    (
        "5", "SparkModel", ("model",),
        {"mode": Mode.HOGWILD, "frequency": Frequency.BATCH, "parameter_server_mode": "socket", "num_workers": 2,
         "custom_objects": None, "batch_size": 16, "port": 4321},
        ("hogwild", "batch", 2, 16, 4321),
    ),
    ("5", "SparkModel", ("model", Mode.SYNCHRONOUS), {"frequency": "epoch"}, ("synchronous", "epoch", None, 32, None)),
    ("7", "SparkModel", ("model", 2, None, 16), {}, SYNC7),
    ("7", "SparkModel", ("model",), {"num_workers": 2, "custom_objects": None, "batch_size": 16}, SYNC7),
    ("7", "SparkMLlibModel", ("model", 2, None, 16), {}, SYNC7),
    (
        "7", "AsynchronousSparkModel", ("model", 2, {}, 16, Mode.HOGWILD, Frequency.BATCH, "socket", 4321), {},
        ("hogwild", "batch", 2, 16, 4321),
    ),
    (
        "7", "AsynchronousSparkModel", ("model",),
        {"num_workers": 2, "custom_objects": None, "batch_size": 16, "mode": "asynchronous", "frequency": "epoch",
         "parameter_server_mode": "http", "port": 4321},
        ("asynchronous", "epoch", 2, 16, 4321),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("generation", "kind", "arguments", "keywords", "meaning"),
    CONSTRUCTORS,
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_constructors(sc, generation, kind, arguments, keywords, meaning):
    real = {"sc": sc, "model": network()}

    def put(value: Any) -> Any:
        return real.get(value, value) if isinstance(value, str) else value

    model = KINDS[kind](*map(put, arguments), **{name: put(value) for name, value in keywords.items()})
    assert type(model) is KINDS[kind]
    assert (model.mode, model.frequency, model.num_workers, model.batch_size, model.port) == meaning
    assert model.master_network is real["model"]
    given = [value for value in (*arguments, *keywords.values()) if value is SGD]
    assert model.optimizer is (SGD if given else None)


TRAINING = [
    ("0.1", "train", (), {"nb_epoch": 2, "batch_size": 8, "verbose": 0, "validation_split": 0.1, "num_workers": 2}),
    ("0.3", "train", (2, 8, 0, 0.1), {}),
    ("0.4", "fit", (), {"epochs": 2, "batch_size": 8, "verbose": 0, "validation_split": 0.1}),
    ("any", "fit", (), {"nb_epoch": 2, "batch_size": 8, "verbose": 0, "validation_split": 0.1}),
    ("any", "train", (), {"epochs": 2, "batch_size": 8, "verbose": 0, "validation_split": 0.1}),
]


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous"])
@pytest.mark.parametrize(("generation", "call", "arguments", "keywords"), TRAINING)
def test_training_calls(sc, mode, generation, call, arguments, keywords):
    """They return a Keras History where Elephas returned None: on purpose. ``training_histories`` has one dict for each
    partition and one value for each epoch, as from 2.0 to 7.1, in asynchronous modes too."""
    model = SparkModel(network(), mode=mode, frequency="epoch", num_workers=2)
    history = getattr(model, call)(rdd_utils.to_simple_rdd(sc, *data()), *arguments, **keywords)
    assert isinstance(history, keras.callbacks.History)
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert [len(values) for values in history.history.values()] == [2] * 4
    assert len(model.training_histories) == 2
    for part in model.training_histories:
        assert [len(part[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")] == [2] * 4


MLLIB = {"batch_size": 8, "verbose": 0, "validation_split": 0.1, "categorical": True, "nb_classes": CLASSES}


@pytest.mark.parametrize(
    ("call", "arguments", "keywords"),
    [
        ("train", (), {"nb_epoch": 2, **MLLIB}), ("train", (2, 8, 0, 0.1, True, CLASSES), {}),
        ("train", (), {"epochs": 2, "categorical": True}), ("fit", (), {"epochs": 2, **MLLIB}),
        ("fit", (2, 8, 0, 0.1, True, CLASSES), {}),
    ],
)  # fmt: skip
def test_training_on_labeled_points(sc, call, arguments, keywords):
    points = rdd_utils.to_labeled_point(sc, *data(), categorical=True)
    model = SparkMLlibModel(network(), num_workers=2)
    history = getattr(model, call)(points, *arguments, **keywords)
    assert isinstance(history, keras.callbacks.History)
    assert len(history.history["loss"]) == 2
    matrix = model.predict(Matrices.dense(2, WIDTH, range(2 * WIDTH)))
    assert isinstance(matrix, DenseMatrix)
    assert (matrix.numRows, matrix.numCols) == (2, CLASSES)
    assert isinstance(model.predict(Vectors.dense(range(WIDTH))), DenseVector)


def test_predict_and_evaluate(sc):
    x, y = data()
    model = SparkModel(network(), num_workers=2)
    for given in (x, sc.parallelize(list(x), 3), rdd_utils.to_simple_rdd(sc, x, y)):
        rows = model.predict(given)
        assert isinstance(rows, list)
        assert [row.shape for row in rows] == [(CLASSES,)] * ROWS
    assert isinstance(SparkModel(network(()), num_workers=2).evaluate(x, y), float)
    values = model.evaluate(x, y, batch_size=8, verbose=0)
    assert isinstance(values, list)
    assert [type(value) for value in values] == [float, float]
    assert model.evaluate(x, y, show_accuracy=True) == pytest.approx(values, rel=1e-5)
    assert model.predict_classes(x).shape == (ROWS,)


MEMBERS: dict[str, Any] = {
    "optimizer": None, "mode": "asynchronous", "frequency": "batch", "num_workers": 2, "port": 4321,
    "custom_objects": {"square": abs}, "batch_size": 16, "kwargs": {}, "master_loss": "categorical_crossentropy",
    "master_metrics": ["accuracy"], "parameter_server_mode": "socket", "training_histories": [],
}  # fmt: skip


def test_members():
    real = network()
    model = SparkModel(real, "asynchronous", "batch", "socket", 2, {"square": abs}, 16, 4321)
    assert {name: getattr(model, name) for name in MEMBERS} == MEMBERS
    assert model.master_network is model._master_network is real
    assert model.master_optimizer is real.optimizer
    for one, other in zip(model.weights, real.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(model.serialized_model) == ["model", "weights"]
    assert callable(model.parameter_server.start)
    assert callable(model.client.get_parameters)


def test_methods(sc, tmp_path):
    model = SparkModel(network(), "asynchronous", "epoch", "http", 2, {}, 16, 4321)
    config = model.get_config()
    assert {"parameter_server_mode", "mode", "frequency", "num_workers", "batch_size"} <= set(config)
    assert model.start_server() is None
    assert model.stop_server() is None
    assert model.determine_master().endswith(":4000")
    assert set(model.get_train_config(1, 2, 0, 0.1)) == {"epochs", "batch_size", "verbose", "validation_split"}
    assert model.get_network() is model.master_network
    other = network()
    model.set_network(other)
    assert model.master_network is other
    model.parameter_server.start()
    before = model.client.get_parameters()
    model.client.update_parameters([np.ones_like(part) for part in before])
    for part, was in zip(model.client.get_parameters(), before, strict=True):
        np.testing.assert_allclose(part, was - 1, rtol=1e-6)
    model.parameter_server.stop()
    assert model.save(str(tmp_path / "m.keras"), overwrite=False, to_hadoop=False) is None
    model.save_weights(str(tmp_path / "m.weights.h5"))


def test_helpers_return_what_they_are_called(sc):
    x, y = data()
    for labels in (y, list(y)):
        assert isinstance(rdd_utils.to_simple_rdd(sc, x, labels), RDD)
    points = rdd_utils.to_labeled_point(sc, x, y, categorical=True)
    assert isinstance(points.first(), LabeledPoint)
    features, labels = rdd_utils.from_labeled_point(points, categorical=True, nb_classes=CLASSES)
    assert (features.shape, labels.shape) == ((ROWS, WIDTH), (ROWS, CLASSES))
    pair = rdd_utils.lp_to_simple_rdd(points, categorical=True, nb_classes=CLASSES).first()
    assert [len(part) for part in pair] == [WIDTH, CLASSES]
    assert rdd_utils.encode_label(1, CLASSES).tolist() == [0, 1, 0]
    assert isinstance(adapter.to_matrix(x), DenseMatrix)
    assert isinstance(adapter.to_vector(x[0]), DenseVector)
    assert adapter.from_matrix(adapter.to_matrix(x)).shape == x.shape
    assert adapter.from_vector(adapter.to_vector(x[0])).shape == (WIDTH,)
    for made in (
        functional_utils.add_params([x], [x]), functional_utils.subtract_params([x], [x]),
        functional_utils.get_neutral([x]), functional_utils.divide_by([x], 2),
        functional_utils.average_and_subtract([x], [[x], [x]]),
    ):  # fmt: skip
        assert isinstance(made, list)
        assert made[0].shape == x.shape
