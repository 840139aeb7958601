"""A model as a dict of its configuration and its weights, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elephas_fast.keras_bridge import runtime


def model_to_dict(model: Any) -> dict[str, Any]:
    """``{'model': the configuration as JSON, 'weights': a list of arrays}`` of a Keras model."""
    return {"model": model.to_json(), "weights": model.get_weights()}


def dict_to_model(d: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The Keras model that ``model_to_dict`` described; code in its configuration is not run.

    ``custom_objects``: layers and functions of one's own. Raises ``ValueError`` for another dict.
    """
    if not isinstance(d, Mapping) or not {"model", "weights"} <= set(d):
        got = ", ".join(sorted(map(str, d))) if isinstance(d, Mapping) else type(d).__name__
        raise ValueError(f"d: expected a dict with 'model' and 'weights', as model_to_dict makes, got {got}")
    model = model_of("d['model']", d["model"], custom_objects)
    model.set_weights(d["weights"])
    return model


def model_of(name: str, text: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model that ``model.to_json()`` described in ``text``, with weights of its own.

    Raises ``ValueError`` for what Keras cannot build, as the argument called ``name``.
    """
    keras = runtime.keras()
    objects = dict(custom_objects or {})
    try:
        with keras.saving.custom_object_scope(objects):
            return keras.models.model_from_json(text, custom_objects=objects)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: Keras could not build a model of it ({str(error).strip().splitlines()[0]}); expected "
            "model.to_json(), and layers of your own in custom_objects"
        ) from error
