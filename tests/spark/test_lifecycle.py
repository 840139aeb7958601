"""Fits one after the other, at once, interrupted and failing; afterwards nothing of ours is left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
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
def test_descriptors_and_threads_do_not_grow(sc):
    x, y = np.ones((16, 4), np.float32), np.ones(16, np.float32)
    rdd = to_simple_rdd(sc, x, y)
    model = tiny_model()

    def once():
        SparkModel(model, mode="asynchronous", num_workers=2).fit(rdd, epochs=1, verbose=0)
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    once()
    before = once()
    after = [once() for _ in range(5)][-1]
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1]


@pytest.mark.fault(16)
def test_four_fits_at_once_give_what_each_gives_alone(sc):
    rng = np.random.default_rng(0)
    data = [(rng.normal(size=(40, 4)).astype(np.float32), rng.normal(size=40).astype(np.float32)) for _ in range(4)]
    models = [tiny_model("adam") for _ in range(4)]
    alone = []
    for x, y in data:
        model = tiny_model("adam")
        SparkModel(model, mode="synchronous", num_workers=2).fit(
            to_simple_rdd(sc, x, y), epochs=2, verbose=0, seed=1, batch_size=8
        )
        alone.append(model.get_weights())
    errors: list[BaseException] = []

    def run(model, x, y):
        try:
            SparkModel(model, mode="synchronous", num_workers=2).fit(
                to_simple_rdd(sc, x, y), epochs=2, verbose=0, seed=1, batch_size=8
            )
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(m, *d)) for m, d in zip(models, data, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors
    for model, expected in zip(models, alone, strict=True):
        for got, value in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(got, value)
    assert_nothing_left()


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


def run_script(name: str) -> str:
    """The output of a script of this folder, run in a process of its own to its successful end."""
    script = Path(__file__).with_name(name)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


NOTHING = "left: {'servers': set(), 'sockets': set(), 'threads': set(), 'shared memory': set()}"


@pytest.mark.fault(21)
def test_interrupt_and_fit_again():
    """An interrupt amid a fit keeps the last weights, and the next fit works at once."""
    output = run_script("interrupted.py")
    assert "interrupted after 2 epochs" in output
    assert "then trained 2 epochs" in output
    assert NOTHING in output
