"""Constructor and training calls of every generation of Elephas."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from elephas_fast import AsynchronousSparkModel, SparkHFModel, SparkMLlibModel, SparkModel, load_spark_model
from elephas_fast.enums.frequency import Frequency
from elephas_fast.enums.modes import Mode
from elephas_fast.optimizers import SGD, Adagrad, Adam, InverseTimeDecay, adagrad, get
from elephas_fast.spark import forms
from elephas_fast.utils import determine_master, functional_utils
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.spark.conftest import assert_nothing_left, dense_model


def options(model: SparkModel) -> tuple[str, str | int, int | None, int]:
    return model.mode, model.frequency, model.num_workers, model.batch_size


def test_the_first_form(sc):
    network = dense_model()
    plain = SparkModel(sc, network)
    assert plain.master_network is network
    assert options(plain) == ("asynchronous", "epoch", 4, 32)
    assert plain.server_optimizer is None
    rule = Adagrad()
    given = SparkModel(sc, network, rule, "synchronous", "batch", 2)
    assert options(given) == ("synchronous", "batch", 2, 32)
    assert given.optimizer is given.server_optimizer is rule
    by_name = SparkModel(
        sc, network, optimizer=adagrad(), frequency="epoch", mode="hogwild", num_workers=3, batch_size=16
    )
    assert options(by_name) == ("hogwild", "epoch", 3, 16)
    assert SparkModel(sc=sc, master_network=network).master_network is network


def test_the_first_form_compiles_with_what_it_is_given(sc):
    network = dense_model()
    loss = network.loss
    model = SparkModel(sc, network, master_optimizer="rmsprop", master_metrics=["mae"])
    assert isinstance(model.master_optimizer, keras.optimizers.RMSprop)
    assert model.master_loss == loss
    assert model.master_metrics == ["mae"]
    fresh = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    model = SparkModel(sc, fresh, master_loss="mse")
    assert isinstance(fresh.optimizer, keras.optimizers.Adam)
    assert (model.master_loss, model.master_metrics) == ("mse", ["accuracy"])


def test_the_middle_forms():
    network = dense_model()
    for model in (
        SparkModel(network, "hogwild", "batch", "http", 3, {}, 16, 4321),
        SparkModel(network, mode=Mode.HOGWILD, frequency=Frequency.BATCH, num_workers=3, batch_size=16, port=4321),
    ):
        assert options(model) == ("hogwild", "batch", 3, 16)
        assert model.port == 4321
    rule = SGD(lr=0.5)
    model = SparkModel(network, "asynchronous", "epoch", "socket", 2, rule, None, 8)
    assert model.server_optimizer is rule
    assert options(model) == ("asynchronous", "epoch", 2, 8)
    model = SparkModel(network, elephas_optimizer=rule)
    assert model.server_optimizer is rule
    assert options(model) == ("asynchronous", "epoch", None, 32)
    assert SparkModel(network, elephas_optimizer=None, mode="synchronous").mode == "synchronous"
    for optimizer in (rule, None):
        model = SparkMLlibModel(network, "hogwild", "batch", "http", 2, optimizer, None, 16, 4321)
        assert options(model) == ("hogwild", "batch", 2, 16)
        assert (model.server_optimizer, model.custom_objects, model.port) == (optimizer, {}, 4321)


@pytest.mark.parametrize(
    ("arguments", "meaning"),
    [
        ((None, None, "http", 2), ("asynchronous", "epoch", 2, 32)),
        ((None, None, None, 2), ("synchronous", "epoch", 2, 32)),
        ((None, "batch"), ("asynchronous", "batch", None, 32)),
        ((None, 5), ("asynchronous", 5, None, 32)),
        (("hogwild", None, None, 2, None, {}, 16), ("hogwild", "epoch", 2, 16)),
        (("hogwild", None, None, 2, {}, 16), ("hogwild", "epoch", 2, 16)),
        ((None, None, 16), ("synchronous", "epoch", None, 16)),
    ],
)
def test_forms_with_none_by_position(arguments, meaning):
    assert options(SparkModel(dense_model(), *arguments)) == meaning


def test_the_seventh_form():
    network = dense_model()
    for model in (SparkModel(network, 2, None, 16), SparkModel(network, num_workers=2, batch_size=16)):
        assert options(model) == ("synchronous", "epoch", 2, 16)
    assert options(SparkModel(network, None, {}, 16)) == ("synchronous", "epoch", None, 16)
    model = AsynchronousSparkModel(network, 2, None, 16, Mode.HOGWILD, Frequency.BATCH, "http", 4321)
    assert options(model) == ("hogwild", "batch", 2, 16)
    assert options(AsynchronousSparkModel(network)) == ("asynchronous", "epoch", None, 32)
    assert options(AsynchronousSparkModel(network, mode="synchronous")) == ("synchronous", "epoch", None, 32)


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((), {}, "SparkModel: expected a compiled Keras model, got none"),
        (("model", "hogwild"), {"mode": "hogwild"}, "SparkModel: expected 'mode' once"),
        (("model",) * 10, {}, "SparkModel: expected at most 9 arguments"),
        (("model",), {"nb_epoch": 2, "epochs": 2}, "epochs: expected it once"),
        (("model",), {"elephas": 2}, "unknown keyword of SparkModel 'elephas'"),
    ],
)
def test_calls_of_no_form(arguments, keywords, message):
    with pytest.raises(TypeError, match=message):
        SparkModel(*(dense_model() if a == "model" else a for a in arguments), **keywords)


def test_the_signature_is_todays():
    names = list(inspect.signature(SparkModel).parameters)
    assert names[:8] == [
        "model", "mode", "frequency", "parameter_server_mode", "num_workers", "custom_objects", "batch_size", "port",
    ]  # fmt: skip
    seventh = inspect.signature(AsynchronousSparkModel).parameters
    assert list(seventh)[:6] == ["model", "num_workers", "custom_objects", "batch_size", "mode", "frequency"]
    assert seventh["mode"].default == "asynchronous"
    texts = inspect.signature(SparkHFModel).parameters
    assert list(texts)[7:10] == ["tokenizer", "tokenizer_kwargs", "loader"]
    assert texts["mode"].default == "synchronous"


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("steps_per_epoch", "an epoch is all rows"),
        ("initial_epoch", "epochs counts those of this call"),
        ("sample_weight", r"an RDD of \(x, y, sample_weight\) rows"),
        ("validation_freq", "each epoch is validated"),
        ("workers", "num_workers says"),
    ],
)
def test_keywords_that_only_keras_has(keyword, message):
    with pytest.raises(TypeError, match=f"fit: '{keyword}' is of keras.Model.fit, not for an RDD: .*{message}"):
        SparkModel(dense_model()).fit(None, epochs=1, **{keyword: 2})


def test_verbose_as_keras_takes_it():
    for given, meant in (("auto", 1), (True, 1), (False, 0), (2, 2)):
        found = forms.training({"verbose": given}, {})["verbose"]
        assert (found, type(found)) == (meant, int)


def test_train_is_fit_with_earlier_defaults(sc, digits):
    x, y, x_test, y_test = digits
    rdd = to_simple_rdd(sc, x, y)
    model = SparkModel(sc, dense_model(), optimizer=None, frequency="epoch", mode="synchronous")
    history = model.train(rdd, nb_epoch=3, batch_size=16, verbose=0, validation_split=0.1, num_workers=2)
    assert len(history.history["val_loss"]) == 3
    assert model.num_workers == 2
    assert len(model.train(rdd, 1).history["val_loss"]) == 1
    history = model.train(rdd, epochs=1, validation_split=0.0)
    assert "val_loss" not in history.history
    assert len(SparkModel(sc, dense_model(), num_workers=2, mode="synchronous").fit(rdd).history["val_loss"]) == 10
    for arguments, keywords, message in [
        ((1,), {"nb_epoch": 1}, "train: expected 'nb_epoch' once"),
        ((1,), {"epochs": 1}, "epochs: expected it once"),
        ((1, 32), {"batch_size": 32}, "train: expected 'batch_size' once"),
        ((1, 32, 0, 0.1, 7), {}, "train: expected at most 4 arguments"),
    ]:
        with pytest.raises(TypeError, match=message):
            model.train(rdd, *arguments, **keywords)
    outputs = model.predict(x_test)
    assert isinstance(outputs, np.ndarray)
    assert outputs.shape == (len(x_test), 10)
    today = SparkModel(dense_model(), mode="synchronous", num_workers=2)
    assert isinstance(today.predict(x_test), list)
    assert len(today.fit(rdd, 2, 32, False, 0.1).history["val_loss"]) == 2
    with pytest.raises(TypeError, match="fit: expected 'epochs' once"):
        today.fit(rdd, 1, epochs=1)
    classes = model.predict_classes(x_test)
    assert classes.dtype == np.int64
    assert np.mean(classes == np.argmax(y_test, axis=1)) == pytest.approx(
        model.evaluate(x_test, y_test, show_accuracy=True)[1], abs=1e-6
    )
    assert_nothing_left()


def test_other_attributes_are_the_models(sc, tmp_path):
    network = dense_model()
    model = SparkModel(sc, network)
    assert model.layers == network.layers
    model.save_weights(str(tmp_path / "x.weights.h5"))
    assert model.get_network() is network
    other = dense_model()
    model.set_network(other)
    assert model.master_network is other
    model.mode, model.frequency, model.batch_size, model.optimizer = "hogwild", "batch", 16, SGD(0.5)
    assert options(model) == ("hogwild", "batch", 4, 16)
    assert model.server_optimizer == SGD(0.5)
    model.weights = [np.ones_like(weight) for weight in model.weights]
    assert all(np.all(weight == 1) for weight in other.get_weights())
    with pytest.raises(ValueError, match="mode: expected"):
        model.mode = "often"
    with pytest.raises(AttributeError, match="no attribute 'elephant', and neither has its master_network"):
        _ = model.elephant
    bare = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    bare.compile("sgd", "mse")
    with pytest.raises(ValueError, match="show_accuracy: expected a model compiled with metrics"):
        SparkModel(bare).evaluate(np.zeros((2, 64)), np.zeros((2, 10)), show_accuracy=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_asynchronous_model_loads_as_one(tmp_path):
    file = str(tmp_path / "m.keras")
    AsynchronousSparkModel(dense_model(), mode="hogwild", num_workers=2).save(file)
    loaded = load_spark_model(file)
    assert type(loaded) is AsynchronousSparkModel
    assert options(loaded) == ("hogwild", "epoch", 2, 32)


def test_optimizers_know_their_earlier_names():
    assert Adam(lr=0.5) == Adam(learning_rate=0.5)
    assert SGD(lr=0.5, decay=0.1).learning_rate == InverseTimeDecay(0.5, 1, 0.1)
    assert get("sgd", {"lr": 0.25, "momentum": 0.5}) == SGD(0.25, momentum=0.5)
    assert get("sgd", {"lr": 0.5, "decay": 0.1}) == SGD(lr=0.5, decay=0.1)
    assert get("sgd", {"lr": 0.5, "decay": 0.0}) == SGD(0.5)
    with pytest.raises(TypeError, match="expected learning_rate once"):
        SGD(0.5, lr=0.5)


def test_functions_on_lists_of_weights():
    ones, twos = [np.ones(2), np.ones((1, 3))], [np.full(2, 2.0), np.full((1, 3), 2.0)]
    for got, expected in [
        (functional_utils.add_params(ones, twos), 3.0),
        (functional_utils.subtract_params(ones, twos), -1.0),
        (functional_utils.divide_by(twos, 4), 0.5),
        (functional_utils.get_neutral(twos), 0.0),
        (functional_utils.average_and_subtract(ones, [ones, twos]), -0.5),
    ]:
        for array, like in zip(got, ones, strict=True):
            np.testing.assert_array_equal(array, np.full_like(like, expected))
    with pytest.raises(ValueError, match="deltas: expected at least one"):
        functional_utils.average_and_subtract(ones, [])


def test_determine_master(monkeypatch):
    monkeypatch.setenv("SPARK_LOCAL_IP", "10.1.2.3")
    assert determine_master() == SparkModel.determine_master() == "10.1.2.3:4000"
    assert determine_master(7) == "10.1.2.3:7"


SCRIPT = """
import sys
import numpy as np
from keras import Input
from keras.layers import Dense
from keras.models import Sequential
from pyspark import SparkConf, SparkContext
from sklearn.datasets import load_digits
from elephas.spark_model import SparkModel
from elephas.utils.rdd_utils import to_simple_rdd
from elephas import optimizers as elephas_optimizers

sc = SparkContext(conf=SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false"))
x, labels = load_digits(return_X_y=True)
x, y = (x / 16).astype("float32"), np.eye(10)[labels]
model = Sequential([Input((64,)), Dense(64, activation="relu"), Dense(10, activation="softmax")])
model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
spark_model = SparkModel(sc, model, optimizer=elephas_optimizers.SGD(lr=0.5), frequency="epoch",
                         mode="asynchronous", num_workers=2)
spark_model.train(to_simple_rdd(sc, x[:1400], y[:1400]), nb_epoch=25, batch_size=32, verbose=0, validation_split=0.1)


def seen_by_a_worker(_):
    import elephas.spark_model
    return elephas.spark_model.__name__


print("worker:", sc.parallelize([0]).map(seen_by_a_worker).first())
print("accuracy:", spark_model.evaluate(x[1400:], y[1400:], show_accuracy=True, verbose=0)[1])
"""


def test_a_script_of_2016_runs_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "mnist_mlp_spark.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "elephas_fast", str(script)],
        capture_output=True, text=True, timeout=240, env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
    )  # fmt: skip
    lines = dict(line.split(": ") for line in done.stdout.splitlines() if ": " in line)
    assert done.returncode == 0, done.stderr
    assert lines["worker"] == "elephas_fast.spark_model", done.stderr
    assert float(lines["accuracy"]) > 0.85
