"""DataFrames as rows to train on: columns packed by Spark, read as Arrow, in one pass.

Nothing here needs ``df.rdd`` or a SparkContext.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.ml.functions import vector_to_array
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from elephas_fast.batches import Arrays
from elephas_fast.batches.arrow import HELD_OUT, WEIGHT, X, Y, read
from elephas_fast.input_spec import InputSpec
from elephas_fast.keras_bridge import ModelSpec
from elephas_fast.spark.interpreter import use_driver_python
from elephas_fast.spark.job import Job, mark_of
from elephas_fast.spark.slots import task_slots
from elephas_fast.spark.strict import whole
from elephas_fast.spark.surroundings import of_session
from elephas_fast.worker import PartitionSummary, WorkerTask, run_worker

_SUMMARY = "partition long, rows long, validation_rows long, host string, pid long, transport string, xla boolean"


@dataclass(frozen=True)
class Roles:
    """Which columns of a DataFrame are what.

    ``features``, ``labels``: one column for each input and output of the model; or, of a model with one, columns whose
    numbers are joined in this order. ``weight``: of sample weights; ``held_out``: true in the rows kept for validation.
    ``classes``: labels that are numbers are classes, of which there are so many, made one-hot.
    """

    features: tuple[str, ...]
    labels: tuple[str, ...]
    weight: str | None = None
    held_out: str | None = None
    classes: int | None = None


class FrameSource:
    """A DataFrame as a ``Source``. ``num_workers``: ``None`` for as many as tasks can run at once."""

    rows: int | None = None

    def __init__(self, df: DataFrame, roles: Roles, num_workers: int | None) -> None:
        check_frame(df)
        use_driver_python()
        self._df = df
        self._roles = roles
        self.surroundings = of_session(df.sparkSession)
        self.slots = task_slots(self.surroundings, num_workers or 1)
        self.partitions = num_workers or self.slots
        self.tasks = min(self.partitions, self.slots)
        self.where = self.surroundings.master or "Spark"

    def first(self, spec: ModelSpec) -> Arrays | None:
        """See ``Source``. Runs a job for one row."""
        row = self._packed(spec).head()
        if row is None:
            return None
        batch = pa.RecordBatch.from_pylist([row.asDict(recursive=True)])
        return read([batch], inputs=spec.inputs, outputs=spec.outputs, classes=self._roles.classes)[0]

    def job(self, task: WorkerTask, description: str) -> Job:
        """See ``Source``."""
        train = _train_function(task, self._roles.classes, self.partitions, self.tasks)
        results = self._packed(task.spec).repartition(self.tasks).mapInArrow(train, _SUMMARY)

        def collect() -> list[PartitionSummary]:
            summaries = [PartitionSummary(**row.asDict()) for row in results.collect()]
            held_out = sum(summary.validation_rows for summary in summaries)
            if held_out and not any(summary.rows for summary in summaries):
                raise ValueError(
                    "validationIndicatorCol: expected at least one row to train on, got true in all "
                    f"{held_out} rows, which keeps them for validation"
                )
            return summaries

        return Job(collect, mark_of(self._df.sparkSession, description))

    def _packed(self, spec: ModelSpec) -> DataFrame:
        roles = self._roles
        x = packed(self._df, "features", roles.features, spec.inputs)
        y = packed(self._df, "label", roles.labels, spec.outputs)
        columns = [column.alias(X.format(i)) for i, column in enumerate(x)]
        columns += [column.alias(Y.format(i)) for i, column in enumerate(y)]
        if roles.weight is not None:
            columns.append(_single(self._df, "weightCol", roles.weight).cast("float").alias(WEIGHT))
        if roles.held_out is not None:
            held_out = _single(self._df, "validationIndicatorCol", roles.held_out).cast("boolean")
            columns.append(held_out.alias(HELD_OUT))
        return self._df.select(*columns)


def check_frame(df: Any) -> None:
    """Raise ``TypeError`` for what is no DataFrame of Spark."""
    if not hasattr(df, "sparkSession") or not hasattr(df, "schema"):
        raise TypeError(f"dataset: expected a DataFrame of Spark, got {type(df).__name__}; see spark.createDataFrame")


def packed(df: DataFrame, what: str, names: Sequence[str], specs: Sequence[InputSpec]) -> list[Column]:
    """One column of numbers or arrays of numbers for each of a model's inputs (outputs), of its dtype.

    ``names``: one column for each, or for a model with one, columns to join. Raises ``ValueError`` for columns that
    are not there or hold no numbers.
    """
    parameter = f"{what}Col" if len(names) == 1 else f"{what}Cols"
    if len(specs) > 1 and len(names) != len(specs):
        raise ValueError(
            f"{what}Cols: expected {len(specs)} columns for the model's {', '.join(spec.name for spec in specs)}, "
            f"got {len(names)}: {', '.join(names)}"
        )
    if len(names) == len(specs):
        return [_numbers(df, parameter, name, spec.dtype) for name, spec in zip(names, specs, strict=True)]
    parts = [_numbers(df, parameter, name, specs[0].dtype or "float32") for name in names]
    lists = [
        part if isinstance(df.select(part.alias("c")).schema["c"].dataType, T.ArrayType) else F.array(part)
        for part in parts
    ]
    return [F.concat(*lists)]


def _named(df: DataFrame, parameter: str, name: str) -> Column:
    if name not in df.columns:
        raise ValueError(f"{parameter}: expected a column of the DataFrame ({', '.join(df.columns)}), got '{name}'")
    return F.col("`" + name.replace("`", "``") + "`")


def _single(df: DataFrame, parameter: str, name: str) -> Column:
    """A column of one number or boolean for each row."""
    column, kind = _named(df, parameter, name), df.schema[name].dataType
    if not isinstance(kind, T.NumericType | T.BooleanType):
        raise ValueError(
            f"{parameter}: expected numbers or booleans in column '{name}', got {kind.simpleString()}; cast it"
        )
    return column


def _numbers(df: DataFrame, parameter: str, name: str, dtype: str | None) -> Column:
    """A column as numbers or arrays of numbers of a model's dtype (``None``: integers stay, all else is float)."""
    column, kind = _named(df, parameter, name), df.schema[name].dataType
    if type(kind).__name__ == "VectorUDT":
        return F.when(column.isNotNull(), vector_to_array(column, "float64" if dtype == "float64" else "float32"))
    depth = 0
    while isinstance(kind, T.ArrayType):
        kind, depth = kind.elementType, depth + 1
    if isinstance(kind, T.BinaryType) and not depth:
        return column
    text = isinstance(kind, T.StringType) and dtype == "string"
    if not (text or isinstance(kind, T.NumericType | T.BooleanType)):
        raise ValueError(
            f"{parameter}: expected numbers, vectors or arrays of numbers in column '{name}', got "
            f"{df.schema[name].dataType.simpleString()}"
        )
    return column.cast("array<" * depth + _sql_type(kind, dtype) + ">" * depth)


def _sql_type(kind: T.DataType, dtype: str | None) -> str:
    if dtype is None:
        return kind.simpleString() if isinstance(kind, T.IntegralType) else "float"
    if dtype in ("float16", "bfloat16"):
        return "float"
    return {"float32": "float", "float64": "double", "int64": "bigint", "string": "string"}.get(dtype, "int")


def _train_function(
    task: WorkerTask, classes: int | None, partitions: int, tasks: int
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def train(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        assert context is not None
        arrays, held_out = read(whole(batches), inputs=task.spec.inputs, outputs=task.spec.outputs, classes=classes)
        lanes = range(context.partitionId(), partitions, tasks)
        parts = _parts(arrays, held_out, len(lanes), task.config.validation_split)
        numbered = ((lane, *part) for lane, part in zip(lanes, parts, strict=True))
        summaries = run_worker(task, numbered, attempt=context.taskAttemptId())
        yield pa.RecordBatch.from_pylist([asdict(summary) for summary in summaries])

    return train


def _parts(arrays: Arrays, held_out: Any, count: int, validation_split: float) -> Iterator[tuple[Arrays, Arrays]]:
    """The rows of one task in ``count`` even parts: those to train on and those to validate on."""
    for i in range(count):
        begin, end = arrays.rows * i // count, arrays.rows * (i + 1) // count
        part = arrays.slice(begin, end)
        if held_out is None:
            yield part.split(validation_split)
        else:
            yield part.take(np.flatnonzero(~held_out[begin:end])), part.take(np.flatnonzero(held_out[begin:end]))
