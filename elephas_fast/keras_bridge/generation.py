"""How a model chooses among the tokens it finds likely: keras_hub keeps that apart from configuration and weights."""

from __future__ import annotations

from typing import Any

from elephas_fast.keras_bridge import runtime


def sampler_of(model: Any) -> dict[str, Any] | None:
    """The model's sampler, serialized; ``None`` for a model without one."""
    sampler = getattr(model, "sampler", None)
    if not callable(getattr(sampler, "get_config", None)):
        return None
    config: dict[str, Any] = runtime.keras().saving.serialize_keras_object(sampler)
    return config


def use_sampler(model: Any, config: dict[str, Any] | None) -> None:
    """Let the model sample as ``sampler_of`` another said; what it has traced with its former sampler is forgotten."""
    if config is None or config == sampler_of(model):
        return
    model.sampler = runtime.keras().saving.deserialize_keras_object(config)
    if hasattr(model, "generate_function"):
        model.generate_function = None
