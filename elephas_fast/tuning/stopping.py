"""When a trial is not worth going on with, judged by the losses that it and others have reported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

Losses = Sequence[tuple[int, float]]
"""(epoch, loss) pairs in the order of their report."""


class StopRule(Protocol):
    """Decides at each report."""

    def hopeless(self, own: Losses, others: Mapping[int, Losses]) -> bool:
        """Whether the trial that has reported ``own`` should end, given those of all other trials by number."""


@dataclass(frozen=True)
class MedianRule:
    """Ends a trial whose best loss so far is worse than the median of what others had reached by the same epoch
    (Golovin et al., Google Vizier, KDD 2017, section 3.2).

    ``trials``: others that must have come as far; ``epochs``: of its own that each trial gets.
    """

    trials: int = 5
    epochs: int = 2

    def __post_init__(self) -> None:
        _check("trials", self.trials, 1)
        _check("epochs", self.epochs, 0)

    def hopeless(self, own: Losses, others: Mapping[int, Losses]) -> bool:
        """See ``StopRule``."""
        epoch = own[-1][0]
        if len({e for e, _ in own}) < self.epochs:
            return False
        reached = [best_by(losses, epoch) for losses in others.values() if any(e >= epoch for e, _ in losses)]
        return len(reached) >= self.trials and best_by(own, epoch) > median(reached)


@dataclass(frozen=True)
class SuccessiveHalving:
    """Ends at each rung all but the best share of the trials that have reached it so far (asynchronous successive
    halving: Li et al., MLSys 2020).

    Rungs are after ``epochs``, ``epochs * factor``, ``epochs * factor**2``, ... reports; the best ``1 / factor`` go on.
    The first ``factor`` trials at a rung always do.
    """

    epochs: int = 1
    factor: int = 3

    def __post_init__(self) -> None:
        _check("epochs", self.epochs, 1)
        _check("factor", self.factor, 2)

    def hopeless(self, own: Losses, others: Mapping[int, Losses]) -> bool:
        """See ``StopRule``."""
        reports = len(own)
        rung = self.epochs
        while rung < reports:
            rung *= self.factor
        if rung != reports:
            return False
        mine = min(loss for _, loss in own)
        rivals = [min(loss for _, loss in losses[:rung]) for losses in others.values() if len(losses) >= rung]
        if len(rivals) < self.factor:
            return False
        better = sum(rival < mine for rival in rivals)
        return better >= max(1, (len(rivals) + 1) // self.factor)


def rule_of(stop: Any) -> StopRule | None:
    """``None``, 'median', 'halving', or a rule itself. Raises ``ValueError`` for something else."""
    if stop is None or callable(getattr(stop, "hopeless", None)):
        found: StopRule | None = stop
        return found
    if stop == "median":
        return MedianRule()
    if stop == "halving":
        return SuccessiveHalving()
    raise ValueError(f"stop: expected None, 'median', 'halving', MedianRule or SuccessiveHalving, got {stop!r}")


def best_by(losses: Losses, epoch: int) -> float:
    """The least loss up to an epoch; infinity where there is none."""
    return min((loss for e, loss in losses if e <= epoch and not math.isnan(loss)), default=math.inf)


def _check(name: str, value: Any, least: int) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"{name}: expected a whole number from {least} up, got {value!r}")
