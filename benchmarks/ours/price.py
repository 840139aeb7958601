"""What the protections of a push cost: pushes of a client on the server's host beside the same kernel called bare."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

import numpy as np

from benchmarks.conversation import serve
from benchmarks.loops import loop
from elephas_fast import _core
from elephas_fast.client.local import LocalPath
from elephas_fast.layout import Layout
from elephas_fast.optimizers import SGD, Adam, FlatOptimizer, Optimizer
from elephas_fast.store import ParameterStore
from elephas_fast.store.in_place import stripe_of

RULES: Final[dict[str, Callable[[], Optimizer]]] = {
    "SGD": lambda: SGD(learning_rate=1.0),
    "Adam": lambda: Adam(learning_rate=0.001),
}
ACCESS: Final = {"hogwild": "stripes", "asynchronous": "atomic"}


class Place:
    """One vector in shared memory, float32[n], which a client on the server's host pushes to."""

    def __init__(self, mode: str, rule: str, n: int) -> None:
        self.rule, self.n = rule, n
        self.store = ParameterStore(np.zeros(n, np.float32), RULES[rule](), access=ACCESS[mode], lines=4, shared=True)
        admitted = self.store.ledger.hello(0, 0)
        assert admitted is not None
        self._local, self._clock = LocalPath(self.store, 0, admitted[0]), 0
        self._update = np.ones(n, np.float32)

    def push(self, finite: bool) -> None:
        """With all protections: the end of the fit, the fence, the ledger and, unless the sender knows that all is
        ``finite``, a look at each number."""
        self._clock += 1
        self._local.push(self._clock, self._update, finite=finite)

    def bare(self) -> Callable[[], object]:
        """The kernel on the same memory, in place, under the same locks if the store has any for its stripes."""
        segment = self.store.segment
        optimizer = FlatOptimizer(RULES[self.rule](), Layout.vector(self.n), access="racy")
        stripes = None
        if len(segment.stripes):
            stripes = _core.Stripes(segment.stripes, np.zeros(1, np.uint64), self.n, stripe_of(self.n))
        bound = optimizer.bind(segment.weights[0], segment.slots[0], stripes=stripes)
        steps = iter(range(2**62))
        return lambda: bound.apply(next(steps), self._update, start=0)


KINDS: Final[dict[str, Callable[[Place], Callable[[], object]]]] = {
    "delta": lambda where: partial(where.push, finite=True),
    "gradient": lambda where: partial(where.push, finite=False),
    "bare": Place.bare,
}


@cache
def place(mode: str, rule: str, n: int) -> Place:
    return Place(mode, rule, n)


def operation(kind: str, mode: str, rule: str, n: int) -> Callable[[], object]:
    """``kind``: a key of ``KINDS``."""
    return KINDS[kind](place(mode, rule, n))


def check(mode: str, rule: str, n: int) -> dict[str, Any]:
    """Nothing, if three calls of each kind leave the same weights; AssertionError otherwise."""
    left = {}
    for kind, make in KINDS.items():
        where = Place(mode, rule, n)
        apply = make(where)
        for _ in range(3):
            apply()
        left[kind] = where.store.segment.weights[0].copy() if kind == "bare" else where.store.pull()
        where.store.close()
    for weights in left.values():
        np.testing.assert_array_equal(weights, left["bare"])
    return {}


def measure(kind: str, mode: str, rule: str, n: int, seconds: float) -> dict[str, Any]:
    """Seconds of each call."""
    apply = operation(kind, mode, rule, n)
    apply()
    return {"seconds": loop(apply, seconds, least=5)}


if __name__ == "__main__":
    serve({"check": check, "measure": measure})
