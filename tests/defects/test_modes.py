"""Modes that were not what they were called, and updates that were lost or applied twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from elephas_fast import AsynchronousSparkModel, SparkModel
from elephas_fast.enums.frequency import Frequency
from elephas_fast.enums.modes import Mode
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.defects.linear import free_port, kernel, linear, listens, partitions, random_rows
from tests.spark.conftest import own_leftovers

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mode", [Mode.ASYNCHRONOUS, "hogwild"])
def test_defect_10_mode_frequency_and_port_mean_what_they_say(sc, mode):
    """7.x took them for unknown keywords and trained synchronously, without a server."""
    port, seen = free_port(), []
    model = SparkModel(
        linear(4), num_workers=2, mode=mode, frequency=Frequency.BATCH, parameter_server_mode="http", port=port
    )
    assert (model.mode, model.frequency, model.port) == (Mode(mode).value, "batch", port)
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(listens(port)))
    history = model.fit(
        to_simple_rdd(sc, *random_rows(32, 4)), epochs=2, batch_size=8, verbose=0, callbacks=[watch]
    )  # fmt: skip
    assert history.updates == 2 * 2 * 2
    assert seen == [True, True]
    assert not listens(port)


@pytest.mark.parametrize("server", ["http", "socket"])
def test_defect_12_the_same_asynchronous_model_fits_again(sc, server):
    port = free_port()
    model = AsynchronousSparkModel(linear(4, rate=0.02), num_workers=2, parameter_server_mode=server, port=port)
    x, _ = random_rows(64, 4)
    rdd = to_simple_rdd(sc, x, x.sum(axis=1))
    losses = [model.fit(rdd, epochs=3, batch_size=8, verbose=0).history["loss"] for _ in range(3)]
    assert losses[1][0] < losses[0][0] / 2
    assert losses[2][0] < losses[1][0] / 2
    assert not listens(port)
    assert not own_leftovers()["servers"]


def test_defect_12_the_server_ends_when_a_task_fails(sc):
    def broken(row):
        raise RuntimeError("no such row")

    port = free_port()
    model = AsynchronousSparkModel(linear(4), num_workers=2, port=port)
    good = to_simple_rdd(sc, *random_rows(16, 4))
    first = good.first()
    bad = good.map(lambda row: row if np.array_equal(row[0], first[0]) else broken(row))
    with pytest.raises(Exception, match="no such row"):
        model.fit(bad, epochs=1, verbose=0)
    assert not listens(port)
    assert not own_leftovers()["servers"]
    assert model.fit(good, epochs=1, verbose=0).updates == 2


def test_defect_15_hogwild_loses_no_update(sc):
    """Each batch adds the same power of two to each weight, so that sums are exact: none of two workers' updates is
    missing, on none of the weights."""
    width, rows, epochs, step = 20_000, 50, 8, 2.0**-10
    part = (np.ones((rows, width), np.float32), np.full(rows, 2.0**20, np.float32))
    network = linear(width, rate=step, loss="mae")
    history = SparkModel(network, mode="hogwild", frequency="batch").fit(
        partitions(sc, [part, part]), epochs=epochs, batch_size=1, verbose=0
    )
    assert history.updates == 2 * rows * epochs
    np.testing.assert_array_equal(kernel(network), np.full(width, 2 * rows * epochs * step, np.float32))


@pytest.mark.fault(1)
def test_defect_16_a_task_started_again_applies_no_round_twice():
    """A worker is killed amid a fit, in each mode; Spark starts its task again. The script fails where the number of
    updates is not that of an undisturbed fit, and says what is left at its end."""
    script = ROOT / "tests/spark/retried.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=240, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for mode in ("synchronous", "asynchronous", "hogwild"):
        assert f"{mode} updates" in done.stdout
    assert "left: {'servers': set(), 'sockets': set(), 'threads': set(), 'shared memory': set()}" in done.stdout


@pytest.mark.parametrize("mode", ["asynchronous", "hogwild"])
@pytest.mark.parametrize("frequency", ["epoch", "batch"])
def test_defect_24_updates_by_http_arrive(sc, mode, frequency):
    """In 7.1.0 the server refused each of them."""
    network = linear(4)
    history = AsynchronousSparkModel(
        network, mode=mode, frequency=frequency, parameter_server_mode="http", num_workers=2, port=free_port()
    ).fit(to_simple_rdd(sc, *random_rows(32, 4)), epochs=2, batch_size=8, verbose=0)
    assert history.updates == {"epoch": 4, "batch": 8}[frequency]
    assert not any(history.faults.values())
    assert np.all(kernel(network) != 0)
