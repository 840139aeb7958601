"""Sequences of labels of several lengths as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pad_labels(labels: Sequence[Sequence[int]], max_length: int, pad_token_label_id: int) -> NDArray[Any]:
    """int[rows, max_length]: each row's labels, filled up with ``pad_token_label_id``.

    Raises ``ValueError`` for a row of more than ``max_length``.
    """
    padded = np.full((len(labels), max_length), pad_token_label_id)
    for row, (place, given) in enumerate(zip(padded, labels, strict=True)):
        if len(given) > max_length:
            raise ValueError(f"labels: expected at most {max_length} in row {row}, got {len(given)}; raise max_length")
        place[: len(given)] = given
    return padded
