"""The task every fit contender is given: the same network, seed, optimizer, loss and rows.

It runs in each contender's environment: only Keras and NumPy.
"""

from __future__ import annotations

import socket
from typing import Any

import numpy as np

LEARNING_RATE = 0.02  # of plain SGD; Adam has its own default


def synthetic(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """float32[rows, 784] and int32[rows] labels, the same on every call."""
    random = np.random.default_rng(3)
    return random.random((rows, 784), np.float32), random.integers(0, 10, rows).astype(np.int32)


def network(units: list[int], optimizer: str, seed: int) -> Any:
    """A compiled 784-units-10 classifier, initialised from `seed`; optimizer: 'sgd' or 'adam'."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(width, activation="relu") for width in units]
    model = keras.Sequential([keras.Input((784,)), *layers, keras.layers.Dense(10, activation="softmax")])
    chosen = keras.optimizers.SGD(LEARNING_RATE) if optimizer == "sgd" else keras.optimizers.Adam(0.001)
    model.compile(chosen, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def free_port() -> int:
    """A TCP port of loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def peak_memory() -> float:
    """The most memory this process has had resident, in MiB; on Linux."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


class Rows:
    """The rows of an npz file that `benchmarks.data.write` made."""

    def __init__(self, path: str):
        with np.load(path) as file:
            self.x_train, self.y_train = file["x_train"], file["y_train"]
            self.x_test, self.y_test = file["x_test"], file["y_test"]

    def accuracy(self, model: Any) -> float:
        """Share of the test rows that `model` classifies right."""
        scores = model.predict(self.x_test, batch_size=1000, verbose=0)
        return float(np.mean(np.argmax(scores, axis=1) == self.y_test))
