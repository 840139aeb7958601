"""Prediction and evaluation: in the driver for few rows, as a Spark job for many or for an RDD."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pyspark import RDD, SparkContext

from elephas_fast.batches import Block, collect
from elephas_fast.keras_bridge import ModelSpec, describe, layout_of, merge_metrics, trainer_for, weights_of
from elephas_fast.spark.interpreter import use_driver_python
from elephas_fast.spark.rows import blocks_of, to_simple_rdd
from elephas_fast.spark.strict import strictly

LOCAL_ROWS: Final = 16_384
"""Arrays of at most this many rows are predicted in the driver: starting tasks would take longer."""

Row = NDArray[Any] | list[NDArray[Any]]
Finish = Callable[[list[NDArray[Any]]], list[NDArray[Any]]]


def predict(
    model: Any,
    data: Any,
    *,
    batch_size: int = 32,
    custom_objects: Mapping[str, Any] | None = None,
    finish: Finish | None = None,
) -> list[Row]:
    """The model's output for each row, in the order of the rows; for several outputs a list of arrays for each row.
    ``finish``: makes other outputs of them, where they were computed.

    ``data``: an array, a list or tuple of arrays for several inputs, or an RDD of x rows (or of (x, y) pairs made by
    ``to_simple_rdd``).
    """
    if isinstance(data, RDD):
        return _predict_rdd(model, data, batch_size, custom_objects, finish)
    columns = [np.asarray(c) for c in (data if _several_inputs(model) else [data])]
    rows = len(columns[0])
    sc = SparkContext._active_spark_context
    if rows <= LOCAL_ROWS or sc is None:
        outputs = model.predict(columns if _several_inputs(model) else columns[0], batch_size=batch_size, verbose=0)
        found = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        return _by_row(found if finish is None else finish(found))
    blocks = [Block(tuple(c[i : i + 1000] for c in columns)) for i in range(0, rows, 1000)]
    return _predict_rdd(model, sc.parallelize(blocks), batch_size, custom_objects, finish)


def evaluate(
    model: Any,
    data: Any,
    targets: Any = None,
    *,
    batch_size: int = 32,
    sample_weight: Any = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Loss and metrics over all rows, by name, ``'loss'`` first.

    ``data``: an array (or several) with ``targets``, or an RDD of (x, y) pairs. Metrics are merged from their states,
    so the result is that of one process over all rows.
    """
    if isinstance(data, RDD):
        if targets is not None or sample_weight is not None:
            raise TypeError("evaluate: expected an RDD of (x, y) rows alone, got targets or weights beside it")
        return _evaluate_rdd(model, data, batch_size, custom_objects)
    rows = len(data[0]) if _several_inputs(model) else len(data)
    sc = SparkContext._active_spark_context
    if rows <= LOCAL_ROWS or sc is None or sample_weight is not None:
        logs = model.evaluate(
            data, targets, batch_size=batch_size, sample_weight=sample_weight, verbose=0, return_dict=True
        )
        return {name: float(logs[name]) for name in sorted(logs, key=lambda name: name != "loss")}
    return _evaluate_rdd(model, to_simple_rdd(sc, data, targets), batch_size, custom_objects)


def _predict_rdd(
    model: Any, rdd: RDD[Any], batch_size: int, custom_objects: Mapping[str, Any] | None, finish: Finish | None
) -> list[Row]:
    spec = describe(model, custom_objects, update=None)
    blocks = blocks_of(rdd)
    source = rdd if blocks is None else blocks.rdd
    parts = _run_on(model, source, spec, _predict_function(spec, batch_size, finish))
    return [row for part in parts for row in _by_row(part)]


def _evaluate_rdd(
    model: Any, rdd: RDD[Any], batch_size: int, custom_objects: Mapping[str, Any] | None
) -> dict[str, float]:
    spec = describe(model, custom_objects, update="delta")
    blocks = blocks_of(rdd)
    source = rdd if blocks is None else blocks.rdd
    logs = merge_metrics(model, _run_on(model, source, spec, _evaluate_function(spec, batch_size)))
    if not logs:
        raise ValueError("data: expected at least one row to evaluate, got an empty RDD")
    return logs


def _run_on(model: Any, rdd: RDD[Any], spec: ModelSpec, function: Callable[[Any, Any], Iterator[Any]]) -> list[Any]:
    use_driver_python(rdd.context)
    weights = rdd.context.broadcast(weights_of(model, layout_of(model)))
    try:
        return strictly(rdd.mapPartitions(lambda rows: function(rows, weights))).collect()
    finally:
        weights.destroy()


def _predict_function(spec: ModelSpec, batch_size: int, finish: Finish | None) -> Callable[[Any, Any], Iterator[Any]]:
    def run(rows: Iterable[Any], weights: Any) -> Iterator[list[NDArray[Any]]]:
        arrays = collect((_without_targets(row) for row in rows), inputs=spec.inputs, outputs=())
        flat, opaque = weights.value
        outputs = trainer_for(spec, 1).predict(arrays.x, flat, opaque, batch_size)
        if finish is None:
            yield outputs
        elif arrays.rows:
            yield finish(outputs)

    return run


def _evaluate_function(spec: ModelSpec, batch_size: int) -> Callable[[Any, Any], Iterator[Any]]:
    def run(rows: Iterable[Any], weights: Any) -> Iterator[Any]:
        arrays = collect(rows, inputs=spec.inputs, outputs=spec.outputs)
        if arrays.rows:
            flat, opaque = weights.value
            yield trainer_for(spec, 1).evaluate(arrays, flat, opaque, batch_size)

    return run


def _without_targets(row: Any) -> Any:
    return Block(row.x) if isinstance(row, Block) else row


def _by_row(outputs: list[NDArray[Any]]) -> list[Row]:
    if len(outputs) == 1:
        return list(outputs[0])
    return [list(row) for row in zip(*outputs, strict=True)]


def _several_inputs(model: Any) -> bool:
    return len(getattr(model, "inputs", None) or [None]) > 1
