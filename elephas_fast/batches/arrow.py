"""Rows that come as Arrow record batches, into arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from elephas_fast.batches.arrays import Array, Arrays, Block
from elephas_fast.batches.collect import collect
from elephas_fast.input_spec import InputSpec

X, Y, WEIGHT, HELD_OUT = "x{}", "y{}", "weight", "held_out"
"""The columns of a record batch: inputs and outputs by number, and where there are any the sample weights and which
rows are kept for validation."""


def read(
    batches: Iterable[pa.RecordBatch],
    *,
    inputs: Sequence[InputSpec],
    outputs: Sequence[InputSpec],
    classes: int | None = None,
) -> tuple[Arrays, NDArray[np.bool_] | None]:
    """All rows, and which of them are kept for validation (``None``: the batches do not say).

    A column holds a number for each row, or nested lists of one shape; flat ones take the shape of their input where
    they have as many numbers. ``classes``: outputs that are numbers are classes, made one-hot. Raises ``ValueError``
    in one sentence for a null, for rows of different lengths and for what does not fit the model. The result owns its
    memory.
    """
    held_out: list[Array] = []

    def blocks() -> Iterator[Block]:
        for batch in batches:
            if not batch.num_rows:
                continue
            x = tuple(_inputs(batch, i, spec) for i, spec in enumerate(inputs))
            y = tuple(_output(batch, i, spec, classes) for i, spec in enumerate(outputs))
            weights = (values(batch.column(WEIGHT), "sample weights"),) if WEIGHT in batch.schema.names else None
            if HELD_OUT in batch.schema.names:
                held_out.append(values(batch.column(HELD_OUT), "rows kept for validation").astype(bool))
            yield Block(x, y, weights)

    arrays = collect(blocks(), inputs=inputs, outputs=outputs)
    return arrays, np.concatenate(held_out) if held_out else None


def features(columns: Sequence[pa.Array], inputs: Sequence[InputSpec]) -> Arrays:
    """One array for each input of a model to predict with. Raises as ``read``."""
    x = [
        _shaped(values(column, f"features for {spec.name}"), spec) for column, spec in zip(columns, inputs, strict=True)
    ]
    return collect([Block(tuple(x))], inputs=inputs, outputs=())


def values(column: pa.Array, name: str) -> Array:
    """The values of an Arrow array, with an axis for each level of lists in it; a view of its memory where that has no
    gaps. Raises ``ValueError`` for nulls and for lists of different lengths."""
    if column.null_count:
        raise ValueError(f"{name}: expected no nulls, got {column.null_count} of {len(column)}; drop or fill them")
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        length = _common(pc.list_value_length(column), name)
        inner = values(column.flatten(), name)
        return inner.reshape(len(column), length, *inner.shape[1:])
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        length = _common(pc.binary_length(column), name)
        return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(len(column), length)
    as_it_is = pa.types.is_primitive(kind) and not pa.types.is_boolean(kind)
    result: Array = column.to_numpy(zero_copy_only=as_it_is)
    return result


def nested(array: Array) -> pa.Array:
    """The rows of an array as Arrow: numbers, or lists as deep as the array has further axes; float64."""
    flat = pa.array(np.ascontiguousarray(array, np.float64).reshape(-1))
    for axis in range(array.ndim - 1, 0, -1):
        count = math.prod(array.shape[:axis])
        offsets = np.arange(count + 1, dtype=np.int32) * np.int32(array.shape[axis])
        flat = pa.ListArray.from_arrays(pa.array(offsets), flat)
    return flat


def one_hot(labels: Array, classes: int, name: str) -> NDArray[np.float32]:
    """float32[rows, classes]. Raises ``ValueError`` for a label that is no whole number below ``classes``."""
    indices = labels.astype(np.int64)
    wrong = (indices != labels) | (indices < 0) | (indices >= classes)
    if wrong.any():
        first = labels[int(np.argmax(wrong))]
        raise ValueError(f"{name}: expected classes from 0 to {classes - 1}, got {first}")
    encoded = np.zeros((len(labels), classes), np.float32)
    encoded[np.arange(len(labels)), indices] = 1.0
    return encoded


def _common(lengths: pa.Array, name: str) -> int:
    bounds = pc.min_max(lengths).as_py()
    if bounds["min"] != bounds["max"]:
        raise ValueError(
            f"{name}: expected as many numbers in each row, got rows of {bounds['min']} and of {bounds['max']}"
        )
    return int(bounds["min"] or 0)


def _inputs(batch: pa.RecordBatch, number: int, spec: InputSpec) -> Array:
    return _shaped(values(batch.column(X.format(number)), f"features for {spec.name}"), spec)


def _output(batch: pa.RecordBatch, number: int, spec: InputSpec, classes: int | None) -> Array:
    what = f"labels for {spec.name}"
    labels = values(batch.column(Y.format(number)), what)
    return labels if classes is None or labels.ndim > 1 else one_hot(labels, classes, what)


def _shaped(array: Array, spec: InputSpec) -> Array:
    """Flat rows in the shape of the input, as vectors hold images."""
    shape = spec.shape
    if array.ndim != 2 or shape is None or len(shape) < 2 or sum(axis is None for axis in shape) > 1:
        return array
    known = math.prod(axis for axis in shape if axis is not None)
    fits = known and array.shape[1] % known == 0 if None in shape else known == array.shape[1]
    return array.reshape(len(array), *(-1 if axis is None else axis for axis in shape)) if fits else array
