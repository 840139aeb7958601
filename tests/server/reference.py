"""What a server should hold, worked out on plain arrays in the test's own process."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from elephas_fast.cluster import ParameterCluster
from elephas_fast.layout import Layout, TensorSpec
from elephas_fast.optimizers import FlatOptimizer, Optimizer
from elephas_fast.store import ParameterStore

MODEL = Layout.build(
    [
        TensorSpec("kernel", (9, 7), "float32", True),
        TensorSpec("bias", (7,), "float32", True),
        TensorSpec("moving", (5,), "float32", False),
        TensorSpec("counter", (3,), "int64", False),
    ]
)

Vector = NDArray[np.float32]


def normal(size: int, seed: int) -> Vector:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def model_vector(seed: int) -> Vector:
    """A flat vector of MODEL with zeros in its padding."""
    flat = np.zeros(MODEL.size, np.float32)
    for begin, end in MODEL.ranges:
        flat[begin:end] = normal(end - begin, seed + begin)
    return flat


class Reference:
    """What the store should hold, worked out on plain arrays."""

    def __init__(
        self, initial: Vector, optimizer: Optimizer, layout: Layout | None = None, state_rate: float = 1.0
    ) -> None:
        self.weights = initial.copy()
        layout = Layout.vector(len(initial)) if layout is None else layout
        self.split = layout.trainable_size
        self.rule = FlatOptimizer(optimizer, layout)
        self.slots = self.rule.initial_slots()
        self.rate = np.float32(state_rate)
        self.version = 0

    def push(self, gradient: Vector) -> None:
        self.rule.apply(self.version, self.weights[: self.split], self.slots, gradient[: self.split])
        state = self.weights[self.split :]
        values = gradient[self.split :]
        state[:] = values if self.rate == 1.0 else state + self.rate * (values - state)
        self.version += 1

    def check(self, store: ParameterStore | ParameterCluster) -> None:
        np.testing.assert_array_equal(store.pull(), self.weights)
        assert list(store.slots) == list(self.rule.slot_names)
        for name, expected in zip(self.rule.slot_names, self.slots, strict=True):
            np.testing.assert_array_equal(store.slots[name], expected)
        assert store.version == self.version
