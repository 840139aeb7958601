"""Keras' ``class_weight``: a weight per class becomes a weight per row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sample_weights(targets: NDArray[Any], class_weight: Mapping[int, float]) -> NDArray[np.float32]:
    """The weight of each row's class, float32[rows]; 1 for classes without one.

    As in ``keras.Model.fit``: targets with a last axis longer than 1 are one-hot, others are class numbers, rounded.
    """
    labels = targets
    if labels.ndim > 1:
        labels = labels[..., 0] if labels.shape[-1] == 1 else labels.argmax(axis=-1)
    if labels.ndim != 1:
        raise ValueError(f"class_weight: expected one class per row, got targets of shape {targets.shape}")
    labels = np.round(labels).astype(np.int64)
    weights = np.ones(len(labels), np.float32)
    for label, weight in class_weight.items():
        weights[labels == int(label)] = weight
    return weights
