"""``sync_every='fit'``: each partition trains all epochs by itself from one start, then all are averaged once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.worker.lanes import Lane
from elephas_fast.worker.loop import Loop, rows_in


@dataclass
class _Weights:
    """A lane's own weights, and those it started from."""

    flat: Float32Array
    opaque: ByteArray
    start: Float32Array


class WholeFit(Loop):
    """The loop in which a round is all epochs: one pull before the first, one push after the last."""

    _own: dict[int, _Weights]

    def _settle(self) -> None:
        self._own = {}

    def _train_epoch(self, epoch: int) -> bool:
        for lane in self._lanes:
            self._begin_epoch(lane, epoch)
            if not lane.rounds or lane.resume_at:
                continue  # no rows, or an earlier attempt has pushed the whole fit
            own = self._own.get(lane.partition) or self._start(lane)
            if own is None:
                return False
            self._train_alone(lane, own, epoch)
            if epoch + 1 == self._config.epochs:
                self._push(lane, own)
        return True

    def _start(self, lane: Lane) -> _Weights | None:
        """The weights that all lanes start from; ``None`` if the driver has ended the training before it began."""
        layout = self._trainer.layout
        own = _Weights(layout.new_flat(), np.zeros(layout.opaque_size, np.uint8), layout.new_flat())
        turn = lane.client.begin_round(own.start, own.opaque, new_epoch=True)
        if turn.stop:
            return None
        own.flat[:] = own.start
        self._own[lane.partition] = own
        return own

    def _train_alone(self, lane: Lane, own: _Weights, epoch: int) -> None:
        """One epoch on the lane's own weights."""

        def progress(rows: int) -> None:
            lane.rows_done = rows
            self._report_progress(lane, epoch)

        batches = lane.rounds[0]
        self._enter(lane)
        scratch = lane.client.vector
        self._trainer.train_round(
            lane.train,
            lane.indices,
            batches,
            own.flat,
            own.opaque,
            *scratch,
            class_weight=self._config.class_weight,
            progress=progress,
        )
        self._trainer.read_weights(own.flat, own.opaque)
        self._leave(lane)
        lane.rows_done = rows_in(batches)
        lane.rounds_done = 1

    def _push(self, lane: Lane, own: _Weights) -> None:
        """Where all epochs have led, as one update."""
        trainable = self._trainer.layout.trainable_size
        delta, opaque = lane.client.vector
        np.subtract(own.start[:trainable], own.flat[:trainable], out=delta[:trainable])
        delta[trainable:] = own.flat[trainable:]
        opaque[:] = own.opaque
        lane.client.push(delta, opaque=opaque, rows=lane.train.rows)

    def _weights_after_epoch(self, lane: Lane) -> tuple[Float32Array, ByteArray]:
        own = self._own.get(lane.partition)
        return super()._weights_after_epoch(lane) if own is None else (own.flat, own.opaque)
