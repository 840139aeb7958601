"""What the pushes of one synchronous round come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elephas_fast import _core
from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.store import Mark


@dataclass
class Contribution:
    """A push that waits for its round; its vectors belong to the sender's outbox or to the message.

    ``finite``: whether it takes part; ``orphan``: its sender has left and its line is to be given back.
    """

    mark: Mark
    rows: int
    gradient: Float32Array
    opaque: ByteArray | None
    finite: bool
    orphan: bool = False

    def detach(self) -> None:
        """Copy the vectors: the outbox is given to somebody else."""
        self.gradient = self.gradient.copy()
        self.opaque = None if self.opaque is None else self.opaque.copy()


class Mean:
    """The mean of updates of ``size`` elements, in one buffer that is made at first use."""

    def __init__(self, size: int, threads: int) -> None:
        self._size = size
        self._threads = threads
        self._buffer: Float32Array | None = None

    def of(self, given: Sequence[Contribution]) -> Float32Array:
        """Weighted by their rows (evenly if nobody has any), summed in their order; valid until the next call."""
        if self._buffer is None:
            self._buffer = np.zeros(self._size, np.float32)
        rows = [float(c.rows) for c in given] if any(c.rows for c in given) else [1.0] * len(given)
        _core.weighted_mean([c.gradient for c in given], rows, self._buffer, threads=self._threads)
        return self._buffer


def last_opaque(given: Sequence[Contribution]) -> ByteArray | None:
    """The opaque bytes of the last contribution that has any."""
    return next((c.opaque for c in reversed(given) if c.opaque is not None), None)
