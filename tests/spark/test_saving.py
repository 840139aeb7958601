"""One file for model and configuration, which Keras reads too."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from elephas_fast import SparkModel, load_spark_model
from elephas_fast.optimizers import Adagrad
from tests.spark.conftest import dense_model


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_round_trip(tmp_path, suffix):
    model = dense_model()
    file = tmp_path / f"model{suffix}"
    SparkModel(
        model, mode="hogwild", frequency=5, num_workers=3, batch_size=17, access="relaxed",
        parameter_server_mode="http",
        server_optimizer=Adagrad(0.25),
    ).save(file)  # fmt: skip
    loaded = load_spark_model(file)
    assert loaded.server_optimizer == Adagrad(0.25)
    for name in ("model", "model.h5.keras", "model.keras.h5"):
        (other := tmp_path / name).write_bytes(file.read_bytes())
        np.testing.assert_array_equal(load_spark_model(str(other)).weights[0], model.get_weights()[0])
    assert (loaded.mode, loaded.frequency, loaded.num_workers, loaded.batch_size) == ("hogwild", 5, 3, 17)
    assert loaded.config.access == "relaxed"
    assert loaded.parameter_server_mode == "http"
    for a, b in zip(model.get_weights(), loaded.master_network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    by_keras = keras.models.load_model(file)
    np.testing.assert_array_equal(by_keras.get_weights()[0], model.get_weights()[0])


def test_does_not_overwrite_unless_asked(tmp_path):
    file = str(tmp_path / "model.keras")
    spark_model = SparkModel(dense_model(), mode="synchronous")
    spark_model.save(file)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        spark_model.save(file)
    spark_model.save(file, overwrite=True)


def test_bad_names(tmp_path):
    spark_model = SparkModel(dense_model())
    with pytest.raises(ValueError, match=r"\.keras or \.h5"):
        spark_model.save(str(tmp_path / "model.pkl"))
    with pytest.raises(FileNotFoundError, match="no file"):
        load_spark_model(str(tmp_path / "none.keras"))
    (tmp_path / "text.h5").write_text("no model")
    with pytest.raises(ValueError, match=r"as HDF5 or as a zip archive, got .*text.h5"):
        load_spark_model(tmp_path / "text.h5")
    plain = str(tmp_path / "plain.keras")
    dense_model().save(plain)
    with pytest.raises(ValueError, match="no SparkModel"):
        load_spark_model(plain)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_in_a_hadoop_file_system(sc, tmp_path, suffix):
    target = f"file://{tmp_path}/deep/er/model{suffix}"
    model = SparkModel(dense_model(), mode="hogwild", num_workers=2)
    model.save(target)
    for loaded in (load_spark_model(target), load_spark_model(target[len("file://") :], from_hadoop=True)):
        assert loaded.mode == "hogwild"
        for one, other in zip(loaded.weights, model.weights, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        model.save(target)
    model.save(target, overwrite=True)
    with pytest.raises(FileNotFoundError, match=r"there is no file file:///nowhere"):
        load_spark_model("file:///nowhere/model.keras")
    with pytest.raises(OSError, match=r"no file system for unheard://x/model\.keras"):
        model.save("unheard://x/model.keras")
    with pytest.raises(ValueError, match="expected a name ending in"):
        model.save("hdfs://x/model", to_hadoop=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("loss", ["bce", "kld", "mae", "mape", "mse", "msle", "MSE", "log_cosh"])
def test_losses_by_their_short_names_come_back_from_hdf5(tmp_path, loss):
    """Keras' own ``load_model`` does not find them."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", loss, metrics=["mse"])
    file = str(tmp_path / "m.h5")
    SparkModel(model).save(file)
    x, y = np.full((4, 3), 0.5, np.float32), np.full((4, 1), 0.25, np.float32)
    loaded = load_spark_model(file)
    np.testing.assert_allclose(loaded.evaluate(x, y), model.evaluate(x, y, verbose=0), rtol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_metrics_keep_their_names(tmp_path, suffix):
    """A loss and a metric of one name; Keras itself loads a metric named by a string from HDF5 under its full name."""
    wrapped = [keras.metrics.MeanMetricWrapper(keras.losses.get(name), name=name) for name in ("mse", "mae")]
    for metrics in (wrapped, ["mse", "mae"]) if suffix == ".keras" else (wrapped,):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile("sgd", "mse", metrics=metrics)
        x, y = np.ones((8, 4), np.float32), np.zeros((8, 2), np.float32)
        model.train_on_batch(x, y)
        file = str(tmp_path / f"{type(metrics[0]).__name__}{suffix}")
        SparkModel(model).save(file)
        logs = load_spark_model(file).evaluate(x, y, return_dict=True)
        assert logs == pytest.approx(model.evaluate(x, y, return_dict=True, verbose=0))
        assert set(logs) == {"loss", "mse", "mae"}
