"""What does a second writer cost on one shared vector, and are updates lost?

Processes push vectors of ones, subtracted in place in shared memory (hogwild), for each kind of access. The
vector counts the updates that each element has seen; the server's version says how many there were.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender
from benchmarks.measure import Goal, Settings, figures, interleave

SIZES = {100_000: "1e5", 1_000_000: "1e6", 10_000_000: "1e7"}
WRITERS = (1, 2)


def block(who: Contender, lost: list[float], **arguments: Any) -> float:
    """Elements written per nanosecond by all writers together; notes the share of updates lost."""
    result = who.ask("writers", **arguments)
    lost.append(result["lost"])
    elements: int = arguments["n"]
    return float(sum(result["rates"])) * elements / 1e9


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: figures, goals."""
    rounds, seconds = (2, 0.3) if settings.quick else (5, 1.0)
    with Contender("ours writers", Path(sys.executable), "benchmarks.ours.transport") as ours:
        kinds = ours.ask("accesses")["accesses"]
        for n, size in SIZES.items():
            if not settings.wants(size) or (settings.quick and n > 1_000_000):
                continue
            names = {f"{access}, {count}": (access, count) for access in kinds for count in WRITERS}
            lost: dict[str, list[float]] = {name: [] for name in names}
            blocks = {
                name: partial(block, ours, lost[name], n=n, clients=count, seconds=seconds, access=access)
                for name, (access, count) in names.items()
            }
            speed = figures("writers", size, "elements/ns", interleave(blocks, rounds))
            losses = figures("writers", f"{size}: lost", "% lost", {k: [100 * x for x in v] for k, v in lost.items()})
            yield from (figure.line() for figure in [*speed.values(), *losses.values()])
            if size == "1e6":
                yield from goals(kinds[0], speed, {name: statistics.median(lost[name]) for name in lost})


def goals(access: str, speed: dict[str, Any], lost: dict[str, float]) -> Iterator[dict[str, Any]]:
    """The default access at 1e6: two writers do 1.8 times the work of one, and lose nothing."""
    one, two = f"{access}, 1", f"{access}, 2"
    name = f"{access} access, 1e6, two writers against one"
    yield Goal(name, speed[two].median, speed[one].median, one, "elements/ns", 1.8).line()
    yield Goal(f"{name}: share of updates kept", 1.0 - lost[two], 1.0 - lost[one], one, "share", 1.0).line()
