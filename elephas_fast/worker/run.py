"""One Spark task's training, from its rows to the last push."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Final

from elephas_fast.batches import Arrays
from elephas_fast.client import PushRefused, ServerUnreachable
from elephas_fast.keras_bridge import Trainer, trainer_for
from elephas_fast.transport import TransportError
from elephas_fast.worker.lanes import Lane, PartitionSummary, WorkerTask, open_lane
from elephas_fast.worker.loop import Loop
from elephas_fast.worker.row_digest import tell_rows
from elephas_fast.worker.whole_fit import WholeFit

_LOOK_SECONDS: Final = 1.0

log = logging.getLogger("elephas_fast")
Rows = tuple[int, Arrays, Arrays]


def run_worker(task: WorkerTask, partitions: Iterable[Rows], *, attempt: int) -> list[PartitionSummary]:
    """Train the given partitions to the end.

    ``partitions``: (partition index, rows to train on, rows to validate on), read one after the other. ``attempt``:
    grows with each attempt of a Spark task, see ``store.ledger``; a new attempt goes on after the last round that was
    applied. Returns when the server has acknowledged the last push of every partition.

    An attempt that another has overtaken parks: it does not raise, which Spark would count as a failure of the task,
    nor return, because Spark would take its partitions for done. It asks again each second, until the other attempt has
    trained them to the end or has died, for as long as a worker waits for others.
    """
    trainer = trainer_for(task.spec, task.threads)
    source, read = iter(partitions), list[Rows]()
    parked_at: float | None = None
    transport = ""

    def rows() -> Iterator[Rows]:
        yield from list(read)
        for given in source:
            read.append(given)
            yield given

    while True:
        with ExitStack() as stack:
            try:
                lanes = _open(task, rows(), attempt, stack)
            except (PushRefused, ServerUnreachable, TransportError) as error:
                if parked_at is not None and _is_over(error):
                    break
                if not _is_fenced(error):
                    raise
            else:
                parked_at = None
                transport = lanes[0].client.transport if lanes else ""
                _prepare(trainer, task, lanes)
                loop = WholeFit if task.config.sync_every == "fit" else Loop
                try:
                    for lane in lanes:
                        tell_rows(lane, attempt)
                    loop(task, trainer, lanes, attempt).run()
                    break
                except PushRefused as error:
                    if not _is_fenced(error):
                        raise
        if parked_at is None:
            parked_at = time.monotonic()
            log.info("partitions %s: another attempt has taken over, this one waits", [p for p, *_ in read])
        elif time.monotonic() - parked_at > task.config.straggler_timeout:
            raise TimeoutError(
                f"partitions {[p for p, *_ in read]}: the attempts that have taken over did not end within "
                f"{task.config.straggler_timeout:.0f} s"
            )
        time.sleep(_LOOK_SECONDS)
    read.extend(source)
    return [
        PartitionSummary(
            partition, train.rows, validation.rows, platform.node(), os.getpid(), transport, trainer.uses_xla
        )
        for partition, train, validation in read
    ]


def _prepare(trainer: Trainer, task: WorkerTask, lanes: list[Lane]) -> None:
    """Return the trainer to the beginning of a fit, and let it choose how to compile the model's steps."""
    config = task.config
    trainer.reset(task.seed, single_batches=config.single_batches)
    if config.xla == "measure" and lanes:
        rows = max((lane.train for lane in lanes), key=lambda train: train.rows)
        trainer.measure_xla(rows, config.batch_size, update=config.update, class_weight=config.class_weight)
        trainer.reset(task.seed, single_batches=config.single_batches)
    else:
        trainer.use_xla(None)


def _open(task: WorkerTask, partitions: Iterable[Rows], attempt: int, stack: ExitStack) -> list[Lane]:
    """A lane for each partition that has not been trained to the end by a newer attempt."""
    lanes = []
    for partition, train, validation in partitions:
        try:
            lane = open_lane(task, partition, train, validation, attempt)
        except PushRefused as refused:
            if refused.code != "finished":
                raise
            continue
        stack.callback(lane.client.close)
        lanes.append(lane)
    return lanes


def _is_fenced(error: Exception) -> bool:
    return isinstance(error, PushRefused) and error.code == "fenced"


def _is_over(error: Exception) -> bool:
    """Whether there is no fit any more that a parked attempt could wait for."""
    return not isinstance(error, PushRefused) or error.code == "closed"
