"""What comes of a push, and checks of what it brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from elephas_fast import _core
from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.store.ledger import Verdict

FLOAT32 = np.dtype(np.float32)
Gradient = Float32Array | Sequence[Float32Array]


class PushOutcome(NamedTuple):
    """``version``: updates applied so far. ``applied``: whether this one was. ``nonfinite``: its non-finite results.

    ``verdict``: of the ledger, where the push asked for it; all but 'new' change nothing.
    """

    version: int
    applied: bool
    nonfinite: int
    verdict: Verdict = "new"


def is_finite(trainable: Gradient | None, state: Float32Array | None) -> bool:
    """Whether both hold finite numbers only; ``None`` does."""
    return (trainable is None or _core.all_finite(trainable)) and (state is None or _core.all_finite(state))


def count_nonfinite(trainable: Gradient, state: Float32Array | None) -> int:
    """How many numbers of both are not finite."""
    given = [trainable] if isinstance(trainable, np.ndarray) else [*trainable]
    given += [] if state is None else [state]
    return sum(_core.count_nonfinite(np.asarray(array).reshape(-1)) for array in given)


def check_vector(name: str, value: Float32Array, size: int) -> None:
    """Raise ``ValueError`` unless ``value`` is float32[size]."""
    if (value.dtype is not FLOAT32 and value.dtype != FLOAT32) or value.shape != (size,):
        raise ValueError(f"{name}: expected float32[{size}], got {value.dtype}{list(value.shape)}")


def check_opaque(value: ByteArray, size: int) -> None:
    """Raise ``ValueError`` unless ``value`` is uint8[size]."""
    if value.dtype != np.uint8 or value.shape != (size,):
        raise ValueError(f"opaque: expected uint8[{size}], got {value.dtype}{list(value.shape)}")
