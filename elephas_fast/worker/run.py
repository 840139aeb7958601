"""One Spark task's training, from its rows to the last push."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import ExitStack

from elephas_fast.batches import Arrays
from elephas_fast.keras_bridge import trainer_for
from elephas_fast.worker.lanes import PartitionSummary, WorkerTask, open_lane
from elephas_fast.worker.loop import Loop
from elephas_fast.worker.row_digest import tell_rows
from elephas_fast.worker.whole_fit import WholeFit


def run_worker(
    task: WorkerTask, partitions: Iterable[tuple[int, Arrays, Arrays]], *, attempt: int
) -> list[PartitionSummary]:
    """Train the given partitions to the end.

    ``partitions``: (partition index, rows to train on, rows to validate on), read one after the other. ``attempt``:
    grows with each attempt of a Spark task, see ``store.ledger``; a new attempt goes on after the last round that was
    applied. Returns when the server has acknowledged the last push of every partition.
    """
    trainer = trainer_for(task.spec, task.threads)
    trainer.reset(task.seed, single_batches=task.config.single_batches)
    with ExitStack() as stack:
        lanes = []
        for partition, train, validation in partitions:
            lane = open_lane(task, partition, train, validation, attempt)
            stack.callback(lane.client.close)
            lanes.append(lane)
        for lane in lanes:
            tell_rows(lane, attempt)
        loop = WholeFit if task.config.sync_every == "fit" else Loop
        loop(task, trainer, lanes, attempt).run()
        return [
            PartitionSummary(
                lane.partition,
                lane.train.rows,
                lane.validation.rows,
                platform.node(),
                os.getpid(),
                lane.client.transport,
            )
            for lane in lanes
        ]
