"""`pytest benchmarks --benchmark-only`: 64 rounds of a worker, and 64 batches of Keras; the weights checked first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.ours.step import Worker
from benchmarks.ours.step import after as our_weights
from benchmarks.peers.keras_step import after as keras_weights
from benchmarks.peers.task import network, synthetic

UNITS, BATCHES = [128, 128], 64


@pytest.mark.parametrize(("mode", "update"), [("hogwild", "gradient"), ("hogwild", "delta"), ("asynchronous", "delta")])
def test_worker(benchmark: Any, mode: str, update: str) -> None:
    options: dict[str, Any] = {"transport": "shm", "mode": mode, "update": update}
    expected = keras_weights(UNITS, 8)["weights"]
    np.testing.assert_allclose(our_weights(UNITS, 8, **options)["weights"], expected, rtol=1e-4, atol=1e-5)
    worker = Worker(UNITS, **options)
    benchmark.group = f"{BATCHES} batches"
    benchmark.pedantic(worker.run, (BATCHES,), rounds=3, warmup_rounds=1)


def test_keras(benchmark: Any) -> None:
    model = network(UNITS, "sgd", seed=0)
    x, y = synthetic(32 * BATCHES)

    def train() -> None:
        for begin in range(0, len(x), 32):
            model.train_on_batch(x[begin : begin + 32], y[begin : begin + 32])

    benchmark.group = f"{BATCHES} batches"
    benchmark.pedantic(train, rounds=3, warmup_rounds=1)
