"""A real model on real Spark in every mode and frequency."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from elephas_fast import SparkModel
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.spark.conftest import assert_nothing_left, dense_model


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
@pytest.mark.parametrize(("frequency", "epochs"), [("epoch", 12), ("batch", 8), (4, 10)])
def test_reaches_a_good_accuracy(sc, digits, mode, frequency, epochs, capsys):
    x, y, x_test, y_test = digits
    model = dense_model()
    spark_model = SparkModel(model, mode=mode, frequency=frequency, num_workers=2)
    history = spark_model.fit(
        to_simple_rdd(sc, x, y), epochs=epochs, batch_size=32, verbose=0, validation_split=0.1, seed=7
    )
    assert capsys.readouterr().out == ""
    loss, accuracy = spark_model.evaluate(x_test, y_test)
    assert accuracy >= 0.90
    assert loss < 1.0
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(len(values) == epochs for values in history.history.values())
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert history.epoch == list(range(epochs))
    assert sum(p.rows for p in history.partitions) + sum(p.validation_rows for p in history.partitions) == len(x)
    assert not any(history.faults.values())
    assert len(spark_model.training_histories) == 2
    assert all(len(h["val_accuracy"]) == epochs for h in spark_model.training_histories)
    assert_nothing_left()


@pytest.mark.parametrize("transport", ["shm", "ipc", "tcp"])
@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
def test_every_transport_trains(sc, digits, mode, transport):
    x, y, x_test, y_test = digits
    spark_model = SparkModel(dense_model(), mode=mode, frequency=8, num_workers=2, transport=transport)
    history = spark_model.fit(to_simple_rdd(sc, x, y), epochs=6, verbose=0, seed=1)
    assert {p.transport for p in history.partitions} == {transport}
    assert spark_model.evaluate(x_test, y_test)[1] > 0.8


def test_same_synchronous_result_whatever_the_transport(sc, digits):
    x, y, _, _ = digits
    weights = []
    for transport in ("shm", "tcp"):
        model = dense_model()
        SparkModel(model, mode="synchronous", num_workers=2, transport=transport).fit(
            to_simple_rdd(sc, x, y), epochs=2, verbose=0, seed=5
        )
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_keras_own_seed_repeats_a_fit(sc, digits):
    x, y, _, _ = digits
    rdd = to_simple_rdd(sc, x, y)

    def trained(seed):
        model = dense_model()
        keras.utils.set_random_seed(seed)
        SparkModel(model, mode="synchronous", num_workers=2).fit(rdd, epochs=1, verbose=0)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    first = trained(5)
    np.testing.assert_array_equal(trained(5), first)
    assert np.any(trained(6) != first)


def test_synchronous_is_the_mean_of_local_training(sc):
    """Two partitions, plain SGD, one epoch a round: the weights are the row-weighted mean of two local fits."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 64)).astype(np.float32)
    y = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 96)]
    rows = list(zip(x, y, strict=True))
    rdd = sc.parallelize([(0, 64), (64, 96)], 2).flatMap(lambda border: rows[slice(*border)])
    model = dense_model("sgd")
    start = model.get_weights()
    SparkModel(model, mode="synchronous").fit(rdd, epochs=1, batch_size=16, shuffle=False, verbose=0)
    local = []
    for part in (slice(0, 64), slice(64, 96)):
        other = dense_model("sgd")
        other.set_weights(start)
        other.fit(x[part], y[part], batch_size=16, epochs=1, shuffle=False, verbose=0)
        local.append(other.get_weights())
    for got, one, two in zip(model.get_weights(), *local, strict=True):
        np.testing.assert_allclose(got, (64 * one + 32 * two) / 96, rtol=1e-5, atol=1e-6)


def test_staleness_bound_trains(sc, digits):
    x, y, _, _ = digits
    spark_model = SparkModel(dense_model(), mode="asynchronous", frequency="batch", num_workers=2, staleness=1)
    history = spark_model.fit(to_simple_rdd(sc, x, y), epochs=2, verbose=0)
    assert max(history.staleness) <= 2.0
    assert history.history["loss"][1] < history.history["loss"][0]


def test_default_mode_is_told_by_the_form():
    assert SparkModel(dense_model(), num_workers=2).mode == "synchronous"
    assert SparkModel(dense_model(), frequency="batch").mode == "asynchronous"
    assert SparkModel(dense_model(), parameter_server_mode="http").mode == "asynchronous"
    assert SparkModel(dense_model(), "hogwild").mode == "hogwild"


def test_server_optimizer_by_object_keras_and_name(sc, digits):
    import keras

    from elephas_fast.optimizers import Adagrad

    x, y, _, _ = digits
    for optimizer in (Adagrad(learning_rate=0.05), keras.optimizers.Adagrad(0.05), "sgd"):
        model = dense_model("sgd")
        before = model.get_weights()
        history = SparkModel(
            model, mode="asynchronous", frequency="batch", num_workers=2, server_optimizer=optimizer
        ).fit(to_simple_rdd(sc, x[:320], y[:320]), epochs=1, verbose=0)
        assert history.updates == 10
        assert any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
