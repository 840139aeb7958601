"""Fits one after the other, at once, interrupted and failing; afterwards nothing of ours is left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from elephas_fast import SparkModel
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.spark.conftest import assert_nothing_left, dense_model, own_leftovers, tiny_model


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
def test_fit_twice_goes_on(sc, digits, mode):
    x, y, _, _ = digits
    spark_model = SparkModel(dense_model(), mode=mode, frequency="batch", num_workers=2)
    rdd = to_simple_rdd(sc, x, y)
    first = spark_model.fit(rdd, epochs=2, verbose=0)
    second = spark_model.fit(rdd, epochs=2, verbose=0)
    assert second.history["loss"][0] < first.history["loss"][0]
    assert_nothing_left()


@pytest.mark.fault(19)
def test_descriptors_threads_and_memory_do_not_grow(sc, how_many, injected):
    x, y = np.ones((16, 4), np.float32), np.ones(16, np.float32)
    rdd = to_simple_rdd(sc, x, y)
    model = tiny_model()
    fits = how_many(5, 50)

    def once():
        SparkModel(model, mode="asynchronous", num_workers=2).fit(rdd, epochs=1, verbose=0)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return len(os.listdir("/proc/self/fd")), threading.active_count(), resident

    once()
    seen = [once() for _ in range(1 + fits)]
    before, after = seen[0], seen[-1]
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1]
    settled = seen[fits // 5][2]
    assert after[2] <= 1.01 * settled + how_many(8, 0) * 2**20
    injected(fits=fits, descriptors_more=after[0] - before[0], threads_more=after[1] - before[1],
             resident_kB_more_after_a_fifth=(after[2] - settled) // 1024)  # fmt: skip


@pytest.mark.fault(16)
def test_fits_at_once_give_what_each_gives_alone(sc, how_many, injected):
    rng = np.random.default_rng(0)
    count = how_many(4, 8)
    data = [(rng.normal(size=(40, 4)).astype(np.float32), rng.normal(size=40).astype(np.float32)) for _ in range(count)]
    models = [tiny_model("adam") for _ in range(count)]

    def train(model, x, y):
        SparkModel(model, mode="synchronous", num_workers=2).fit(
            to_simple_rdd(sc, x, y), epochs=2, verbose=0, seed=1, batch_size=8
        )

    alone = []
    for x, y in data:
        model = tiny_model("adam")
        train(model, x, y)
        alone.append(model.get_weights())
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(train, model, *rows) for model, rows in zip(models, data, strict=True)]
        for one in running:
            one.result(120)
    for model, expected in zip(models, alone, strict=True):
        for got, value in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(got, value)
    assert_nothing_left()
    injected(fits_at_once=count, different=0)


@pytest.mark.fault(22)
def test_a_failing_worker_ends_the_fit_and_leaves_the_weights(sc):
    def broken(pair):
        raise RuntimeError("this row cannot be read")

    model = tiny_model()
    before = model.get_weights()
    rdd = to_simple_rdd(sc, np.ones((8, 4), np.float32), np.arange(8, dtype=np.float32))
    bad = rdd.map(lambda pair: pair if pair[1] < 5 else broken(pair))
    with pytest.raises(Exception, match="this row cannot be read"):
        SparkModel(model, mode="asynchronous").fit(bad, epochs=1, verbose=0)
    for got, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, value)
    assert_nothing_left(within=20.0)


def kill_servers():
    import signal

    for pid in own_leftovers()["servers"]:
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.fault(8)
@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
def test_a_killed_server_is_followed_by_another_and_the_fit_goes_on(sc, mode):
    import keras

    rdd = to_simple_rdd(sc, np.ones((64, 4), np.float32), np.ones(64, np.float32))
    history = SparkModel(tiny_model(), mode=mode, num_workers=2, frequency="batch", batch_size=8).fit(
        rdd, epochs=6, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: kill_servers())]
    )
    assert history.epoch == list(range(6))
    assert history.faults["restarted"] >= 5
    assert history.updates == (24 if mode == "synchronous" else 48)
    assert_nothing_left(within=20.0)


@pytest.mark.fault(8)
def test_a_lost_server_ends_the_fit_with_its_address(sc, monkeypatch):
    import keras

    from elephas_fast.cluster import ServerLost

    def kill(epoch, logs):
        monkeypatch.setattr("sys.executable", "/bin/false")
        kill_servers()

    rdd = to_simple_rdd(sc, np.ones((64, 4), np.float32), np.ones(64, np.float32))
    began = time.monotonic()
    with pytest.raises((ServerLost, ConnectionError), match=r"127\.0\.0\.1"):
        SparkModel(tiny_model(), mode="asynchronous", num_workers=2, server_timeout=10.0).fit(
            rdd, epochs=50, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=kill)]
        )
    assert time.monotonic() - began < 60
    assert_nothing_left(within=20.0)


def test_a_job_that_never_trains_has_an_end(sc):
    rdd = to_simple_rdd(sc, np.ones((8, 4), np.float32), np.ones(8, np.float32))
    slow = rdd.map(lambda pair: time.sleep(3) or pair)  # four to a worker
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no worker has trained anything for 3 s"):
        SparkModel(tiny_model(), mode="asynchronous", num_workers=2, straggler_timeout=3.0).fit(slow, verbose=0)
    assert time.monotonic() - began < 60
    assert_nothing_left(within=20.0)


def run_script(name: str, *arguments: str) -> str:
    """The output of a script of this folder, run in a process of its own to its successful end."""
    script = Path(__file__).with_name(name)
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


NOTHING = "left: {'servers': set(), 'sockets': set(), 'threads': set(), 'shared memory': set()}"


@pytest.mark.fault(21)
def test_interrupt_and_fit_again(how_many, injected):
    """An interrupt amid a fit keeps the last weights, and the next fit works at once."""
    times = how_many(1, 20)
    output = run_script("interrupted.py", str(times))
    assert output.count("interrupted after 2 epochs, then trained 2 epochs") == times
    assert NOTHING in output
    injected(interrupts=times, fits_afterwards=times)
