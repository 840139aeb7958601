"""Rows and blocks of rows, however the user wrote them, into columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from elephas_fast.batches.arrays import Array, Arrays, Block
from elephas_fast.batches.column import Column, named
from elephas_fast.input_spec import InputSpec


def collect(rows: Iterable[Any], *, inputs: Sequence[InputSpec], outputs: Sequence[InputSpec]) -> Arrays:
    """Read all rows into one block per input, output and sample weight.

    A row is ``(x, y)`` or ``(x, y, sample_weight)``; without ``outputs`` a row is ``x`` alone. Where a model has
    several inputs (outputs), x (y, and if wanted sample_weight) is a tuple or list in their order or a dict by their
    names. A ``Block`` may stand for many rows. Inputs are cast to the dtype of their spec; where the spec leaves shape
    or dtype open the first row decides, floats become float32, integers stay int32 or int64 and are widened to
    float32 if a float follows.

    Raises ``ValueError`` naming the row, what was expected and what was found. The result owns its memory, except that
    a single block of fitting dtype is used as it is.
    """
    x = [Column(f"input '{spec.name}'" if len(inputs) > 1 else "x", spec) for spec in inputs]
    y = [Column(f"output '{spec.name}'" if len(outputs) > 1 else "y", spec) for spec in outputs]
    weights: list[Column] | None = None
    single = len(x) == 1 and len(y) == 1
    row = 0
    for item in rows:
        if single and type(item) is tuple and len(item) == 2 and weights is None:
            x[0].append(item[0], row)
            y[0].append(item[1], row)
            row += 1
            continue
        if isinstance(item, Block):
            given: Any = item.sample_weight
            weights = _weight_columns(weights, given, outputs, row)
            _extend(x, item.x, "x", row)
            if y:
                _extend(y, item.y, "y", row)
            if weights:
                _extend(weights, given, "sample_weight", row)
            row += len(item)
            continue
        features, targets, given = _parts(item, bool(y), row)
        weights = _weight_columns(weights, given, outputs, row)
        _append(x, features, "x", row)
        _append(y, targets, "y", row)
        if weights:
            _append(weights, given, "sample_weight", row)
        row += 1
    finished = tuple(column.finish() for column in weights) if weights else None
    return Arrays(tuple(c.finish() for c in x), tuple(c.finish() for c in y), finished)


def _parts(item: Any, with_targets: bool, row: int) -> tuple[Any, Any, Any]:
    if not with_targets:
        return item, (), None
    if isinstance(item, tuple | list) and len(item) in (2, 3):
        return item[0], item[1], item[2] if len(item) == 3 else None
    got = f"{len(item)} parts" if isinstance(item, tuple | list) else type(item).__name__
    raise ValueError(f"row {row}: expected (x, y) or (x, y, sample_weight), got {got}")


def _append(columns: Sequence[Column], value: Any, label: str, row: int) -> None:
    if len(columns) == 1:
        columns[0].append(value, row)
        return
    if isinstance(value, Mapping):
        value = named(value, [column.name for column in columns], label, row)
    elif not isinstance(value, tuple | list) or len(value) != len(columns):
        got = f"{len(value)} of them" if isinstance(value, tuple | list) else type(value).__name__
        raise ValueError(f"row {row}: {label}: expected a tuple, list or dict of {len(columns)} arrays, got {got}")
    for column, part in zip(columns, value, strict=True):
        column.append(part, row)


def _extend(columns: Sequence[Column], arrays: Sequence[Array], label: str, row: int) -> None:
    if len(arrays) != len(columns):
        raise ValueError(f"block at row {row}: {label}: expected {len(columns)} arrays, got {len(arrays)}")
    for column, array in zip(columns, arrays, strict=True):
        column.extend(array, row)


def _weight_columns(
    columns: list[Column] | None, given: Any, outputs: Sequence[InputSpec], row: int
) -> list[Column] | None:
    """Columns for the sample weights, decided by the first row: none ([]), one for all outputs, or one per output."""
    if columns is None:
        if given is None or row:
            columns = []
        else:
            several = len(outputs) > 1 and isinstance(given, tuple | list | Mapping) and len(given) == len(outputs)
            names = [spec.name for spec in outputs] if several else ["sample_weight"]
            columns = [Column("sample_weight", InputSpec(name, None, "float32")) for name in names]
    if (given is None) != (not columns):
        raise ValueError(f"row {row}: sample_weight: expected it in all rows or in none")
    return columns
