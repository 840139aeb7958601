"""Keras' own model files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from elephas_fast.keras_bridge import keras2_files, runtime

_SHORT: Final = ("bce", "kld", "mae", "mape", "mse", "msle")
"""Names of losses that Keras 3 writes into HDF5 files and does not find again."""


def save_model(model: Any, path: str) -> None:
    """Write a model, compiled state included, in the format its suffix (.keras, .h5) says; replaces the file."""
    model.save(path, overwrite=True)


def load_model(path: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Read a model that Keras wrote, Keras 2 too, in safe mode: no code from the file is run."""
    if keras2_files.is_of_keras_2(path):
        return keras2_files.load(path, custom_objects or {})
    keras = runtime.keras()
    short = {name: keras.losses.get(name) for name in (*_SHORT, *map(str.upper, _SHORT))}
    return keras.models.load_model(path, custom_objects={**short, **(custom_objects or {})}, safe_mode=True)
