"""Real data without a download: Fashion-MNIST from Debian's package, else, or with ``EXAMPLES_DATA=digits`` in the
environment, scikit-learn's digits."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class Images:
    """Flat images in [0, 1] and one-hot targets of ten classes; ``goal``: the accuracy a small MLP must reach."""

    name: str
    x_train: NDArray[np.float32]
    y_train: NDArray[np.float32]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.float32]
    goal: float


def load() -> Images:
    """Fashion-MNIST (60,000 + 10,000 images of 28 x 28) where it is installed, else digits (1,437 + 360 of 8 x 8)."""
    if FASHION_MNIST.is_dir() and os.environ.get("EXAMPLES_DATA") != "digits":
        parts = [_read("train", 60_000), _read("t10k", 10_000)]
        return Images("Fashion-MNIST", *parts[0], *parts[1], goal=0.85)
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.data[order] / 16.0).astype(np.float32)
    y = np.eye(10, dtype=np.float32)[digits.target[order]]
    return Images("scikit-learn digits", x[:1437], y[:1437], x[1437:], y[1437:], goal=0.93)


def _read(part: str, rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    pixels = _bytes(FASHION_MNIST / f"{part}-images-idx3-ubyte.gz", 16).reshape(rows, 784)
    labels = _bytes(FASHION_MNIST / f"{part}-labels-idx1-ubyte.gz", 8)
    return (pixels / np.float32(255)).astype(np.float32), np.eye(10, dtype=np.float32)[labels]


def _bytes(path: Path, header: int) -> NDArray[np.uint8]:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)
