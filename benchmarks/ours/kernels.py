"""elephas_fast's optimizers on one vector, the bare loop that moves the same bytes, and NumPy in place."""

from __future__ import annotations

import mmap
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


class Memory:
    """Vectors of a process that all kinds of contenders use in turn, because where in memory a vector lies can double
    the time that its bytes take. They are made anew, elsewhere, when another length is asked for or a kind that has had
    them begins again, so that no place decides.
    """

    def __init__(self) -> None:
        self._vectors: dict[str, np.ndarray] = {}
        self._had: set[str] = set()

    def begin(self, kind: str) -> None:
        """A block of this kind of contender begins."""
        if kind in self._had:
            self._vectors.clear()
            self._had.clear()
        self._had.add(kind)

    def take(self, name: str, values: np.ndarray) -> np.ndarray:
        """``values``, copied into the vector of that name, which begins on a multiple of 64 bytes."""
        if any(len(vector) != len(values) for vector in self._vectors.values()):
            self._vectors.clear()
        if name not in self._vectors:
            self._vectors[name] = fresh(len(values), len(self._vectors))
        self._vectors[name][:] = values
        return self._vectors[name]

    def slots(self, count: int, n: int) -> list[np.ndarray]:
        """``count`` vectors float32[n] of zeros."""
        return [self.take(f"slot {k}", np.zeros(n, np.float32)) for k in range(count)]


def fresh(n: int, number: int) -> np.ndarray:
    """float32[n] in pages that nothing has used before, in huge ones from 4 MiB on, as NumPy asks for them. Vectors of
    other numbers begin at other places of their pages: at the same one, each read would wait for the write before it.
    """
    start = number * 19 * 64
    room = mmap.mmap(-1, start + max(1, 4 * n), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if len(room) >= 1 << 22:
        room.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(room, np.float32, n, start)


def ours(rule: str, memory: Memory, weights: np.ndarray, gradient: np.ndarray, threads: int) -> Callable[[], object]:
    """One application in place per call; raises if an element is not finite."""
    name, arguments = RULES[rule]
    flat = FlatOptimizer(getattr(optimizers, name)(**arguments), Layout.vector(len(weights)), threads=threads)
    bound = flat.bind(weights, flat.initial_slots(memory.slots(SLOTS[rule], len(weights))))
    steps = count()

    def apply() -> None:
        if bound.apply(next(steps), gradient):
            raise AssertionError(f"{rule}: expected finite weights and slots")

    return apply


def prepare(kind: str, memory: Memory, rule: str, n: int, threads: int) -> tuple[np.ndarray, Callable[[], object]]:
    start, slope = problem(n)
    weights, gradient = memory.take("weights", start), memory.take("gradient", slope)
    if kind == "ours":
        return weights, ours(rule, memory, weights, gradient, threads)
    if kind == "numpy":
        return weights, numpy_rule(rule, weights, gradient)
    gradient *= np.float32(1e-6)
    return weights, bare_loop(weights, memory.slots(SLOTS[rule], n), [gradient], threads)


def after(kind: str, rule: str, n: int, steps: int) -> dict[str, Any]:
    """A sample of the weights after `steps` applications."""
    weights, apply = prepare(kind, Memory(), rule, n, 1)
    for _ in range(steps):
        apply()
    return {"weights": sample(weights)}


_memory = Memory()


def measure(kind: str, rule: str, n: int, seconds: float, threads: int) -> dict[str, Any]:
    """Seconds of each application; kind: 'ours', 'bare' or 'numpy' (which has one thread only)."""
    _memory.begin(kind)
    _, apply = prepare(kind, _memory, rule, n, threads)
    for _ in range(3):
        apply()
    return {"seconds": loop(apply, seconds, least=3)}


if __name__ == "__main__":
    serve({"after": after, "measure": measure})
