"""Blocks, interleaving, medians and goals: what every suite shares."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SCALE = {"s": 1.0, "ms": 1e3, "us": 1e6}


@dataclass(frozen=True)
class Settings:
    """How long a suite may take: `quick` for a look, else for the record; `select` keeps cases whose name has
    it.
    """

    quick: bool = False
    select: str = ""

    def wants(self, case: str) -> bool:
        return self.select in case


@dataclass(frozen=True)
class Figure:
    """What one contender did in one case: the median of its blocks, and the lowest and highest of them."""

    suite: str
    case: str
    contender: str
    unit: str
    median: float
    low: float
    high: float
    blocks: int

    def line(self) -> dict[str, Any]:
        return {"figure": f"{self.suite} {self.case}", **asdict(self)}


@dataclass(frozen=True)
class Goal:
    """A target against a peer. `ratio` says how many times better ours is, `target` what it must reach. `limit`: what
    does the least that anybody could, in the same run.
    """

    goal: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    target: float
    limit: float | None = None
    limit_name: str = ""

    @property
    def ratio(self) -> float:
        """peer / ours where less is better (time, memory), else ours / peer; 0 if ours did nothing."""
        return self._times_better(self.ours)

    def _times_better(self, value: float) -> float:
        less = self.unit in SCALE or self.unit == "MiB"
        better, worse = (self.peer, value) if less else (value, self.peer)
        return better / worse if worse else 0.0

    def line(self) -> dict[str, Any]:
        line: dict[str, Any] = {
            "goal": self.goal, "ours": self.ours, "peer": self.peer, "peer_name": self.peer_name,
            "unit": self.unit, "ratio": round(self.ratio, 3), "target": round(self.target, 4),
            "met": self.ratio >= self.target,
        }  # fmt: skip
        if self.limit is not None:
            within = self._times_better(self.limit) >= self.target
            line |= {"limit": self.limit, "limit_name": self.limit_name, "limit_meets": within}
        return line


def interleave(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Runs one block of each contender per round, never two at once, each round beginning with another one.

    A block returns one number: its own median. Returns the numbers of each contender, in order.
    """
    names = list(contenders)
    results: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            results[name].append(contenders[name]())
    return results


def figures(suite: str, case: str, unit: str, results: Mapping[str, Sequence[float]]) -> dict[str, Figure]:
    """One Figure per contender from `interleave`'s numbers, which are seconds if `unit` is a time."""
    scale = SCALE.get(unit, 1.0)
    return {
        name: Figure(
            suite, case, name, unit, scale * statistics.median(blocks),
            scale * min(blocks), scale * max(blocks), len(blocks),
        )
        for name, blocks in results.items()
    }  # fmt: skip


def goal(
    name: str, found: Mapping[str, Figure], ours: str, peer: str, target: float, limit: str = ""
) -> Iterator[dict[str, Any]]:
    """The goal's line, if both contenders have a figure in this run. `limit`: the contender that does the least that
    anybody could."""
    if ours in found and peer in found:
        mine, theirs, least = found[ours], found[peer], found.get(limit)
        bound = None if least is None else least.median
        yield Goal(name, mine.median, theirs.median, peer, mine.unit, target, bound, limit).line()


def show(line: Mapping[str, Any]) -> str:
    """A line as text: figures shortened for the eye, goals and headers as JSON."""
    if "figure" not in line:
        return json.dumps(line)
    return (
        f"{line['suite']:<10} {line['case']:<34} {line['contender']:<34} {line['median']:>14,.4g} "
        f"{line['unit']:<7} [{line['low']:,.4g} .. {line['high']:,.4g}] x{line['blocks']}"
    )
