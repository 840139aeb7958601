"""Which rows a round trains on, and in which order."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Frequency = Literal["batch", "epoch"] | int


def rounds(rows: int, batch_size: int, frequency: Frequency) -> list[list[tuple[int, int]]]:
    """The rounds of one epoch, each a list of ``(begin, end)`` batches; the last batch may be short.

    ``frequency``: ``'batch'`` (one batch a round), ``'epoch'`` (all of them) or a number of batches per round.
    """
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size: expected a whole number >= 1, got {batch_size!r}")
    batches = [(begin, min(begin + batch_size, rows)) for begin in range(0, rows, batch_size)]
    if frequency == "epoch":
        length = max(len(batches), 1)
    elif frequency == "batch":
        length = 1
    elif isinstance(frequency, int) and not isinstance(frequency, bool) and frequency >= 1:
        length = frequency
    else:
        raise ValueError(f"frequency: expected 'batch', 'epoch' or a number of batches >= 1, got {frequency!r}")
    return [batches[i : i + length] for i in range(0, len(batches), length)]


def order(rows: int, *, shuffle: bool, seed: int, partition: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the rows: int64[rows], the same for the same arguments everywhere."""
    if not shuffle:
        return np.arange(rows, dtype=np.int64)
    generator = np.random.default_rng([seed, partition, epoch])
    return generator.permutation(rows).astype(np.int64, copy=False)
