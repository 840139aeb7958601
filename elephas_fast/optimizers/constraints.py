"""Keras' weight constraints, from their serialized form to one compiled call per weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast import _core
from elephas_fast.layout import Tensor
from elephas_fast.optimizers._checks import known_keys

Project = Callable[[NDArray[np.float32]], None]

# The arguments of each constraint class and their defaults: keras/src/constraints/constraints.py.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "NonNeg": {},
    "UnitNorm": {"axis": 0},
    "MaxNorm": {"max_value": 2, "axis": 0},
    "MinMaxNorm": {"min_value": 0.0, "max_value": 1.0, "rate": 1.0, "axis": 0},
}


def projection(tensor: Tensor, epsilon: float = 1e-7) -> Project | None:
    """What the constraint of ``tensor`` does to its weight, or ``None`` where it has no constraint.

    The result takes the weight as ``float32[tensor.size]``, contiguous, and changes it in place. ``epsilon``
    is ``keras.config.epsilon()``. Raises ``ValueError`` for a class that is not Keras' own and for axes that
    are not adjacent.
    """
    if tensor.constraint is None:
        return None
    name = str(tensor.constraint.get("class_name"))
    if name not in _DEFAULTS or tensor.constraint.get("registered_name"):
        raise ValueError(
            f"constraint of weight '{tensor.name}': expected one of Keras' own ({', '.join(_DEFAULTS)}), "
            f"got {tensor.constraint.get('registered_name') or name}, which the server cannot apply"
        )
    given = tensor.constraint.get("config") or {}
    known_keys(f"constraint of weight '{tensor.name}'", given, _DEFAULTS[name])
    config = {**_DEFAULTS[name], **given}
    if name == "NonNeg":
        return _core.non_negative
    return _norms(tensor, config, *_bounds(name, config), epsilon)


def can_project(tensor: Tensor) -> bool:
    """Whether ``projection`` knows the constraint of ``tensor`` (or it has none)."""
    try:
        projection(tensor)
    except ValueError:
        return False
    return True


def _bounds(name: str, config: Mapping[str, Any]) -> tuple[float, float, float]:
    if name == "UnitNorm":
        return 1.0, 1.0, 1.0
    if name == "MaxNorm":
        return 0.0, float(config["max_value"]), 1.0
    return float(config["min_value"]), float(config["max_value"]), float(config["rate"])


def _norms(
    tensor: Tensor, config: Mapping[str, Any], minimum: float, maximum: float, rate: float, epsilon: float
) -> Project:
    rank = len(tensor.shape)
    axis = config["axis"]
    given = tuple(range(rank)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    axes = sorted({a + rank if a < 0 else a for a in given})
    if not axes or axes[0] < 0 or axes[-1] >= rank or axes != list(range(axes[0], axes[-1] + 1)):
        raise ValueError(
            f"constraint of weight '{tensor.name}': expected adjacent axes of its {rank} dimensions, got axis={axis}"
        )
    begin, end = axes[0], axes[-1] + 1
    blocks = (
        math.prod(tensor.shape[:begin]),
        math.prod(tensor.shape[begin:end]),
        math.prod(tensor.shape[end:]),
    )

    def project(weights: NDArray[np.float32]) -> None:
        _core.bound_norms(weights, blocks, minimum=minimum, maximum=maximum, rate=rate, epsilon=epsilon)

    return project
