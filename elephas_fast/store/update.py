"""What a push brings and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from elephas_fast import _core
from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.store.ledger import Mark, Verdict

FLOAT32 = np.dtype(np.float32)


class PushOutcome(NamedTuple):
    """``version``: updates applied so far. ``applied``: whether this one was. ``nonfinite``: its non-finite results.

    ``verdict``: of the ledger, where the push asked for it; all but 'new' change nothing.
    """

    version: int
    applied: bool
    nonfinite: int
    verdict: Verdict = "new"


class Update(NamedTuple):
    """One push, checked. ``trainable`` and ``state`` are what ``ParameterStore.push`` describes; ``state`` may be
    ``None``. ``flat``, ``opaque_out``: where the weights after the push go.
    """

    trainable: Float32Array | Sequence[Float32Array]
    state: Float32Array | None
    scale: float
    opaque: ByteArray | None
    marks: Sequence[Mark]
    finite: bool
    flat: Float32Array | None
    opaque_out: ByteArray | None
    verify: bool

    def is_finite(self) -> bool:
        """Whether it is all finite numbers, or the sender says so."""
        if self.finite:
            return True
        return _core.all_finite(self.trainable) and (self.state is None or _core.all_finite(self.state))

    def count_nonfinite(self) -> int:
        """How many of its numbers are not finite."""
        given = self.trainable if isinstance(self.trainable, (list, tuple)) else [self.trainable]
        state = [] if self.state is None else [self.state]
        return sum(_core.count_nonfinite(np.asarray(array).reshape(-1)) for array in (*given, *state))


def check_vector(name: str, value: Float32Array, size: int) -> None:
    """Raise ``ValueError`` unless ``value`` is float32[size]."""
    if (value.dtype is not FLOAT32 and value.dtype != FLOAT32) or value.shape != (size,):
        raise ValueError(f"{name}: expected float32[{size}], got {value.dtype}{list(value.shape)}")


def check_opaque(value: ByteArray, size: int) -> None:
    """Raise ``ValueError`` unless ``value`` is uint8[size]."""
    if value.dtype != np.uint8 or value.shape != (size,):
        raise ValueError(f"opaque: expected uint8[{size}], got {value.dtype}{list(value.shape)}")
