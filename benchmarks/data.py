"""Rows for the fit benchmarks: Fashion-MNIST from local files; without them, scikit-learn's digits."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np

FOLDER = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))


def _idx(path: Path, header: int) -> np.ndarray:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def fashion_mnist() -> dict[str, np.ndarray]:
    """x_train float32[60000, 784] in [0, 1], y_train int32[60000], x_test float32[10000, 784], y_test."""
    arrays: dict[str, np.ndarray] = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        pixels = _idx(FOLDER / f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 784)
        arrays[f"x_{part}"] = pixels.astype(np.float32) / 255.0
        arrays[f"y_{part}"] = _idx(FOLDER / f"{prefix}-labels-idx1-ubyte.gz", 8).astype(np.int32)
    return arrays


def digits() -> dict[str, np.ndarray]:
    """The same keys from scikit-learn's 1,797 digits: repeated to 60,000 rows, zeros up to 784 pixels."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    pixels, labels = load_digits(return_X_y=True)
    wide = np.zeros((len(pixels), 784), np.float32)
    wide[:, :64] = pixels / 16.0
    order = np.random.default_rng(0).permutation(len(wide))
    test, train = order[:397], np.resize(order[397:], 60_000)
    labels = labels.astype(np.int32)
    return {"x_train": wide[train], "y_train": labels[train], "x_test": wide[test], "y_test": labels[test]}


def write(path: Path, rows: int) -> str:
    """Writes the first `rows` training rows and all test rows as npz; returns the name of the data set."""
    name, arrays = ("fashion-mnist", fashion_mnist()) if FOLDER.is_dir() else ("digits", digits())
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][:rows], arrays["y_train"][:rows]
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return name
