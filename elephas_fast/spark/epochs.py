"""The driver's book of reports: which partition has done what in which epoch."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from elephas_fast.wire import Report

MetricState = list[NDArray[Any]]

log = logging.getLogger("elephas_fast")


@dataclass(frozen=True)
class PartitionEpoch:
    """What one partition reported of one epoch. ``training``, ``validation``: its metric states, empty for 0 rows."""

    rows: int
    validation_rows: int
    rounds: int
    staleness: int
    seconds: float
    training: MetricState
    validation: MetricState


@dataclass
class EpochBook:
    """Collects the reports of all partitions. Not thread-safe; the driver's loop owns it."""

    partitions: int
    _epochs: dict[int, dict[int, PartitionEpoch]] = field(default_factory=dict)
    _progress: dict[int, dict[int, tuple[int, float]]] = field(default_factory=dict)
    _rows: dict[int, int] = field(default_factory=dict)

    def take(self, report: Report, states: list[MetricState]) -> None:
        """Enter a report. A repeated report of an epoch (by a later attempt) does not replace one with rows."""
        if report.kind == "rows":
            self._compare(report.partition, int(states[0][0][0]))
        elif report.kind == "progress":
            self._progress.setdefault(report.epoch, {})[report.partition] = (report.rows, report.loss)
        elif report.kind == "epoch":
            reported = self._epochs.setdefault(report.epoch, {})
            known = reported.get(report.partition)
            if known is None or not known.rows:
                training, validation = [*states, [], []][:2]
                reported[report.partition] = PartitionEpoch(
                    report.rows,
                    report.validation_rows,
                    report.rounds,
                    report.staleness,
                    report.seconds,
                    training,
                    validation,
                )

    def _compare(self, partition: int, digest: int) -> None:
        """Log a warning where a later attempt of a partition has read other rows than the first, or in another
        order."""
        if self._rows.setdefault(partition, digest) != digest:
            log.warning(
                "partition %d was started again and its rows came in another order or with other values: every round "
                "is still applied once, but some rows may be trained twice in an epoch and others not at all; cache "
                "or sort the rows to keep their order",
                partition,
            )

    def complete(self, epoch: int) -> bool:
        """Whether every partition has reported this epoch."""
        return len(self._epochs.get(epoch, {})) == self.partitions

    def epoch(self, epoch: int) -> dict[int, PartitionEpoch]:
        """What has been reported of an epoch, by partition."""
        return self._epochs.get(epoch, {})

    def rows_done(self, epoch: int) -> int:
        """Rows trained in an epoch so far, as last sampled."""
        done = {p: rows for p, (rows, _) in self._progress.get(epoch, {}).items()}
        done.update({p: entry.rows for p, entry in self.epoch(epoch).items()})
        return sum(done.values())

    def loss_so_far(self, epoch: int) -> float | None:
        """The mean of the last sampled losses of an epoch, weighted by rows."""
        samples = [(rows, loss) for rows, loss in self._progress.get(epoch, {}).values() if rows]
        total = sum(rows for rows, _ in samples)
        return sum(rows * loss for rows, loss in samples) / total if total else None

    def staleness(self, epoch: int) -> float:
        """Mean staleness of the epoch's pushes, in updates."""
        entries = self.epoch(epoch).values()
        rounds = sum(entry.rounds for entry in entries)
        return sum(entry.staleness for entry in entries) / rounds if rounds else 0.0

    def seconds(self, epoch: int) -> float:
        """How long the slowest partition took to train the epoch."""
        return max((entry.seconds for entry in self.epoch(epoch).values()), default=0.0)
