"""What does a second writer cost on one shared vector, and are updates lost?

Processes subtract vectors of ones in place in shared memory; the vector counts the updates that each element has seen.
First the kernel alone, with each kind of access and lock; then whole pushes of hogwild clients through the public API.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender
from benchmarks.measure import Figure, Goal, Settings, figures, goal, interleave

SIZES = {100_000: "1e5", 1_000_000: "1e6", 10_000_000: "1e7"}
STRIPES = "stripes of 16,384"
ACCESSES: dict[str, dict[str, Any]] = {
    STRIPES: {"access": "racy", "stripe": 16_384},
    "stripes of 1,024": {"access": "racy", "stripe": 1_024},
    "stripes of 256": {"access": "racy", "stripe": 256},
    "one mutex": {"access": "racy", "stripe": 1 << 40},
    "racy": {"access": "racy", "stripe": 0},
    "relaxed": {"access": "relaxed", "stripe": 0},
    "compare_exchange": {"access": "compare_exchange", "stripe": 0},
}
MANY = 16


def kernel_block(who: Contender, lost: list[float], **arguments: Any) -> float:
    """Nanoseconds per element and writer; notes the percentage of updates lost."""
    result = who.ask("kernel", **arguments)
    lost.append(100 * result["lost"])
    return 1e9 / (statistics.fmean(result["rates"]) * float(arguments["n"]))


def kernels(ours: Contender, settings: Settings, rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """The table of accesses: nanoseconds per element and writer, and updates lost."""
    for n, size in SIZES.items():
        if not settings.wants(f"kernel, {size}") or (settings.quick and n > 1_000_000):
            continue
        names = {f"{access}, {writers}": (access, writers) for access in ACCESSES for writers in (1, 2)}
        lost: dict[str, list[float]] = {name: [] for name in names}
        blocks: dict[str, Callable[[], float]] = {
            name: partial(kernel_block, ours, lost[name], n=n, writers=writers, seconds=seconds, **ACCESSES[access])
            for name, (access, writers) in names.items()
        }
        speed = figures("writers", f"kernel, {size}", "ns", interleave(blocks, rounds))
        losses = figures("writers", f"kernel, {size}: lost", "%", lost)
        yield from (figure.line() for figure in [*speed.values(), *losses.values()])
        if n < 10_000_000:
            yield faster(f"kernel, {size}, two writers: stripes against racy", speed, f"{STRIPES}, 2", "racy, 2", 1.0)
        if n == 1_000_000:
            # Per writer: two writers at 0.9 of one writer's speed each do 1.8 times its work.
            yield faster(
                f"kernel, {size}, stripes: each of two against one", speed, f"{STRIPES}, 2", f"{STRIPES}, 1", 0.9
            )
        yield kept(f"kernel, {size}, two writers: share of updates kept", losses[f"{STRIPES}, 2"])


def push_block(who: Contender, lost: list[float], **arguments: Any) -> float:
    """Pushes per second of all writers together; notes the percentage of updates lost where it can be seen."""
    result = who.ask("pushes", **arguments)
    if result["lost"] is not None:
        lost.append(100 * result["lost"])
    return float(sum(result["rates"]))


def pushes(ours: Contender, settings: Settings, rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Whole pushes: how they grow with writers, under stripes and without."""
    for optimizer, n in (("SGD", 100_000), ("SGD", 1_000_000), ("Adam", 100_000)):
        case = f"{optimizer} pushes, {SIZES[n]}"
        if not settings.wants(case):
            continue
        names = {f"{access}, {writers}": (access, writers) for access in ("stripes", "racy") for writers in (1, 2)}
        lost: dict[str, list[float]] = {name: [] for name in names}
        blocks: dict[str, Callable[[], float]] = {
            name: partial(
                push_block, ours, lost[name], n=n, writers=writers, seconds=seconds, access=access, optimizer=optimizer
            )
            for name, (access, writers) in names.items()
        }
        speed = figures("writers", case, "pushes/s", interleave(blocks, rounds))
        yield from (figure.line() for figure in speed.values())
        yield from goal(f"{case}, two writers: stripes against racy", speed, "stripes, 2", "racy, 2", 1.0)
        if optimizer == "SGD":
            losses = figures("writers", f"{case}: lost", "%", lost)
            yield from (figure.line() for figure in losses.values())
            yield kept(f"{case}, two writers: share of updates kept", losses["stripes, 2"])
        if n == 1_000_000:
            yield from goal(f"{case}, stripes: two writers against one", speed, "stripes, 2", "stripes, 1", 1.8)


def many(ours: Contender, settings: Settings, rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Sixteen writers against one, where there are as many cores."""
    if not settings.wants("many") or (os.cpu_count() or 1) < MANY:
        return
    blocks: dict[str, Callable[[], float]] = {
        f"stripes, {writers}": partial(
            push_block, ours, [], n=10_000_000, writers=writers, seconds=seconds, access="stripes", optimizer="SGD"
        )
        for writers in (1, MANY)
    }
    speed = figures("writers", "many: SGD pushes, 1e7", "pushes/s", interleave(blocks, rounds))
    yield from (figure.line() for figure in speed.values())
    yield from goal(f"SGD pushes, 1e7, stripes: {MANY} writers against one", speed, f"stripes, {MANY}", "stripes, 1", 8)


def faster(name: str, found: dict[str, Figure], ours: str, peer: str, target: float) -> dict[str, Any]:
    """A goal about times, as elements per nanosecond and writer."""
    mine, theirs = 1 / found[ours].median, 1 / found[peer].median
    return Goal(name, mine, theirs, peer, "elements/ns", target).line()


def kept(name: str, lost: Figure) -> dict[str, Any]:
    """The goal that nothing is lost."""
    return Goal(name, 1.0 - lost.high / 100, 1.0, "none lost", "share", 1.0).line()


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: figures, goals."""
    rounds, seconds = (3, 0.2) if settings.quick else (5, 0.5)
    with Contender("ours writers", Path(sys.executable), "benchmarks.ours.writers") as ours:
        for part in (kernels, pushes, many):
            yield from part(ours, settings, rounds, seconds)
