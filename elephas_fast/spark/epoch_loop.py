"""The driver's side of the epochs while the workers train: take reports, merge, call back, steer, show, save."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from elephas_fast.client import Client
from elephas_fast.cluster import ParameterCluster
from elephas_fast.config import TrainingConfig
from elephas_fast.keras_bridge import merge_metrics, set_weights
from elephas_fast.keras_bridge.driver import DriverCallbacks
from elephas_fast.layout import Layout
from elephas_fast.server import FOREVER
from elephas_fast.spark.checkpoints import Checkpoints, Reached
from elephas_fast.spark.epochs import EpochBook
from elephas_fast.spark.progress import Progress


class EpochLoop:
    """Finishes each epoch that all partitions have reported, in order.

    Args:
        model: the driver's model; its metrics are overwritten, its weights where a callback is to see them.
        config: of this fit.
        layout: of the model's weights.
        callbacks, progress: where finished epochs go.
        partitions: how many have to report; ``rows``: of the whole RDD, where the driver knows.
        validation_data: ``(x, y)`` or ``(x, y, sample_weight)`` to evaluate after each epoch, or ``None``.
        start: how far the fit had come before; ``checkpoints``: where it is saved, or ``None``.
        cluster, observer: the server, and the driver's connection to it.
    """

    def __init__(
        self,
        model: Any,
        config: TrainingConfig,
        layout: Layout,
        callbacks: DriverCallbacks,
        progress: Progress,
        *,
        partitions: int,
        rows: int | None,
        validation_data: tuple[Any, ...] | None,
        start: Reached,
        checkpoints: Checkpoints | None,
        cluster: ParameterCluster,
        observer: Client,
    ) -> None:
        self._model = model
        self._config = config
        self._layout = layout
        self._callbacks = callbacks
        self._progress = progress
        self._rows = rows
        self._validation_data = validation_data
        self._start = start
        self._checkpoints = checkpoints
        self._cluster = cluster
        self._observer = observer
        self._book = EpochBook(partitions)
        self._seen = 0
        self._epoch = start.epochs
        self._epoch_began: float | None = None
        self._stop_at = FOREVER
        self._histories = start.histories or [{} for _ in range(partitions)]
        self._rows_of: list[tuple[int, int] | None] = start.rows or [None] * partitions

    @property
    def heard(self) -> bool:
        """Whether any worker has reported anything yet."""
        return self._seen > 0

    @property
    def reached(self) -> Reached:
        """How far the fit has come, by what is known of its finished epochs."""
        start, book = self._start, self._book
        return Reached(
            epochs=self._epoch,
            first_version=start.first_version,
            seed=start.seed,
            rates=self._callbacks.learning_rates,
            history=dict(self._callbacks.history.history),
            histories=self._histories,
            staleness=[*start.staleness, *(book.staleness(epoch) for epoch in range(start.epochs, self._epoch))],
            faults={name: count + start.faults.get(name, 0) for name, count in self._cluster.faults.items()},
            rows=self._rows_of,
        )

    def begin(self) -> None:
        """Before the workers start."""
        self._callbacks.train_begin()
        self._callbacks.go_on(self._start.epochs, self._start.history, self._start.rates)
        self._begin_epoch()

    def turn(self) -> None:
        """Take what has been reported since the last turn and act on it."""
        more = True
        while more:
            observed, report, states = self._observer.observe(self._seen)
            self._seen, more = observed.seen, observed.more
            if report is not None:
                self._book.take(report, states)
        while self._epoch < min(self._config.epochs, self._stop_at) and self._book.complete(self._epoch):
            self._finish_epoch()
        self._draw()

    def end(self) -> None:
        """After the last push: the weights come home, unless a callback has them already and may want others."""
        self.turn()
        if not self._callbacks.given:
            self.load_weights()
        self._callbacks.train_end()

    def load_weights(self) -> None:
        """Put the server's present weights into the driver's model."""
        opaque = np.zeros(self._layout.opaque_size, np.uint8)
        set_weights(self._model, self._layout, self._cluster.pull(opaque=opaque), opaque)

    def _begin_epoch(self) -> None:
        self._callbacks.epoch_begin(self._epoch)
        if self._callbacks.given or self._checkpoints is not None:
            self._steer()

    def _finish_epoch(self) -> None:
        epoch, entries = self._epoch, self._book.epoch(self._epoch)
        logs = self._merged(list(entries))
        for partition in entries:
            for name, value in self._merged([partition]).items():
                self._histories[partition].setdefault(name, []).append(value)
        if self._callbacks.given or self._validation_data is not None:
            self.load_weights()
        if self._validation_data is not None:
            logs.update(self._validate(self._validation_data))
        rows = sum(entry.rows for entry in entries.values())
        self._progress.epoch(epoch, rows, self._book.seconds(epoch), logs)
        self._callbacks.epoch_end(epoch, logs)
        self._epoch += 1
        self._epoch_began = None
        last = self._callbacks.stopped or self._epoch == self._config.epochs
        if self._checkpoints is not None and (last or self._checkpoints.next_after(epoch) == self._epoch):
            self._save(self._checkpoints)
        if self._callbacks.stopped:
            self._stop_at = self._epoch
            self._steer()
        elif not last:
            self._begin_epoch()

    def _save(self, checkpoints: Checkpoints) -> None:
        """Save the fit as it is now, between two epochs of all its workers."""
        try:
            snapshot = self._cluster.snapshot()
        except TimeoutError as error:
            checkpoints.warn(error)
            return
        for partition, entry in self._book.epoch(self._epoch - 1).items():
            if entry.rounds == snapshot.lines[partition].rounds:  # else a retried task has told of the rest only
                self._rows_of[partition] = (entry.rows, entry.validation_rows)
        checkpoints.save(self.reached, snapshot)

    def _merged(self, partitions: list[int]) -> dict[str, float]:
        """The metrics of this epoch over some partitions; those of validation have ``val_`` before their names."""
        entries = [self._book.epoch(self._epoch)[p] for p in partitions]
        logs = merge_metrics(self._model, [entry.training for entry in entries])
        validation = merge_metrics(self._model, [entry.validation for entry in entries])
        return {**logs, **{f"val_{name}": value for name, value in validation.items()}}

    def _validate(self, data: tuple[Any, ...]) -> dict[str, float]:
        x, y, *weights = data
        logs = self._model.evaluate(
            x,
            y,
            sample_weight=weights[0] if weights else None,
            batch_size=self._config.batch_size,
            verbose=0,
            return_dict=True,
        )
        return {f"val_{name}": float(value) for name, value in logs.items()}

    def _steer(self) -> None:
        """Tell the workers how far they may go: with callbacks an epoch begins when those of the last have run, and
        after one that ends with a checkpoint the next begins when the weights have been copied."""
        released = FOREVER if self._checkpoints is None else self._checkpoints.next_after(self._epoch)
        rate = self._callbacks.new_learning_rate
        local = self._config.update == "delta"
        self._observer.steer(
            released=self._epoch + 1 if self._callbacks.given else released,
            stop_at=self._stop_at,
            learning_rate=rate if local else 0.0,
            server_learning_rate=0.0 if local else rate,
        )

    def _draw(self) -> None:
        if self._epoch >= min(self._config.epochs, self._stop_at):
            return
        rows = self._book.rows_done(self._epoch)
        now = time.monotonic()
        if rows and self._epoch_began is None:
            self._epoch_began = now
        seconds = 0.0 if self._epoch_began is None else now - self._epoch_began
        self._progress.draw(self._epoch, rows, self._epoch_rows(), seconds, self._book.loss_so_far(self._epoch))

    def _epoch_rows(self) -> int | None:
        """Rows that an epoch trains, exact once one has been trained as a whole."""
        known = [rows[0] for rows in self._rows_of if rows is not None]
        if len(known) == len(self._rows_of):
            return sum(known)
        if self._epoch > self._start.epochs:
            return sum(entry.rows for entry in self._book.epoch(self._epoch - 1).values())
        return None if self._rows is None else round(self._rows * (1.0 - self._config.validation_split))
