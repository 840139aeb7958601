"""Checks of hyper-parameters: each returns its value or raises a ``ValueError`` of one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any


def finite(name: str, value: Any) -> float:
    """``value`` as a float; it must be a finite real number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """``value`` as a float; it must be finite and > 0."""
    if finite(name, value) <= 0:
        raise ValueError(f"{name}: expected a number > 0, got {value!r}")
    return float(value)


def at_least(name: str, value: Any, low: float) -> float:
    """``value`` as a float; it must be finite and >= ``low``."""
    if finite(name, value) < low:
        raise ValueError(f"{name}: expected a number >= {low}, got {value!r}")
    return float(value)


def fraction(name: str, value: Any, *, below_one: bool = False) -> float:
    """``value`` as a float; it must lie in [0, 1], or in [0, 1) with ``below_one``."""
    if not 0 <= finite(name, value) <= 1 or (below_one and value == 1):
        raise ValueError(f"{name}: expected a number in [0, 1{')' if below_one else ']'}, got {value!r}")
    return float(value)


def known_keys(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Every key in ``given`` must be in ``known``."""
    known = list(known)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{owner}: expected arguments among {', '.join(known)}, got {', '.join(unknown)}")
