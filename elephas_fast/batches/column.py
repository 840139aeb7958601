"""One growing block of rows: the shape and dtype rules of a single input, output or sample weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast.input_spec import InputSpec

Array = NDArray[Any]
Shape = tuple[int, ...]

_FIRST_CHUNK = 256
_LARGEST_CHUNK = 1 << 25


class Column:
    """Rows gathered into chunks and joined at the end: each value is copied twice, memory never doubles.

    The first row settles what the spec leaves open; ``label`` names the column in errors.
    """

    def __init__(self, label: str, spec: InputSpec) -> None:
        self.name = spec.name
        self._label = label
        self._spec_shape = spec.shape
        self._free_dtype = spec.dtype is None
        self._dtype: np.dtype[Any] = np.dtype(np.int32) if spec.dtype is None else _dtype(spec.dtype)
        self._shape: Shape | None = None
        self._seen: np.dtype[Any] | None = None
        self._full: list[Array] = []
        self._open: Array = np.empty(0, self._dtype)
        self._used = 0

    def append(self, value: Any, row: int) -> None:
        """Add one row."""
        if self._seen is None or getattr(value, "shape", None) != self._shape or value.dtype != self._seen:
            value = self._fit(value, row)
        used = self._used
        if used == len(self._open):
            self._next_chunk()
            used = 0
        self._open[used] = value
        self._used = used + 1

    def extend(self, values: Array, row: int) -> None:
        """Add the rows of an array, ``row`` being the number of its first; the array is kept but not written."""
        if len(values):
            shape = self._settle(values.shape[1:], values.dtype, row)
            self._close_chunk()
            self._full.append(values.reshape((len(values), *shape)))

    def finish(self) -> Array:
        """All rows in one array; the column is empty afterwards."""
        self._close_chunk()
        chunks, self._full = self._full, []
        if self._shape is None:
            dtype = np.dtype(np.float32) if self._free_dtype else self._dtype
            return np.empty((0, *(axis or 0 for axis in self._spec_shape or ())), dtype)
        if len(chunks) == 1 and chunks[0].dtype == self._dtype and chunks[0].flags.c_contiguous:
            return chunks[0]
        block = np.empty((sum(map(len, chunks)), *self._shape), self._dtype)
        end = len(block)
        while chunks:  # each chunk is freed before the pages of the next are touched
            chunk = chunks.pop()
            block[end - len(chunk) : end] = chunk
            end -= len(chunk)
        return block

    def _next_chunk(self) -> None:
        size = max(2 * len(self._open), _FIRST_CHUNK)
        self._close_chunk()
        row = np.empty((1, *(self._shape or ())), self._dtype).nbytes
        self._open = np.empty((min(size, _LARGEST_CHUNK // max(row, 1) + 1), *(self._shape or ())), self._dtype)

    def _close_chunk(self) -> None:
        """Move the open chunk to the full ones; a chunk less than half full gives back its spare room."""
        if self._used:
            chunk = self._open[: self._used]
            self._full.append(chunk.copy() if 2 * self._used < len(self._open) else chunk)
        self._open, self._used = self._open[:0], 0

    def _fit(self, value: Any, row: int) -> Array:
        """The value as an array of the column's row shape."""
        if isinstance(value, Mapping):
            value = named(value, [self.name], self._label, row)[0]
        try:
            array = np.asarray(value)
        except ValueError:
            raise ValueError(f"row {row}: {self._label}: expected numbers, got a ragged sequence") from None
        return array.reshape(self._settle(array.shape, array.dtype, row))

    def _settle(self, shape: Shape, dtype: np.dtype[Any], row: int) -> Shape:
        """The column's row shape, after checking a row's shape and dtype against it or letting a first row decide."""
        if self._dtype.kind != "O" and dtype.kind not in "biuf":
            raise ValueError(f"row {row}: {self._label}: expected numbers, got dtype {dtype}")
        expected = self._spec_shape if self._shape is None else self._shape
        settled = shape if expected is None else _match(expected, shape)
        if settled is None:
            raise ValueError(f"row {row}: {self._label}: expected shape {expected}, got {shape}")
        self._shape = settled
        if self._free_dtype:
            kept = _kept_dtype(dtype)
            if self._dtype.kind == "i" and kept not in (self._dtype, np.int32):
                self._close_chunk()  # rows so far are widened when the chunks are joined
                self._dtype = kept
        self._seen = dtype
        return settled


def named(value: Mapping[str, Any], names: Sequence[str], label: str, row: int) -> list[Any]:
    """The values of a row given as a dict, in the order of ``names``."""
    if set(value) != set(names):
        raise ValueError(f"row {row}: {label}: expected the names {sorted(names)}, got {sorted(value)}")
    return [value[name] for name in names]


def _match(expected: tuple[int | None, ...], shape: Shape) -> Shape | None:
    """The row shape as ``expected`` wants it; a last axis of length 1 may be missing or surplus, as Keras allows."""
    for candidate in (shape, (*shape, 1), shape[:-1] if shape[-1:] == (1,) else shape):
        if len(candidate) == len(expected) and all(e in (None, c) for e, c in zip(expected, candidate, strict=True)):
            return candidate
    return None


def _dtype(name: str) -> Any:
    if name == "string":
        return np.dtype(object)
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def _kept_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "f":
        return np.dtype(np.float32)
    wide = dtype.kind != "b" and (dtype.itemsize == 8 or dtype == np.uint32)
    return np.dtype(np.int64 if wide else np.int32)
