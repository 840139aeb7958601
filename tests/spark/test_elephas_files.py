"""Files of ``SparkModel.save`` that Elephas itself wrote: of 7.3, and of 0.4 to 6, which are files of Keras 2."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from elephas_fast import AsynchronousSparkModel, SparkMLlibModel, SparkModel, load_spark_model
from elephas_fast.optimizers import Adagrad
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.fixtures.layers import Scaled
from tests.spark.conftest import assert_nothing_left

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def written_by_elephas(folder: Path, name: str, config: dict[str, Any], class_name: str = "SparkModel") -> str:
    """A copy of a file of Keras 2 with the attribute that Elephas put beside the model."""
    file = folder / f"{name}.h5"
    shutil.copyfile(FIXTURES / "keras_2" / f"{name}.h5", file)
    with h5py.File(file, "r+") as opened:
        opened.attrs["distributed_config"] = json.dumps({"class_name": class_name, "config": config}).encode("utf8")
    return str(file)


SECOND_TO_SIXTH = {
    "parameter_server_mode": "http", "mode": "hogwild", "frequency": "batch", "num_workers": 2, "batch_size": 16,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("spark_model", SparkModel, ("synchronous", "epoch", 2, 16)),
        ("spark_model_with_layer", SparkModel, ("synchronous", "epoch", 2, 32)),
        ("asynchronous_spark_model", AsynchronousSparkModel, ("hogwild", "batch", 2, 64)),
        ("spark_mllib_model", SparkMLlibModel, ("synchronous", "epoch", 2, 32)),
    ],
)
def test_what_elephas_7_3_saved_predicts_the_same(name, kind, expected):
    custom = {"Scaled": Scaled} if name.endswith("layer") else None
    model = load_spark_model(str(FIXTURES / f"elephas_7_3/{name}.h5"), custom_objects=custom)
    assert type(model) is kind
    assert (model.mode, model.frequency, model.num_workers, model.batch_size) == expected
    with np.load(FIXTURES / f"elephas_7_3/{name}.npz") as data:
        np.testing.assert_allclose(np.asarray(model.predict(data["x"])), data["predicted"], atol=1e-6)
    assert isinstance(model.master_optimizer, keras.optimizers.RMSprop)
    assert keras.losses.get(model.master_loss) is keras.losses.categorical_crossentropy


def test_what_elephas_did_not_know_is_left_out_with_one_warning():
    file = str(FIXTURES / "elephas_7_3/spark_model_with_keywords.h5")
    with pytest.warns(
        UserWarning, match=r"left out of the configuration in .* SparkModel does not know: nb_workers$"
    ) as w:
        model = load_spark_model(file)
    assert len(w) == 1
    assert w[0].filename == __file__
    assert (model.mode, model.frequency, model.num_workers, model.port) == ("asynchronous", "batch", 2, 4567)
    assert model.parameter_server_mode == "socket"


def test_a_layer_of_ones_own_has_to_be_given():
    with pytest.raises((TypeError, ValueError), match="Scaled"):
        load_spark_model(str(FIXTURES / "elephas_7_3/spark_model_with_layer.h5"))


@pytest.mark.parametrize("name", ["dense", "objects", "recurrent", "convolution", "graph", "embedding"])
def test_files_of_keras_2_predict_and_evaluate_the_same(tmp_path, name):
    model = load_spark_model(written_by_elephas(tmp_path, name, SECOND_TO_SIXTH))
    assert (model.mode, model.frequency, model.num_workers, model.batch_size) == ("hogwild", "batch", 2, 16)
    with np.load(FIXTURES / f"keras_2/{name}.npz") as data:
        np.testing.assert_allclose(np.asarray(model.predict(data["x"])), data["predicted"], atol=1e-6)
        logs = model.evaluate(data["x"], data["y"], return_dict=True)
        assert logs == pytest.approx(dict(zip(data["names"].tolist(), data["values"].tolist(), strict=True)), abs=1e-5)
    model.save(str(tmp_path / "again.keras"))
    again = load_spark_model(str(tmp_path / "again.keras"))
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_optimizers_of_keras_2_keep_their_settings(tmp_path):
    rule = load_spark_model(written_by_elephas(tmp_path, "dense", SECOND_TO_SIXTH)).master_optimizer
    rates = [float(rule._learning_rate(step)) for step in (0, 1000)]
    assert rates == pytest.approx([0.1, 0.05])
    assert rule.momentum == pytest.approx(0.9)
    rule = load_spark_model(written_by_elephas(tmp_path, "objects", SECOND_TO_SIXTH)).master_optimizer
    assert isinstance(rule, keras.optimizers.Adam)
    assert float(rule._learning_rate(10)) == pytest.approx(0.009)


def test_what_keras_3_lacks_is_named_in_one_warning(tmp_path):
    file = written_by_elephas(tmp_path, "dense", SECOND_TO_SIXTH)
    with h5py.File(file, "r+") as opened:
        training = json.loads(opened.attrs["training_config"])
        training["optimizer_config"]["config"]["warp"] = 9
        opened.attrs["training_config"] = json.dumps(training).encode()
    with pytest.warns(UserWarning, match="optimizer SGD: left out warp of the file, which Keras 3 does not have") as w:
        load_spark_model(file)
    assert len(w) == 1


def test_the_oldest_keras_2_wrote_a_bare_list_of_layers(tmp_path):
    """Until 2.2.2; and ``lr`` for the learning rate, metrics as names."""
    file = written_by_elephas(tmp_path, "dense", {**SECOND_TO_SIXTH, "mode": "synchronous"})
    with h5py.File(file, "r+") as opened:
        model = json.loads(opened.attrs["model_config"])
        layers = [layer for layer in model["config"]["layers"] if layer["class_name"] != "InputLayer"]
        opened.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers}).encode()
        training = {
            "optimizer_config": {"class_name": "Adam", "config": {"lr": 0.02, "decay": 0.0, "beta_1": 0.8}},
            "loss": "categorical_crossentropy", "metrics": ["acc"], "sample_weight_mode": None, "loss_weights": None,
        }  # fmt: skip
        opened.attrs["training_config"] = json.dumps(training).encode()
        opened.attrs["keras_version"] = b"2.1.6"
    loaded = load_spark_model(file)
    with np.load(FIXTURES / "keras_2/dense.npz") as data:
        np.testing.assert_allclose(np.asarray(loaded.predict(data["x"])), data["predicted"], atol=1e-6)
        assert len(loaded.evaluate(data["x"], data["y"])) == 2
    assert float(loaded.master_optimizer.learning_rate) == pytest.approx(0.02)
    assert loaded.master_optimizer.beta_1 == 0.8


def test_the_servers_optimizer_of_0_4(tmp_path):
    fourth = {
        **SECOND_TO_SIXTH,
        "mode": "asynchronous",
        "elephas_optimizer": {"name": "Adagrad", "lr": 0.1, "epsilon": 1e-6},
    }
    model = load_spark_model(written_by_elephas(tmp_path, "dense", fourth))
    assert model.server_optimizer == Adagrad(0.1, initial_accumulator_value=0.0, epsilon=1e-6)
    default = {"name": "SGD", "lr": 0.01, "momentum": 0.0, "decay": 0.0, "nesterov": False}
    model = load_spark_model(written_by_elephas(tmp_path, "dense", {**fourth, "elephas_optimizer": default}))
    assert model.server_optimizer is None


def test_keywords_of_an_early_script_that_later_elephas_kept(tmp_path):
    config = {**SECOND_TO_SIXTH, "master_optimizer": "sgd", "master_loss": "mse", "nb_epoch": 5, "verbose": None}
    with pytest.warns(UserWarning, match="SparkMLlibModel does not know: master_loss, master_optimizer, nb_epoch$"):
        model = load_spark_model(written_by_elephas(tmp_path, "dense", config, "SparkMLlibModel"))
    assert type(model) is SparkMLlibModel
    assert keras.losses.get(model.master_loss) is keras.losses.categorical_crossentropy


@pytest.mark.parametrize("name", ["dense", "recurrent"])
def test_a_loaded_model_goes_on_training(sc, tmp_path, name):
    model = load_spark_model(written_by_elephas(tmp_path, name, SECOND_TO_SIXTH))
    with np.load(FIXTURES / f"keras_2/{name}.npz") as data:
        x, y = data["x"], data["y"]
    rdd = to_simple_rdd(sc, np.repeat(x, 8, axis=0), np.repeat(y, 8, axis=0))
    before = model.evaluate(x, y, return_dict=True)["loss"]
    history = model.fit(rdd, epochs=4, verbose=0, seed=1)
    assert len(history.history["loss"]) == 4
    assert model.evaluate(x, y, return_dict=True)["loss"] < before
    assert_nothing_left(within=10)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_code_in_a_file_is_not_run(tmp_path):
    """A Lambda layer holds the user's code: refused for files of Keras 2 and 3, and nothing of it runs."""
    witness = tmp_path / "ran"
    function = eval(f"lambda x: (open({str(witness)!r}, 'w').close(), x)[1]")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(function), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    witness.unlink()
    file = str(tmp_path / "lambda.h5")
    model.save(file)
    with h5py.File(file, "r+") as opened:
        opened.attrs["distributed_config"] = json.dumps({"class_name": "SparkModel", "config": {"num_workers": 2}})
    for version in (b"3.15.1", b"2.4.0"):
        with h5py.File(file, "r+") as opened:
            opened.attrs["keras_version"] = version
        with warnings.catch_warnings(), pytest.raises((ValueError, TypeError), match=r"(?i)lambda"):
            load_spark_model(file)
    assert not witness.exists()
