"""Keras' own model files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from elephas_fast.keras_bridge import keras2_files, runtime

_FULL: Final = {
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
}
"""Names of losses that Keras 3 writes into HDF5 files and does not find again, and those that it finds."""


def save_model(model: Any, path: str) -> None:
    """Write a model, compiled state included, in the format its suffix (.keras, .h5) says; replaces the file."""
    model.save(path, overwrite=True)


def load_model(path: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Read a model that Keras wrote, Keras 2 too, in safe mode: no code from the file is run."""
    custom = dict(custom_objects or {})
    if keras2_files.is_of_keras_2(path):
        return keras2_files.load(path, custom)
    with _losses_in_full(path, custom) as readable:
        return runtime.keras().models.load_model(readable, custom_objects=custom, safe_mode=True)


@contextmanager
def _losses_in_full(path: str, custom_objects: Mapping[str, Any]) -> Iterator[str]:
    """``path``, or where it is an HDF5 file with losses by short names, a copy with their full ones."""
    import h5py

    if not h5py.is_hdf5(path):
        yield path
        return
    with h5py.File(path, "r") as file:
        training = json.loads(file.attrs.get("training_config", "null"))
    loss = None if training is None else _in_full(training.get("loss"), custom_objects)
    if training is None or loss == training.get("loss"):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="elephas_fast-") as folder:
        copy = os.path.join(folder, "model.h5")
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file.attrs["training_config"] = json.dumps({**training, "loss": loss}).encode()
        yield copy


def _in_full(loss: Any, custom_objects: Mapping[str, Any]) -> Any:
    if isinstance(loss, list):
        return [_in_full(item, custom_objects) for item in loss]
    if isinstance(loss, dict) and "class_name" not in loss:
        return {output: _in_full(item, custom_objects) for output, item in loss.items()}
    if isinstance(loss, str) and loss not in custom_objects:
        return _FULL.get(loss.lower(), loss)
    return loss
