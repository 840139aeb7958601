"""Elephas' workers driven by hand, as scripts for ``elephas.worker`` do it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from elephas_fast.enums.frequency import Frequency
from elephas_fast.parameter import HttpClient, HttpServer
from elephas_fast.spark_model import AsynchronousSparkWorker, SparkWorker
from elephas_fast.utils.functional_utils import average_and_subtract
from elephas_fast.worker import AsynchronousSparkWorker as FromWorker
from tests.spark.conftest import dense_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 64)).astype(np.float32)
Y = np.eye(10, dtype=np.float32)[RNG.integers(0, 10, 100)]
ROWS = list(zip(X, Y, strict=True))
OPTIONS = {"epochs": 2, "batch_size": 16, "shuffle": False}


def compiled(model):
    return (keras.optimizers.serialize(model.optimizer), model.loss, ["accuracy"], None)


def test_workers_on_partitions_as_elephas_ran_them(sc):
    model = dense_model("adam")
    broadcast = sc.broadcast(model.get_weights())
    worker = SparkWorker(model.to_json(), broadcast, OPTIONS, *compiled(model))
    results = sc.parallelize(ROWS, 2).mapPartitions(worker.train).collect()
    assert [set(history) for _, history in results] == [{"loss", "accuracy"}] * 2
    alone = []
    for part in (slice(0, 50), slice(50, 100)):
        other = dense_model("adam")
        history = other.fit(X[part], Y[part], verbose=0, **OPTIONS).history
        np.testing.assert_allclose(results[len(alone)][1]["loss"], history["loss"], rtol=1e-5)
        alone.append(other.get_weights())
    averaged = average_and_subtract(model.get_weights(), [delta for delta, _ in results])
    for got, one, two in zip(averaged, *alone, strict=True):
        np.testing.assert_allclose(got, (one + two) / 2, rtol=1e-4, atol=1e-6)


def test_few_rows_are_trained_and_none_are_no_error():
    model = dense_model("sgd")
    worker = SparkWorker(model.to_json(), model.get_weights(), {"nb_epoch": 1, "batch_size": 32}, *compiled(model))
    ((delta, history),) = worker.train(iter(ROWS[:5]))
    assert len(history["loss"]) == 1
    assert any(np.any(d) for d in delta)
    ((delta, history),) = worker.train(iter([]))
    assert history is None
    assert not any(np.any(d) for d in delta)


@pytest.mark.parametrize(("frequency", "pushes"), [(Frequency.EPOCH, 2), ("batch", 14), (3, 6)])
def test_asynchronous_workers_push_to_a_server(sc, frequency, pushes):
    assert FromWorker is AsynchronousSparkWorker
    model = dense_model("sgd")
    with HttpServer(model, None) as server:
        client = HttpClient(server.port)
        worker = AsynchronousSparkWorker(
            model.to_json(), sc.broadcast(model.get_weights()), client, OPTIONS, frequency, *compiled(model)
        )
        assert sc.parallelize(ROWS, 1).mapPartitions(worker.train).collect() == [[]]
        assert server._cluster.version == pushes
        alone = dense_model("sgd")
        alone.fit(X, Y, verbose=0, **OPTIONS)
        for got, expected in zip(server.weights, alone.get_weights(), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_several_inputs_and_validation_rows():
    one, two = keras.Input((3,), name="one"), keras.Input((2,), name="two")
    joined = keras.layers.concatenate([one, two])
    model = keras.Model([one, two], [keras.layers.Dense(1)(joined), keras.layers.Dense(2)(joined)])
    rows = [((np.ones(3), np.zeros(2)), (np.ones(1), np.ones(2))) for _ in range(20)]
    options = {"epochs": 1, "batch_size": 4, "validation_split": 0.2}
    ((_, history),) = SparkWorker(model.to_json(), None, options, "adam", ["mse", "mae"]).train(rows)
    assert "val_loss" in history
    with HttpServer(model, None) as server:
        client = HttpClient(server.port)
        list(
            AsynchronousSparkWorker(model.to_json(), None, client, options, "batch", "adam", ["mse", "mae"]).train(rows)
        )
        assert server._cluster.version == 4
        client.close()


def test_arguments():
    model = dense_model("sgd")
    with pytest.raises(ValueError, match="client: expected 'http', 'socket' or a client, got 'ftp'"):
        AsynchronousSparkWorker(model.to_json(), None, "ftp", {}, "epoch")
    with pytest.raises(ValueError, match="frequency: expected 'epoch', 'batch' or a number of batches, got 'fit'"):
        AsynchronousSparkWorker(model.to_json(), None, "http", {}, "fit")
    with pytest.raises(ValueError, match="json: Keras could not build a model of it"):
        list(SparkWorker("backend: tensorflow", [], {}).train([]))
