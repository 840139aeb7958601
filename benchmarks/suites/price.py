"""What do the protections of a push cost?

A client on the server's host pushes: the end of the fit, the fence, the ledger and the check for numbers that are not
finite all have their turn. A delta has been checked where it was computed, in the pass that subtracted; a gradient,
which TensorFlow hands out, costs a pass of its own. Beside both the same kernel on the same memory, called bare.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender
from benchmarks.measure import Settings, figures, goal, interleave

SIZES = {262_144: "1 MiB", 1_000_000: "4 MB", 25_000_000: "100 MB"}
KINDS = DELTA, GRADIENT, BARE = "delta", "gradient", "bare"
# The most that a push may cost, in times of the kernel in place.
MOST = {"hogwild": 1.10, "asynchronous": 1.7}


def block(ours: Contender, **arguments: Any) -> float:
    return float(statistics.median(ours.ask("measure", **arguments)["seconds"]))


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: figures, goals."""
    rounds, seconds = (3, 0.2) if settings.quick else (9, 0.5)
    with Contender("ours price", Path(sys.executable), "benchmarks.ours.price") as ours:
        for mode in MOST:
            for rule in ("SGD", "Adam"):
                for n, size in SIZES.items():
                    case = f"{mode}, {rule}, {size}"
                    if not settings.wants(case) or (settings.quick and n > 1_000_000):
                        continue
                    where: dict[str, Any] = {"mode": mode, "rule": rule, "n": n}
                    ours.ask("check", **where)
                    blocks: dict[str, Callable[[], float]] = {
                        kind: partial(block, ours, kind=kind, seconds=seconds, **where) for kind in KINDS
                    }
                    found = figures("price", case, "us", interleave(blocks, rounds))
                    yield from (figure.line() for figure in found.values())
                    for kind in (DELTA, GRADIENT):
                        name = f"{case}, {kind}: at most {MOST[mode]}x of the bare kernel"
                        yield from goal(name, found, kind, BARE, 1 / MOST[mode])
