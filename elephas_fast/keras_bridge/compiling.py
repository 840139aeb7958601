"""Compiling a model again with some things changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elephas_fast.keras_bridge import runtime

_DEFAULTS = {"optimizer": "adam", "loss": "categorical_crossentropy", "metrics": ["accuracy"]}


def compile_with(model: Any, changes: Mapping[str, Any]) -> None:
    """Compile ``model`` with ``changes`` (optimizer, loss, metrics) and otherwise as it was compiled; ``None`` stands
    for Elephas' own defaults, adam, categorical_crossentropy and accuracy. Its optimizer's slots begin anew.
    """
    arguments: dict[str, Any] = dict(_DEFAULTS)
    if model.compiled:
        saving = runtime.keras().saving
        arguments = saving.deserialize_keras_object(model.get_compile_config())
    for name, value in changes.items():
        arguments[name] = _DEFAULTS[name] if value is None else value
    model.compile(**arguments)
