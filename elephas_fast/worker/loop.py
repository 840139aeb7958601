"""The one worker loop: pull, train a round, push. Modes and frequencies are arguments.

A worker is one Spark task. It trains one lane, or several where there are more partitions than the cluster can run
tasks at once: then it gives each lane a round in turn, and each lane is a worker of its own to the server.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from elephas_fast.batches import order
from elephas_fast.client import Turn
from elephas_fast.keras_bridge import MetricState, Trainer, Update
from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.wire import Report
from elephas_fast.worker.lanes import Lane, WorkerTask

_PROGRESS_SECONDS: Final = 0.25


class Loop:
    """The epochs and rounds of one task."""

    def __init__(self, task: WorkerTask, trainer: Trainer, lanes: list[Lane], attempt: int) -> None:
        self._task, self._config, self._trainer, self._lanes = task, task.config, trainer, lanes
        self._attempt = attempt
        self._shared = len(lanes) > 1
        layout = trainer.layout
        self._flat = layout.new_flat()
        self._opaque = np.zeros(layout.opaque_size, np.uint8)
        # Where the weights are pulled to; nowhere, if the model's variables are the server's own memory.
        self._out: Float32Array | None = self._flat
        self._single = task.config.single_batches
        self._host = platform.node()
        self._reported = time.monotonic()
        for lane in lanes:
            self._leave(lane)

    def run(self) -> None:
        """All epochs that are left, until the last or until the driver says stop."""
        self._settle()
        try:
            for epoch in range(self._task.first_epoch, self._config.epochs):
                if not self._train_epoch(epoch):
                    break
                self._trainer.check_home()
                for lane in self._lanes:
                    self._report_epoch(lane, epoch)
        finally:
            self._trainer.leave()
        for lane in self._lanes:
            self._report(lane, "done", self._config.epochs, 0.0)

    def _settle(self) -> None:
        """Choose the memory the model's variables live in: the server's own where rounds only read it."""
        live = self._lanes[0].client.shared_weights if self._lanes else None
        reads_only = self._single and self._trainer.reads_only(self._config.update)
        if live is not None and reads_only and self._trainer.live_in(live[0]):
            self._flat, self._opaque = live
            self._out = None
        else:
            self._trainer.live_in(self._flat)

    def _train_epoch(self, epoch: int) -> bool:
        """One epoch of every lane; ``False`` if the driver ended the training before it."""
        for lane in self._lanes:
            self._begin_epoch(lane, epoch)
        for lane, number in self._schedule():
            if epoch * len(lane.rounds) + number < lane.resume_at:
                continue
            if lane.turn is None:
                lane.turn = lane.client.begin_round(self._out, self._opaque, new_epoch=number == 0)
            if lane.turn.stop:
                return False
            if lane.turn.learning_rate:
                self._trainer.set_learning_rate(lane.turn.learning_rate)
            update, opaque = self._train_round(lane, lane.rounds[number], epoch)
            following = self._finish(lane) if lane.in_flight is not None else lane.turn
            self._report_progress(lane, epoch)
            self._send(lane, lane.rounds[number], update, opaque, following, last=number + 1 == len(lane.rounds))
        return True

    def _begin_epoch(self, lane: Lane, epoch: int) -> None:
        """Count anew, and take the epoch's order of the rows."""
        lane.began = time.monotonic()
        lane.rows_done = lane.rounds_done = lane.staleness = 0
        lane.indices = order(
            lane.train.rows,
            shuffle=self._config.shuffle,
            seed=self._task.seed,
            partition=lane.partition,
            epoch=epoch,
        )
        self._enter(lane)
        self._trainer.begin_epoch()
        self._leave(lane)

    def _schedule(self) -> Iterator[tuple[Lane, int]]:
        """(lane, round) of one epoch: each lane in turn as long as it has rounds."""
        for number in range(max((len(lane.rounds) for lane in self._lanes), default=0)):
            for lane in self._lanes:
                if number < len(lane.rounds):
                    yield lane, number

    def _train_round(self, lane: Lane, batches: list[tuple[int, int]], epoch: int) -> tuple[Update, ByteArray]:
        """The round's update and the new opaque bytes."""
        trainer, config = self._trainer, self._config
        self._enter(lane)
        delta, opaque = lane.client.vector
        begun = lane.rows_done

        def progress(rows: int) -> None:
            if lane.in_flight is None:  # whose reply would have to be taken first, and with it new weights
                lane.rows_done = begun + rows
                self._report_progress(lane, epoch)

        where = (self._flat, self._opaque, delta, opaque)
        if self._single:
            update = trainer.single_round(
                lane.train, lane.indices, batches[0], *where, update=config.update, class_weight=config.class_weight
            )
        else:
            train = trainer.train_round if config.update == "delta" else trainer.gradient_round
            logs = train(lane.train, lane.indices, batches, *where, class_weight=config.class_weight, progress=progress)
            update = Update(delta, finite=not logs.nonfinite)
        self._leave(lane)
        lane.rows_done = begun + rows_in(batches)
        lane.rounds_done += 1
        return update, opaque

    def _send(
        self,
        lane: Lane,
        batches: list[tuple[int, int]],
        update: Update,
        opaque: ByteArray,
        following: Turn,
        *,
        last: bool,
    ) -> None:
        """Push, and where the next round is this lane's too, take its weights on the way.

        With ``prefetch`` that round begins at once on the weights at hand, those of ``following``, while the push is
        under way.
        """
        client = lane.client
        assert lane.turn is not None
        base = lane.turn.version
        parts: dict[str, Any] = {
            "state": update.state,
            "scale": update.scale,
            "opaque": opaque,
            "rows": rows_in(batches),
            "base_version": base,
            "finite": update.finite,
        }
        if last or self._shared:
            receipt = client.push(update.gradient, **parts)
            assert receipt is not None
            lane.count(receipt, base)
            lane.turn = None
            return
        if self._config.prefetch:
            client.send_round(update.gradient, **parts)
            lane.in_flight, lane.turn = base, following
            return
        receipt, lane.turn = client.exchange(update.gradient, self._out, self._opaque, **parts)
        lane.count(receipt, base)

    def _finish(self, lane: Lane) -> Turn:
        """Wait for the round in flight; its reply brought the weights of the next."""
        assert lane.in_flight is not None
        receipt, turn = lane.client.finish_round(self._out, self._opaque)
        lane.count(receipt, lane.in_flight)
        lane.in_flight = None
        return turn

    def _report_progress(self, lane: Lane, epoch: int) -> None:
        """Tell the driver how far this lane is, a few times a second."""
        if time.monotonic() - self._reported > _PROGRESS_SECONDS:
            self._report(lane, "progress", epoch, self._trainer.logs().get("loss", 0.0))

    def _report_epoch(self, lane: Lane, epoch: int) -> None:
        self._enter(lane)
        trained = self._trainer.metric_state()
        seconds = time.monotonic() - lane.began
        validated: MetricState = []
        if lane.validation.rows:
            weights = self._weights_after_epoch(lane)
            validated = self._trainer.evaluate(lane.validation, *weights, self._config.batch_size)
        self._report(lane, "epoch", epoch, seconds, trained, validated)

    def _weights_after_epoch(self, lane: Lane) -> tuple[Float32Array, ByteArray]:
        """The weights that a lane validates with, after the rounds of an epoch."""
        lane.client.end_epoch(self._out, self._opaque)
        return self._flat, self._opaque

    def _enter(self, lane: Lane) -> None:
        """Let the trainer go on as this lane, where several share it."""
        if self._shared and lane.state is not None:
            self._trainer.set_optimizer_state(lane.state)

    def _leave(self, lane: Lane) -> None:
        """Keep the lane's optimizer, seeds and metrics for its next turn, where several lanes share the trainer."""
        if self._shared:
            lane.state = self._trainer.optimizer_state()

    def _report(self, lane: Lane, kind: str, epoch: int, measure: float, *states: MetricState) -> None:
        """``measure``: the loss so far for 'progress', else the seconds the epoch took."""
        report = Report(
            kind=kind,
            partition=lane.partition,
            attempt=self._attempt,
            epoch=epoch,
            rows=lane.rows_done,
            validation_rows=lane.validation.rows,
            rounds=lane.rounds_done,
            staleness=lane.staleness,
            seconds=0.0 if kind == "progress" else measure,
            loss=float(measure) if kind == "progress" else 0.0,
            host=self._host[:256],
            transport=lane.client.transport,
        )
        lane.client.report(report, *states)
        self._reported = time.monotonic()


def rows_in(batches: list[tuple[int, int]]) -> int:
    """Rows of some batches."""
    return sum(end - begin for begin, end in batches)
