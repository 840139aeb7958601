"""What one row of a model's data looks like: shared by the room that reads rows and the room that knows Keras."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputSpec:
    """One input or output of a model, per row (no batch axis).

    ``shape`` may hold ``None`` for an axis the model leaves open, and is ``None`` where the model does not say at all
    (targets: the loss decides). ``dtype`` is a NumPy name, ``'string'``, or ``None``: taken from the data.
    """

    name: str
    shape: tuple[int | None, ...] | None = None
    dtype: str | None = None
