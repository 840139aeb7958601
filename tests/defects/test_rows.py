"""Which rows are trained, how often, and what each of them counts."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from elephas_fast import SparkModel
from elephas_fast import optimizers as elephas_optimizers
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.defects.linear import kernel, linear, local_change, partitions, random_rows

PLAIN = {"validation_split": 0.0, "verbose": 0, "shuffle": False}


@pytest.mark.parametrize("form", ["0.3", "2017", "0.4", "7"])
def test_defect_02_every_partition_counts_in_synchronous_mode(sc, form):
    """The new weights are the mean of all workers' weights. In 0.3 only the last partition counted, the master of 2017
    raised, 0.4 to 1.3 added where they had to average."""
    x, y = random_rows(32, 4)
    parts = [(x[:16], y[:16]), (x[16:], y[16:])]
    network = linear(4)
    model = {
        "0.3": lambda: SparkModel(sc, network, mode="synchronous", num_workers=2),
        "2017": lambda: SparkModel(
            sc, network, mode="synchronous", num_workers=2, master_optimizer=keras.optimizers.SGD(0.1),
            master_loss="mse", master_metrics=["mae"],
        ),
        "0.4": lambda: SparkModel(network, mode="synchronous", frequency="epoch", num_workers=2),
        "7": lambda: SparkModel(network, num_workers=2),
    }[form]()  # fmt: skip
    expected = np.zeros(4)
    for _ in range(2):
        expected = expected - np.mean([local_change(expected, *part, 0.1, 8) for part in parts], axis=0)
    model.fit(partitions(sc, parts), epochs=2, batch_size=8, **PLAIN)
    np.testing.assert_allclose(kernel(network), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["asynchronous", "hogwild"])
def test_defect_03_a_second_train_goes_on_from_the_first(sc, mode):
    x, y = random_rows(24, 4)
    rdd = to_simple_rdd(sc, x, y)
    results = []
    for epochs in ([2], [1, 1]):
        model = SparkModel(sc, linear(4), mode=mode, num_workers=1)
        for number in epochs:
            model.train(rdd, nb_epoch=number, batch_size=8, **PLAIN)
        results.append(kernel(model.master_network))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


def test_defect_04_batch_frequency_trains_all_rows(sc):
    """0.3 trained as many rows as there are features: here three, all of them zero."""
    x, y = np.zeros((40, 3), np.float32), np.ones(40, np.float32)
    x[3:] = 1.0
    model = SparkModel(sc, linear(3), mode="asynchronous", frequency="batch", num_workers=1)
    history = model.train(to_simple_rdd(sc, x, y), nb_epoch=1, batch_size=4, **PLAIN)
    assert [part.rows for part in history.partitions] == [40]
    assert history.updates == 10
    np.testing.assert_allclose(
        kernel(model.master_network), -local_change(np.zeros(3), x, y, 0.1, 4), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("frequency", ["epoch", "batch"])
def test_defect_05_nb_epoch_is_that_many_epochs(sc, frequency):
    x, y = random_rows(16, 2)
    model = SparkModel(
        sc, linear(2), frequency=frequency, mode="asynchronous", num_workers=1, master_loss="mse",
        master_optimizer=keras.optimizers.SGD(0.1),
    )  # fmt: skip
    history = model.train(to_simple_rdd(sc, x, y), nb_epoch=3, batch_size=8, **PLAIN)
    assert history.epoch == [0, 1, 2]
    assert history.updates == {"epoch": 3, "batch": 6}[frequency]
    expected = np.zeros(2)
    for _ in range(3):
        expected = expected - local_change(expected, x, y, 0.1, 8)
    np.testing.assert_allclose(kernel(model.master_network), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
def test_defect_09_small_partitions_are_trained(sc, mode):
    """Partitions of at most ``batch_size`` rows were skipped, and counted in the average all the same."""
    x, y = random_rows(13, 4)
    parts = [(x[:3], y[:3]), (x[3:11], y[3:11]), (x[11:11], y[11:11]), (x[11:], y[11:])]
    network = linear(4)
    model = SparkModel(network, mode=mode, server_optimizer=elephas_optimizers.SGD(1.0))
    history = model.fit(partitions(sc, parts), epochs=1, batch_size=8, **PLAIN)
    assert [part.rows for part in history.partitions] == [3, 8, 0, 2]
    assert [part is None for part in model.training_histories] == [False, False, True, False]
    if mode == "synchronous":
        changes = [local_change(np.zeros(4), *part, 0.1, 8) for part in parts]
        expected = -np.average(changes, axis=0, weights=[3, 8, 0, 2])
        np.testing.assert_allclose(kernel(network), expected, rtol=1e-5, atol=1e-6)
    else:
        assert history.updates == 3


def test_defect_17_late_partitions_do_not_train_last(sc):
    """Six partitions that each pull another way, on two task slots. Where two of them train after all others are done
    the model ends where these pull it to: 4.5. Here all train in turn, and after each epoch it is near the middle."""
    parts = [(np.ones((8, 1), np.float32), np.full(8, target, np.float32)) for target in range(6)]
    network = linear(1, rate=0.05)
    middle: list[float] = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: middle.append(float(kernel(network)[0])))
    history = SparkModel(network, mode="asynchronous", frequency="batch").fit(
        partitions(sc, parts), epochs=20, batch_size=8, verbose=0, callbacks=[watch]
    )
    assert len({part.pid for part in history.partitions}) <= 2
    assert history.updates == 120
    assert len(middle) == 20
    assert all(abs(weight - 2.5) < 1.0 for weight in middle[10:])


def test_defect_19_batch_size_and_epochs_need_not_be_given(sc):
    """The constructor's ``batch_size`` is used; without ``epochs`` there is one. Elephas raised for both."""
    x, y = random_rows(40, 4)
    for model, updates in (
        (SparkModel(linear(4), mode="asynchronous", frequency="batch", num_workers=1, batch_size=8), 5),
        (SparkModel(linear(4), mode="hogwild", frequency="batch", num_workers=1), 2),
        (SparkModel(linear(4), num_workers=1, batch_size=8), 1),
    ):
        history = model.fit(to_simple_rdd(sc, x, y), verbose=0)
        assert history.epoch == [0]
        assert history.updates == updates


def test_defect_25_synchronous_workers_keep_model_optimizer_and_rows(sc):
    """One worker in synchronous mode is Keras' own fit, Adam's moments included, and reads its rows once."""
    x, y = random_rows(32, 4)
    read = sc.accumulator(0)

    def counted(row):
        read.add(1)
        return row

    networks = [linear(4), linear(4)]
    for network in networks:
        network.compile(keras.optimizers.Adam(0.05), "mse")
    rows = sc.parallelize(list(zip(x, y, strict=True)), 1)
    SparkModel(networks[0], num_workers=1).fit(rows.map(counted), epochs=5, batch_size=8, **PLAIN)
    networks[1].fit(x, y, epochs=5, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(kernel(networks[0]), kernel(networks[1]), rtol=1e-5, atol=1e-6)
    assert len(x) <= read.value <= 2 * len(x)  # the first rows once more, to be looked at before training
