"""Arithmetic on lists of arrays, one for each weight of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = Sequence[NDArray[Any]]


def add_params(param_list_left: Weights, param_list_right: Weights) -> list[NDArray[Any]]:
    """Left + right, weight by weight. Raises ``ValueError`` where their numbers differ."""
    return [left + right for left, right in zip(param_list_left, param_list_right, strict=True)]


def subtract_params(param_list_left: Weights, param_list_right: Weights) -> list[NDArray[Any]]:
    """Left - right, weight by weight. Raises ``ValueError`` where their numbers differ."""
    return [left - right for left, right in zip(param_list_left, param_list_right, strict=True)]


def get_neutral(array_list: Weights) -> list[NDArray[Any]]:
    """Zeros of the same shapes."""
    return [np.zeros_like(array) for array in array_list]


def divide_by(array_list: Weights, num_workers: float) -> list[NDArray[Any]]:
    """Each weight divided by a number."""
    return [array / num_workers for array in array_list]


def average_and_subtract(weights: Weights, deltas: Sequence[Weights]) -> list[NDArray[Any]]:
    """Weights - the mean of some deltas. Raises ``ValueError`` for no deltas."""
    if not deltas:
        raise ValueError("deltas: expected at least one, got none")
    total = get_neutral(weights)
    for delta in deltas:
        total = add_params(total, delta)
    return subtract_params(weights, divide_by(total, len(deltas)))
