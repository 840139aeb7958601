"""One Spark context for the whole suite (starting one costs seconds), models and rows small enough for two cores."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

import keras  # noqa: E402
from pyspark import SparkConf, SparkContext  # noqa: E402


@pytest.fixture(scope="session")
def sc() -> Iterator[SparkContext]:
    conf = (
        SparkConf()
        .setMaster("local[2]")
        .setAppName("elephas_fast tests")
        .set("spark.ui.enabled", "false")
        .set("spark.ui.showConsoleProgress", "false")
        .set("spark.driver.memory", "2g")
        .set("spark.driver.host", "127.0.0.1")
    )
    context = SparkContext(conf=conf)
    context.setLogLevel("ERROR")
    yield context
    context.stop()


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's digits: 1,437 rows to train on and 360 to test, 64 pixels in [0, 1], one-hot targets."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x = (data.data[order] / 16.0).astype(np.float32)
    y = np.eye(10, dtype=np.float32)[data.target[order]]
    return x[:1437], y[:1437], x[1437:], y[1437:]


def dense_model(optimizer: object = "adam", seed: int = 1, metrics: tuple[str, ...] = ("accuracy",)) -> keras.Model:
    """64-64-10, compiled."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer, "categorical_crossentropy", metrics=list(metrics))
    return model


def tiny_model(optimizer: object = "sgd") -> keras.Model:
    """4-1, compiled, for tests that count rows and not accuracy."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def own_leftovers() -> dict[str, set[str]]:
    """What a fit could leave behind: server processes, sockets with our name, threads, shared memory."""
    import threading

    servers = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            with open(f"/proc/{pid}/stat") as file:
                parent = file.read().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if b"elephas_fast.server" in words and parent == str(os.getpid()):
            servers.add(pid)
    with open("/proc/net/unix") as file:
        names = {line.split()[-1] for line in file if "elephas_fast" in line}
    return {
        "servers": servers,
        "sockets": names,
        "threads": {t.name for t in threading.enumerate() if t.name.startswith("elephas_fast")},
        "shared memory": {name for name in os.listdir("/dev/shm") if "elephas" in name},
    }


def assert_nothing_left(within: float = 0.0) -> None:
    """Nothing of ours is left, at the latest after ``within`` seconds (Spark takes some to end cancelled tasks)."""
    deadline = time.monotonic() + within
    while any(own_leftovers().values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(own_leftovers().values()), own_leftovers()
