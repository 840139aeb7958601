"""Where the rows of a fit come from, and the Spark job that trains on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from pyspark import RDD, TaskContext

from elephas_fast.batches import Arrays, collect
from elephas_fast.keras_bridge import ModelSpec
from elephas_fast.spark.interpreter import use_driver_python
from elephas_fast.spark.job import Job, JobGroup
from elephas_fast.spark.rows import blocks_of, first_row, split_tagged, spread, tagged
from elephas_fast.spark.slots import task_slots
from elephas_fast.spark.strict import strictly
from elephas_fast.spark.surroundings import Surroundings, of_context
from elephas_fast.worker import PartitionSummary, WorkerTask, run_worker


class Source(Protocol):
    """Rows in ``partitions`` parts, each trained by a worker of its own, in ``tasks`` Spark tasks of the ``slots`` that
    can run at once; ``rows``: how many, where the driver knows; ``where``: a word for people on what runs the tasks."""

    surroundings: Surroundings
    partitions: int
    tasks: int
    slots: int
    rows: int | None
    where: str

    def first(self, spec: ModelSpec) -> Arrays | None:
        """The first row, or ``None`` where there is no row. May run a small Spark job."""

    def job(self, task: WorkerTask, description: str) -> Job:
        """The job, not started, whose tasks train all partitions and return a ``PartitionSummary`` for each."""


class PairsSource:
    """An RDD of ``(x, y)`` or ``(x, y, sample_weight)`` rows, or of ``Block``."""

    def __init__(self, rdd: Any, num_workers: int | None) -> None:
        if not isinstance(rdd, RDD):
            raise TypeError(
                f"rdd: expected a Spark RDD of (x, y) rows, got {type(rdd).__name__}; "
                "make one with elephas_fast.utils.rdd_utils.to_simple_rdd(sc, x, y)"
            )
        use_driver_python(rdd.context)
        self.surroundings = of_context(rdd.context)
        self._given = rdd
        self._rdd = spread(rdd, num_workers)
        self.partitions = self._rdd.getNumPartitions()
        self.slots = task_slots(self.surroundings, self.partitions)
        self.tasks = min(self.partitions, self.slots)
        blocks = blocks_of(rdd)
        self.rows = None if blocks is None else blocks.rows
        self.where = str(rdd.context.master)

    def first(self, spec: ModelSpec) -> Arrays | None:
        """See ``Source``. Runs no job for an RDD that ``to_simple_rdd`` made."""
        row = first_row(self._given)
        return None if row is None else collect([row], inputs=spec.inputs, outputs=spec.outputs)

    def job(self, task: WorkerTask, description: str) -> Job:
        """See ``Source``."""
        rows, train = tagged(self._rdd, self.tasks), _train_function(task)
        return Job(lambda: strictly(rows.mapPartitions(train)).collect(), JobGroup(rows.context, description))


def _train_function(task: WorkerTask) -> Callable[[Iterable[Any]], Iterator[PartitionSummary]]:
    def train(items: Iterable[Any]) -> Iterator[PartitionSummary]:
        context = TaskContext.get()
        assert context is not None
        partitions = ((number, *_arrays(task, rows)) for number, rows in split_tagged(items))
        return iter(run_worker(task, partitions, attempt=context.taskAttemptId()))

    return train


def _arrays(task: WorkerTask, rows: Iterable[Any]) -> tuple[Arrays, Arrays]:
    arrays = collect(rows, inputs=task.spec.inputs, outputs=task.spec.outputs)
    return arrays.split(task.config.validation_split)
