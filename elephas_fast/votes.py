"""How several models' outputs become one: votes and means, on arrays alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Vote:
    """``kind`` 'hard' (each member has one voice for the class it finds likeliest), 'soft' (probabilities are averaged)
    or 'mean' (of outputs, for regression). ``weights``: one for each member, whose order is from the best down."""

    kind: str
    weights: tuple[float, ...]

    @classmethod
    def of(cls, kind: str, members: int, weights: Sequence[float] | None) -> Vote:
        """With checked weights, equal ones by default. Raises ``ValueError``."""
        if kind not in ("hard", "soft", "mean"):
            raise ValueError(f"voting: expected 'hard' or 'soft', got {kind!r}")
        given = [1.0] * members if weights is None else [float(weight) for weight in weights]
        if len(given) != members:
            raise ValueError(f"weights: expected {members}, one for each model, got {len(given)}")
        if not all(np.isfinite(weight) and weight >= 0 for weight in given) or not sum(given):
            raise ValueError(f"weights: expected numbers from 0 up, not all of them 0, got {given}")
        return cls(kind, tuple(given))

    def outputs(self, members: Sequence[Array]) -> Array:
        """The probability (soft) or the share of votes (hard) of each class: float64[..., classes]; or the mean."""
        stacked = np.stack([np.asarray(member, np.float64) for member in members])
        weights = np.asarray(self.weights, np.float64)
        if self.kind == "mean":
            return np.asarray(np.average(stacked, axis=0, weights=weights))
        stacked = _as_classes(stacked)
        if self.kind == "hard":
            stacked = np.eye(stacked.shape[-1])[np.argmax(stacked, axis=-1)]
        return np.asarray(np.average(stacked, axis=0, weights=weights))

    def decide(self, members: Sequence[Array]) -> Array:
        """The class of each row, int64; of classes with equal votes that of the best member that voted for one of
        them. For 'mean' the outputs."""
        found = self.outputs(members)
        if self.kind == "mean":
            return found
        top = np.isclose(found, found.max(axis=-1, keepdims=True), rtol=1e-9, atol=0.0)
        if self.kind == "soft":
            return np.asarray(np.argmax(found, axis=-1), np.int64)
        chosen = np.full(found.shape[:-1], -1, np.int64)
        for member in members:
            own = np.argmax(_as_classes(np.asarray(member, np.float64)), axis=-1)
            tied = np.take_along_axis(top, own[..., None], axis=-1)[..., 0]
            chosen = np.where((chosen < 0) & tied, own, chosen)
        return chosen


def _as_classes(outputs: Array) -> Array:
    """One probability p as the two classes (1 - p, p)."""
    return np.concatenate([1.0 - outputs, outputs], axis=-1) if outputs.shape[-1] == 1 else outputs
