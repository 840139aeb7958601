"""The containers: the rows of a partition, and many rows travelling as one object."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast.layout import aligned_empty

Array = NDArray[Any]


@dataclass(frozen=True)
class Arrays:
    """The rows of one partition: ``x[i]`` and ``y[i]`` are the i-th input and output, rows on axis 0.

    ``sample_weight`` holds one array for all outputs, or one per output. Slices are views of the same memory.
    """

    x: tuple[Array, ...]
    y: tuple[Array, ...] = ()
    sample_weight: tuple[Array, ...] | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.x[0]) if self.x else 0

    def slice(self, begin: int, end: int) -> Arrays:
        """Rows ``[begin, end)`` as views."""
        return self._map(lambda array: array[begin:end])

    def take(self, indices: NDArray[np.int64]) -> Arrays:
        """The rows at ``indices`` (int64[k]) as new arrays; a run of consecutive indices gives views instead."""
        count = len(indices)
        begin = int(indices[0]) if count else 0
        if count and indices[-1] == begin + count - 1 and indices.tolist() == list(range(begin, begin + count)):
            return self.slice(begin, begin + count)
        return self._map(lambda array: _gathered(array, indices))

    def split(self, fraction: float) -> tuple[Arrays, Arrays]:
        """Training and validation rows: the last ``fraction`` of the rows validate, rounded as Keras does.

        Unlike ``keras.Model.fit``, too few rows to split is no error: they all train. Raises ``ValueError`` unless
        ``0 <= fraction < 1``.
        """
        if not 0 <= fraction < 1:
            raise ValueError(f"validation_split: expected a fraction in [0, 1), got {fraction!r}")
        at = math.floor(self.rows * (1.0 - fraction)) or self.rows
        return self.slice(0, at), self.slice(at, self.rows)

    def _map(self, pick: Callable[[Array], Array]) -> Arrays:
        weights = self.sample_weight
        return Arrays(
            tuple(map(pick, self.x)), tuple(map(pick, self.y)), None if weights is None else tuple(map(pick, weights))
        )


def _gathered(array: Array, indices: NDArray[np.int64]) -> Array:
    """Rows in new memory on a 64-byte boundary, which TensorFlow can adopt without another copy."""
    if array.dtype.hasobject:
        return array.take(indices, axis=0)
    shape = (len(indices), *array.shape[1:])
    out: Array = aligned_empty(math.prod(shape) * array.itemsize).view(array.dtype).reshape(shape)
    array.take(indices, axis=0, out=out, mode="clip")  # indices are in range, and mode='raise' would copy twice
    return out


@dataclass(frozen=True)
class Block:
    """Many rows in one picklable object: arrays with rows on axis 0, one per input, output and weight."""

    x: tuple[Array, ...]
    y: tuple[Array, ...] = ()
    sample_weight: tuple[Array, ...] | None = None

    def __post_init__(self) -> None:
        lengths = {len(array) for array in (*self.x, *self.y, *(self.sample_weight or ()))}
        if not self.x or len(lengths) != 1:
            raise ValueError(f"Block: expected x and arrays of one length, got lengths {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.x[0])

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.rows()

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows one by one: ``(x, y)`` or ``(x, y, sample_weight)``, a tuple of arrays where there are several."""
        parts = [self.x, self.y] if self.sample_weight is None else [self.x, self.y, self.sample_weight]
        for i in range(len(self)):
            yield tuple(part[0][i] if len(part) == 1 else tuple(array[i] for array in part) for part in parts)
