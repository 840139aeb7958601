"""elephas_fast's fused work on one vector under Adam (copy: under SGD too), and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.bare import bare_loop
from benchmarks.conversation import serve
from benchmarks.loops import loop
from benchmarks.ours.kernels import Memory
from benchmarks.rules import SLOTS, problem
from elephas_fast import _core

NUMBERS = {"SGD": [0.01], "Adam": [0.001, 0.1, 0.001, 1e-7]}
GRADIENTS = 4
SHARES = [1.0, 2.0, 3.0, 2.0]


class Problem:
    """Weights, slots in both formats, gradients and an output, float32[n] each, made when first asked for."""

    def __init__(self, memory: Memory, rule: str, n: int, threads: int) -> None:
        self.memory, self.rule, self.n, self.threads, self.numbers = memory, rule, n, threads, NUMBERS[rule]
        weights, self._gradient = problem(n)
        self.weights = memory.take("weights", weights)
        self.copy = memory.take("copy", np.zeros(n, np.float32))
        self.seed = 0

    def slots(self) -> list[np.ndarray]:
        return self.memory.slots(SLOTS[self.rule], self.n)

    def half_slots(self) -> list[np.ndarray]:
        return [slot.view(np.uint16)[: self.n] for slot in self.slots()]

    def gradients(self, count: int) -> list[np.ndarray]:
        return [self.memory.take(f"gradient {k}", self._gradient * np.float32(1 + k / 8)) for k in range(count)]

    def zeros(self, count: int) -> list[np.ndarray]:
        """Gradients that change nothing."""
        return [self.memory.take(f"gradient {k}", np.zeros(self.n, np.float32)) for k in range(count)]

    def halves(self) -> np.ndarray:
        out = self.zeros(1)[0].view(np.uint16)[: self.n]
        _core.encode_bfloat16(self._gradient, out)
        return out

    def bound(self) -> _core.Bound:
        return _core.Kernel(self.rule.lower()).bind(self.weights, self.slots(), threads=self.threads)

    def pushes(self, slot_dtype: str, gradients: list[np.ndarray]) -> Callable[[], object]:
        """All gradients in one pass."""
        kernel, numbers = _core.PushKernel(self.rule.lower(), slot_dtype), [self.numbers] * len(gradients)
        slots = self.half_slots() if slot_dtype == "bfloat16" else self.slots()

        def apply() -> None:
            self.seed += 1
            kernel.each(numbers, self.weights, slots, gradients, seed=self.seed, threads=self.threads)

        return apply


def one_pass(p: Problem) -> Callable[[], object]:
    return p.pushes("float32", p.gradients(GRADIENTS))


def a_pass_each(p: Problem) -> Callable[[], object]:
    bound, gradients = p.bound(), p.gradients(GRADIENTS)

    def apply() -> None:
        for gradient in gradients:
            bound.apply(p.numbers, gradient)

    return apply


def copied_in_the_pass(p: Problem) -> Callable[[], object]:
    bound, (gradient,) = p.bound(), p.gradients(1)
    return lambda: bound.apply(p.numbers, gradient, copy_to=p.copy)


def copied_after(p: Problem) -> Callable[[], object]:
    bound, (gradient,) = p.bound(), p.gradients(1)

    def apply() -> None:
        bound.apply(p.numbers, gradient)
        _core.copy(p.weights, p.copy, p.threads)

    return apply


def plain(p: Problem) -> Callable[[], object]:
    bound, (gradient,) = p.bound(), p.gradients(1)
    return lambda: bound.apply(p.numbers, gradient)


def scaled(p: Problem) -> Callable[[], object]:
    bound, (gradient,) = p.bound(), p.gradients(1)
    return lambda: bound.apply(p.numbers, gradient, 0.5)


def mean(p: Problem) -> Callable[[], object]:
    kernel, slots, gradients = _core.PushKernel(p.rule.lower()), p.slots(), p.gradients(GRADIENTS)
    return lambda: kernel.mean(p.numbers, p.weights, slots, gradients, SHARES, threads=p.threads)


def mean_before(p: Problem) -> Callable[[], object]:
    bound, gradients, out = p.bound(), p.gradients(GRADIENTS), np.empty(p.n, np.float32)

    def apply() -> None:
        _core.weighted_mean(gradients, SHARES, out, p.threads)
        bound.apply(p.numbers, out)

    return apply


def half_gradient(p: Problem) -> Callable[[], object]:
    return p.pushes("float32", [p.halves()])


def half_slots(p: Problem) -> Callable[[], object]:
    return p.pushes("bfloat16", p.gradients(1))


def bare(p: Problem, gradients: list[np.ndarray]) -> Callable[[], object]:
    return bare_loop(p.weights, p.slots(), gradients, p.threads)


KINDS: dict[str, Callable[[Problem], Callable[[], object]]] = {
    "four pushes, one pass": one_pass,
    "four pushes, a pass each": a_pass_each,
    "copied in the pass": copied_in_the_pass,
    "copied after": copied_after,
    "plain": plain,
    "scaled": scaled,
    "mean of four": mean,
    "mean of four before": mean_before,
    "bfloat16 gradient": half_gradient,
    "bfloat16 slots": half_slots,
    "bare loop": lambda p: bare(p, p.zeros(1)),
    "bare loop, 16-bit gradient": lambda p: bare(p, [p.zeros(1)[0].view(np.int16)[: p.n]]),
    "bare loop, four gradients": lambda p: bare(p, p.zeros(GRADIENTS)),
}
# Kind, the kind whose weights it must have after three steps, and how far the furthest may be.
EQUAL = [
    ("four pushes, one pass", "four pushes, a pass each", 0.0),
    ("copied in the pass", "copied after", 0.0),
    ("mean of four", "mean of four before", 0.0),
    ("bfloat16 gradient", "plain", 1e-4),
    ("bfloat16 slots", "plain", 1e-4),
]


def check(n: int) -> dict[str, Any]:
    """Nothing, if every kind in `EQUAL` leaves the weights it must; AssertionError otherwise."""
    for kind, other, tolerance in EQUAL:
        left, right = Problem(Memory(), "Adam", n, 1), Problem(Memory(), "Adam", n, 1)
        for p, name in ((left, kind), (right, other)):
            apply = KINDS[name](p)
            for _ in range(3):
                apply()
        furthest = max(
            float(np.max(np.abs(left.weights - right.weights))), float(np.max(np.abs(left.copy - right.copy)))
        )
        if furthest > tolerance:
            raise AssertionError(f"{kind} against {other}: expected weights within {tolerance}, differ by {furthest}")
    return {}


_memory = Memory()


def measure(kind: str, rule: str, n: int, seconds: float, threads: int) -> dict[str, Any]:
    """Seconds of each application; kind: a key of `KINDS`."""
    _memory.begin(kind)
    apply = KINDS[kind](Problem(_memory, rule, n, threads))
    for _ in range(2):
        apply()
    return {"seconds": loop(apply, seconds, least=3)}


if __name__ == "__main__":
    serve({"check": check, "measure": measure})
