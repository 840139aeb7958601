"""elephas_fast's optimizers on one vector, the bare loop that moves the same bytes, and NumPy in place."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from benchmarks.bare import bare_loop
from benchmarks.conversation import serve
from benchmarks.loops import loop
from benchmarks.rules import RULES, SLOTS, numpy_rule, problem, sample
from elephas_fast import optimizers
from elephas_fast.layout import Layout
from elephas_fast.optimizers import FlatOptimizer


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy of float32[n] that starts on a multiple of 64 bytes, as the parameter store keeps it."""
    room = np.empty(values.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy: np.ndarray = room[start : start + values.nbytes].view(np.float32)
    copy[:] = values
    return copy


def ours(rule: str, weights: np.ndarray, gradient: np.ndarray, threads: int) -> Callable[[], object]:
    """One application in place per call; raises if an element is not finite."""
    name, arguments = RULES[rule]
    flat = FlatOptimizer(getattr(optimizers, name)(**arguments), Layout.vector(len(weights)), threads=threads)
    bound = flat.bind(weights, tuple(aligned(slot) for slot in flat.initial_slots(None)))
    steps = count()

    def apply() -> None:
        if bound.apply(next(steps), gradient):
            raise AssertionError(f"{rule}: expected finite weights and slots")

    return apply


def prepare(kind: str, rule: str, n: int, threads: int) -> tuple[np.ndarray, Callable[[], object]]:
    weights, gradient = (aligned(values) for values in problem(n))
    if kind == "ours":
        return weights, ours(rule, weights, gradient, threads)
    if kind == "numpy":
        return weights, numpy_rule(rule, weights, gradient)
    slots = [aligned(np.zeros(n, np.float32)) for _ in range(SLOTS[rule])]
    return weights, bare_loop(weights, slots, [gradient * np.float32(1e-6)], threads)


def after(kind: str, rule: str, n: int, steps: int) -> dict[str, Any]:
    """A sample of the weights after `steps` applications."""
    weights, apply = prepare(kind, rule, n, 1)
    for _ in range(steps):
        apply()
    return {"weights": sample(weights)}


def measure(kind: str, rule: str, n: int, seconds: float, threads: int) -> dict[str, Any]:
    """Seconds of each application; kind: 'ours', 'bare' or 'numpy' (which has one thread only)."""
    _, apply = prepare(kind, rule, n, threads)
    for _ in range(3):
        apply()
    return {"seconds": loop(apply, seconds, least=3)}


if __name__ == "__main__":
    serve({"after": after, "measure": measure})
