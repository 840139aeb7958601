"""A model's outputs as a column of a DataFrame, computed where the rows are, when they are asked for."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from elephas_fast.batches.arrow import features as read_features
from elephas_fast.batches.arrow import nested
from elephas_fast.keras_bridge import ModelSpec, trainer_for
from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.spark.frames import check_frame, packed
from elephas_fast.spark.interpreter import use_driver_python

_COLUMNAR_INPUT: Final = "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled"


@dataclass(frozen=True)
class Output:
    """An output of a model as SQL: ``axes`` beside that of the rows; ``form``: 'array', 'number' (of one number per
    row) or 'class' (the index of the greatest of the last axis, or for one number whether it is above a half)."""

    name: str
    axes: int
    form: str

    @property
    def sql_type(self) -> T.DataType:
        """Doubles, in as many arrays as there are axes."""
        kind: T.DataType = T.DoubleType()
        for _ in range(self._depth):
            kind = T.ArrayType(kind)
        return kind

    @property
    def _depth(self) -> int:
        return self.axes if self.form == "array" else self.axes - 1

    def to_arrow(self, values: NDArray[Any]) -> pa.Array:
        """The output for some rows, of the type ``sql_type``."""
        if self.form == "class":
            wide = values.shape[-1] > 1
            values = np.argmax(values, axis=-1) if wide else values[..., 0] > 0.5
        elif self.form == "number":
            values = values[..., 0]
        return nested(values)


def predictions(
    df: DataFrame,
    names: Sequence[str],
    spec: ModelSpec,
    weights: tuple[Float32Array, ByteArray],
    outputs: Sequence[Output],
    batch_size: int,
    finish: Callable[[list[NDArray[Any]]], list[NDArray[Any]]] | None = None,
) -> Column:
    """The column of what the model of ``spec`` with ``weights`` (flat, opaque) gives for the columns ``names`` of
    ``df``; for several outputs a struct of them by name. ``finish`` makes the ``outputs`` of what the model gives.
    Lazy; each Python worker builds the model once."""
    check_frame(df)
    use_driver_python()
    _read_by_rows(df)
    columns = packed(df, "features", names, spec.inputs)

    def predict(batches: Iterator[Any]) -> Iterator[pa.Array]:
        trainer = trainer_for(spec, 1)
        for batch in batches:
            given = batch if isinstance(batch, tuple) else (batch,)
            rows = read_features(given, spec.inputs)
            results = trainer.predict(rows.x, *weights, batch_size)
            results = results if finish is None else finish(results)
            found = [output.to_arrow(values) for output, values in zip(outputs, results, strict=True)]
            yield found[0] if len(found) == 1 else pa.StructArray.from_arrays(found, [o.name for o in outputs])

    kind = outputs[0].sql_type
    if len(outputs) > 1:
        kind = T.StructType([T.StructField(output.name, output.sql_type) for output in outputs])
    made: Column = _user_function(predict, len(columns), kind)(*columns)
    return made


def _read_by_rows(df: DataFrame) -> None:
    """Spark 4.3 hands a columnar source, such as Parquet, to Arrow functions without making rows of it, and fails where
    the frame has a column of vectors. Where it has, the session is told not to."""
    if '"udt"' in df.schema.json():
        df.sparkSession.conf.set(_COLUMNAR_INPUT, "false")


def _user_function(predict: Callable[[Iterator[Any]], Iterator[pa.Array]], inputs: int, kind: T.DataType) -> Any:
    """A Spark function of Arrow arrays; before Spark 4.1 by way of pandas."""
    if hasattr(F, "arrow_udf"):
        return F.arrow_udf(_annotated(predict, inputs, pa.Array), kind)
    import pandas as pd
    from pyspark.sql.pandas.functions import pandas_udf

    def by_pandas(batches: Iterator[Any]) -> Iterator[Any]:
        def arrays() -> Iterator[Any]:
            for batch in batches:
                given = batch if isinstance(batch, tuple) else (batch,)
                yield tuple(pa.Array.from_pandas(series) for series in given)

        for found in predict(arrays()):
            yield pd.DataFrame(found.to_pylist()) if isinstance(kind, T.StructType) else found.to_pandas()

    returned = pd.DataFrame if isinstance(kind, T.StructType) else pd.Series
    return pandas_udf(_annotated(by_pandas, inputs, pd.Series, returned), kind)  # type: ignore[call-overload]


def _annotated(function: Any, inputs: int, taken: Any, returned: Any = None) -> Any:
    """Spark tells kinds of functions apart by their annotations."""
    several = taken if inputs == 1 else types.GenericAlias(tuple, (taken, ...))
    iterator: Any = Iterator
    function.__annotations__ = {"batches": iterator[several], "return": iterator[returned or taken]}
    return function
