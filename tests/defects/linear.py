"""Linear models whose training can be followed with pencil and paper, and RDDs with chosen partitions."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from pyspark import RDD, SparkContext


def linear(width: int, *, rate: float = 0.1, loss: str = "mse", outputs: int = 1, **layer: Any) -> keras.Model:
    """``width`` weights, no bias, all zero; compiled with plain SGD."""
    options = {"use_bias": False, "kernel_initializer": "zeros", **layer}
    model = keras.Sequential([keras.Input((width,)), keras.layers.Dense(outputs, **options)])
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


def random_rows(rows: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """float32[rows, width] and float32[rows]."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, width)).astype(np.float32), rng.normal(size=rows).astype(np.float32)


def partitions(sc: SparkContext, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> RDD[Any]:
    """An RDD with the rows of each ``(x, y)`` in a partition of its own."""

    def rows(index: int, _: Any) -> Any:
        return zip(*parts[index], strict=True)

    return sc.parallelize(range(len(parts)), len(parts)).mapPartitionsWithIndex(rows)


def local_change(weights: np.ndarray, x: np.ndarray, y: np.ndarray, rate: float, batch: int) -> np.ndarray:
    """before - after of one epoch of plain SGD on the mean squared error, in float64."""
    after = weights.astype(np.float64)
    for i in range(0, len(x), batch):
        a, b = x[i : i + batch].astype(np.float64), y[i : i + batch].astype(np.float64)
        after = after - rate * 2 / len(a) * a.T @ (a @ after - b)
    return weights - after


def kernel(model: keras.Model) -> np.ndarray:
    """The weights, flat."""
    return np.asarray(model.get_weights()[0]).ravel()


def free_port() -> int:
    """A TCP port of loopback that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody takes connections on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
