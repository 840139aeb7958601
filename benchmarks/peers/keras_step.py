"""One training step in plain Keras, one thread: `train_on_batch`, Elephas' way around it, a gradient `tf.function`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.conversation import serve
from benchmarks.loops import loop
from benchmarks.peers.task import network, synthetic

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


def train_on_batch(model: Any, x: np.ndarray, y: np.ndarray) -> None:
    model.train_on_batch(x, y)


def elephas_step(model: Any, x: np.ndarray, y: np.ndarray) -> None:
    """What Elephas 7.3.0's asynchronous worker does for a batch, without the parameter server."""
    before = model.get_weights()
    model.set_weights(before)
    model.train_on_batch(x, y)
    [old - new for old, new in zip(before, model.get_weights(), strict=True)]


def gradient_only(model: Any) -> Callable[[Any, np.ndarray, np.ndarray], None]:
    """Loss and gradients in one traced function, applied nowhere."""

    @tf.function  # type: ignore[untyped-decorator]
    def gradients(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    return lambda _, x, y: gradients(tf.constant(x), tf.constant(y))


def after(units: list[int], batches: int) -> dict[str, Any]:
    """Some weights after one `train_on_batch` for each of the first batches."""
    model = network(units, "sgd", seed=0)
    x, y = synthetic(32 * batches)
    for begin in range(0, len(x), 32):
        model.train_on_batch(x[begin : begin + 32], y[begin : begin + 32])
    flat = np.concatenate([weights.ravel() for weights in model.get_weights()])
    return {"weights": [float(value) for value in flat[:: len(flat) // 97]]}


def measure(kind: str, units: list[int], seconds: float) -> dict[str, Any]:
    """Seconds of each step; kind: 'train_on_batch', 'elephas' or 'gradient'."""
    model = network(units, "sgd", seed=0)
    steps = {"train_on_batch": train_on_batch, "elephas": elephas_step, "gradient": gradient_only(model)}
    x, y = synthetic(32 * 64)
    batches = cycle([(x[begin : begin + 32], y[begin : begin + 32]) for begin in range(0, len(x), 32)])
    for _ in range(5):
        steps[kind](model, *next(batches))
    return {"seconds": loop(lambda: steps[kind](model, *next(batches)), seconds)}


if __name__ == "__main__":
    serve({"after": after, "measure": measure})
