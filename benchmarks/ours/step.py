"""One step of an elephas_fast worker with `frequency='batch'`: the real worker loop against a real server, no Spark.

The time of a step is the slope between a short and a long run of the loop, so that connecting, collecting rows and
the first trace do not count.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.conversation import serve
from benchmarks.loops import loop
from benchmarks.peers.task import LEARNING_RATE, network, synthetic
from elephas_fast.batches import Arrays
from elephas_fast.cluster import ParameterCluster
from elephas_fast.config import TrainingConfig
from elephas_fast.keras_bridge import describe, layout_of, private, runtime, steps, weights_of
from elephas_fast.keras_bridge.structure import structure_of
from elephas_fast.layout import Float32Array
from elephas_fast.optimizers import SGD, FlatOptimizer
from elephas_fast.worker import WorkerTask, run_worker


class Worker:
    """A worker's task for one network, way in and kind of update. The model's own optimizer is plain SGD."""

    def __init__(self, units: list[int], transport: str, mode: str, update: str, prefetch: int = 0):
        self.options: dict[str, Any] = {
            "mode": mode, "transport": transport, "update": update, "prefetch": prefetch,
        }  # fmt: skip
        model = network(units, "sgd", seed=0)
        self.spec = describe(model, update=update)  # type: ignore[arg-type]
        self.layout = layout_of(model)
        self.initial = weights_of(model, self.layout)[0]
        self.optimizer = SGD(LEARNING_RATE if update == "gradient" else 1.0)

    def run(self, batches: int) -> tuple[float, Float32Array]:
        """Trains `batches` batches of 32 rows in order. Returns seconds and the server's weights at the end."""
        rows = Arrays(*((array,) for array in synthetic(32 * batches)))
        config = TrainingConfig(frequency="batch", batch_size=32, shuffle=False, verbose=0, **self.options)
        with ParameterCluster(
            self.initial, optimizer=self.optimizer, layout=self.layout, mode=config.mode,
            transport=config.transport, partitions=1,
        ) as cluster:  # fmt: skip
            task = WorkerTask(cluster.address, self.spec, config, seed=0, threads=1)
            begin = time.perf_counter()
            run_worker(task, [(0, *rows.split(0.0))], attempt=0)
            return time.perf_counter() - begin, cluster.pull()


def after(units: list[int], batches: int, **options: Any) -> dict[str, Any]:
    """Some weights after `batches` steps."""
    worker = Worker(units, **options)
    flat = worker.run(batches)[1]
    weights = [flat[t.offset : t.offset + t.size] for t in worker.layout.tensors]
    joined = np.concatenate(weights)
    return {"weights": [float(value) for value in joined[:: len(joined) // 97]]}


def measure(units: list[int], batches: int, **options: Any) -> dict[str, Any]:
    """Seconds of one step: the slope between `batches` and three times as many."""
    worker = Worker(units, **options)
    worker.run(8)
    short, long = worker.run(batches)[0], worker.run(3 * batches)[0]
    return {"seconds": [(long - short) / (2 * batches)]}


def bare(units: list[int], seconds: float) -> dict[str, Any]:
    """Seconds of what cannot be left out of a step: TensorFlow's executor on the gradient function of a batch that is a
    tensor already, and one application of the SGD kernel. No server, no rows.
    """
    import tensorflow as tf

    model = network(units, "sgd", seed=0)
    layout, (x, y) = layout_of(model), synthetic(32)
    function = steps.gradient_function(model, structure_of(model))
    call = private.flat_call(function.prepare(steps.Signature.of(Arrays((x,), (y,)))).call)
    batch = [tf.constant(x), tf.constant(y)]
    kernel = FlatOptimizer(SGD(LEARNING_RATE), layout).bind(layout.new_flat()[: layout.trainable_size], ())

    def step() -> None:
        kernel.apply(0, [np.asarray(tensor) for tensor in call(batch)])

    for _ in range(5):
        step()
    return {"seconds": loop(step, seconds)}


if __name__ == "__main__":
    runtime.start(threads=1)
    serve({"after": after, "measure": measure, "bare": bare})
