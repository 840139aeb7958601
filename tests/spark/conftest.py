"""Models and rows small enough for two cores; what a fit could leave behind."""

from __future__ import annotations

import os
import time
import warnings

warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

import keras  # noqa: E402

from tests import ours  # noqa: E402


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
    return {
        "servers": servers,
        "sockets": ours.sockets(),
        "threads": {t.name for t in threading.enumerate() if t.name.startswith("elephas_fast")},
        "shared memory": {name for name in ours.shared_memory() if "elephas" in name},
    }


def assert_nothing_left(within: float = 0.0) -> None:
    """Nothing of ours is left, at the latest after ``within`` seconds (Spark takes some to end cancelled tasks)."""
    deadline = time.monotonic() + within
    while any(own_leftovers().values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(own_leftovers().values()), own_leftovers()
