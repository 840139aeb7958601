"""Bad input: one sentence on the driver, before any Spark job starts."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from elephas_fast import SparkModel
from elephas_fast.spark.fit import NonFiniteUpdate
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.spark.conftest import dense_model, tiny_model

X, Y = np.ones((32, 4), np.float32), np.ones(32, np.float32)


def jobs(sc):
    return sc._jsc.sc().dagScheduler().numTotalJobs()


def not_compiled():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def in_float64():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, dtype="float64", name="wide")])
    model.compile("sgd", "mse")
    return model


BAD_MODELS = {
    "not compiled": (not_compiled, ValueError, "not compiled"),
    "not built": (lambda: _compiled(keras.Sequential([keras.layers.Dense(1)])), ValueError, "no weights yet"),
    "no model": (lambda: object(), ValueError, "keras.Model"),
    "float64 weights": (in_float64, ValueError, "wide.*float64"),
}


def _compiled(model):
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("case", BAD_MODELS)
def test_models(sc, case):
    make, error, words = BAD_MODELS[case]
    before = jobs(sc)
    with pytest.raises(error, match=words) as caught:
        SparkModel(make(), num_workers=2)
    one_sentence(caught)
    assert jobs(sc) == before


BAD_CONSTRUCTION = {
    "mode": ({"mode": "sync"}, ValueError, "mode: expected one of .*got 'sync'"),
    "frequency": ({"frequency": "minute"}, ValueError, "frequency: .*got 'minute'"),
    "frequency 0": ({"frequency": 0}, ValueError, "frequency: .*got 0"),
    "keyword": ({"freqency": "batch"}, TypeError, "'freqency': did you mean 'frequency'"),
    "server mode": ({"parameter_server_mode": "carrier pigeon"}, ValueError, "parameter_server_mode: .*carrier pigeon"),
    "transport": ({"transport": "rdma"}, ValueError, "transport: .*'rdma'"),
    "inproc": ({"transport": "inproc"}, ValueError, "transport: 'inproc' stays within one process"),
    "batch size": ({"batch_size": 0}, ValueError, "batch_size: .*got 0"),
    "workers": ({"num_workers": 0}, ValueError, "num_workers: .*got 0"),
    "port": ({"port": 70000}, ValueError, "port: .*got 70000"),
    "staleness": ({"mode": "synchronous", "staleness": 2}, ValueError, "staleness"),
    "access without hogwild": ({"mode": "asynchronous", "access": "relaxed"}, ValueError, "access: .*asynchronous"),
    "port without tcp": ({"port": 4000, "transport": "shm"}, ValueError, "port: .*4000 .*'shm'"),
    "access": ({"mode": "hogwild", "access": "polite"}, ValueError, "access: .*'polite'"),
}


@pytest.mark.parametrize("case", BAD_CONSTRUCTION)
def test_construction(sc, case):
    options, error, words = BAD_CONSTRUCTION[case]
    before = jobs(sc)
    with pytest.raises(error, match=words) as caught:
        SparkModel(tiny_model(), **options)
    one_sentence(caught)
    assert jobs(sc) == before


BAD_FITS = {
    "keyword": ({"epoch": 3}, TypeError, "'epoch': did you mean 'epochs'"),
    "epochs": ({"epochs": 0}, ValueError, "epochs: .*got 0"),
    "batch size": ({"batch_size": 0}, ValueError, "batch_size: .*got 0"),
    "batch size text": ({"batch_size": "32"}, TypeError, "batch_size: .*got '32'"),
    "validation split": ({"validation_split": 1.0}, ValueError, "validation_split: .*got 1.0"),
    "negative split": ({"validation_split": -0.1}, ValueError, "validation_split: .*got -0.1"),
    "verbose": ({"verbose": 7}, ValueError, "verbose: .*got 7"),
    "callbacks": ({"callbacks": ["early stopping"]}, TypeError, "callbacks: expected keras.callbacks.Callback"),
    "on_nonfinite": ({"on_nonfinite": "ignore"}, ValueError, "on_nonfinite: .*'ignore'"),
}


@pytest.mark.parametrize("case", BAD_FITS)
def test_fit_options(sc, case):
    options, error, words = BAD_FITS[case]
    rdd = to_simple_rdd(sc, X, Y)
    before = jobs(sc)
    with pytest.raises(error, match=words) as caught:
        SparkModel(tiny_model(), num_workers=2).fit(rdd, **{"verbose": 0, **options})
    one_sentence(caught)
    assert jobs(sc) == before


def test_server_optimizers(sc):
    rdd = to_simple_rdd(sc, X, Y)
    before = jobs(sc)
    with pytest.raises(ValueError, match=r"optimizer.*adamant") as caught:
        SparkModel(tiny_model(), num_workers=2, server_optimizer="adamant").fit(rdd, verbose=0)
    one_sentence(caught)
    with pytest.raises(ValueError, match=r"(?i)optimizer.*ftrl") as caught:
        SparkModel(tiny_model(), num_workers=2, server_optimizer=keras.optimizers.Ftrl()).fit(rdd, verbose=0)
    one_sentence(caught)
    assert jobs(sc) == before


def test_rows(sc):
    spark_model = SparkModel(tiny_model(), num_workers=2)
    wide = to_simple_rdd(sc, np.ones((8, 5), np.float32), np.ones(8, np.float32))
    empty = to_simple_rdd(sc, np.ones((0, 4), np.float32), np.ones(0, np.float32))
    before = jobs(sc)
    with pytest.raises(ValueError, match=r"row 0: x: expected shape \(4,\), got \(5,\)"):
        spark_model.fit(wide, verbose=0)
    with pytest.raises(ValueError, match="at least one row"):
        spark_model.fit(empty, verbose=0)
    with pytest.raises(TypeError, match="rdd: expected a Spark RDD"):
        spark_model.fit(X, verbose=0)
    assert jobs(sc) == before
    with pytest.raises(ValueError, match="at least one row"):
        spark_model.fit(sc.parallelize([]), verbose=0)
    with pytest.raises(ValueError, match=r"row 0: expected \(x, y\)"):
        spark_model.fit(sc.parallelize([1.0, 2.0]), verbose=0)


def test_targets_the_loss_does_not_take(sc, digits):
    x, y, _, _ = digits
    spark_model = SparkModel(dense_model(), num_workers=2)
    labels = to_simple_rdd(sc, x, y.argmax(1))
    before = jobs(sc)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"targets of int64\[\] a row") as caught:
            spark_model.fit(labels, verbose=0)
        one_sentence(caught)
    assert jobs(sc) == before


def test_different_numbers_of_rows(sc):
    with pytest.raises(ValueError, match="features: 32, labels: 31"):
        to_simple_rdd(sc, X, Y[:31])


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
def test_a_nan_update_is_refused_and_counted(sc, mode):
    x = X.copy()
    x[3, 2] = np.nan
    model = tiny_model()
    before = model.get_weights()
    history = SparkModel(model, mode=mode, num_workers=1).fit(to_simple_rdd(sc, x, Y), epochs=2, verbose=0)
    assert history.faults["nonfinite"] == 2
    assert history.updates == 0
    for got, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, value)


def test_a_nan_update_can_raise_or_be_applied(sc):
    x = X.copy()
    x[0] = np.inf
    rdd = to_simple_rdd(sc, x, Y)
    model = tiny_model()
    before = model.get_weights()
    with pytest.raises(NonFiniteUpdate, match="NaN or infinity"):
        SparkModel(model, mode="asynchronous", num_workers=1, on_nonfinite="raise").fit(rdd, epochs=50, verbose=0)
    for got, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, value)
    SparkModel(model, mode="asynchronous", num_workers=1, on_nonfinite="apply").fit(rdd, epochs=1, verbose=0)
    assert not np.all(np.isfinite(model.get_weights()[0]))


def test_a_taken_port_is_said(sc):
    import socket

    from elephas_fast.cluster import ServerLost

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerLost, match=str(port)):
            SparkModel(tiny_model(), num_workers=2, port=port).fit(to_simple_rdd(sc, X, Y), verbose=0)


def one_sentence(caught):
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 300
