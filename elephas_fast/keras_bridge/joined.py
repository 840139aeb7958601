"""Several models on the same inputs as one with several outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from elephas_fast.keras_bridge import runtime
from elephas_fast.keras_bridge.configured import unweighted
from elephas_fast.keras_bridge.model_type import LossModelTypeMapper, ModelType

_PROBABILITIES: Final = ("softmax", "sigmoid")


def joined(
    models: Sequence[Any], custom_objects: Mapping[str, Any] | None = None, classify: bool | None = None
) -> tuple[Any, list[Any]]:
    """A model whose outputs are those of ``models``, in order, and its members; copies, so that the given ones stay as
    they are. Where they ``classify`` (``None``: found out by the first), a member that gives logits has probabilities
    made of them.

    Raises ``ValueError`` for something else than Keras models with one output each and inputs and outputs alike.
    """
    keras = runtime.keras()
    for place, model in enumerate(models):
        if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
            raise ValueError(
                f"models: expected Keras models (Sequential or functional), got {type(model).__name__} at place {place}"
            )
        shapes = [_shapes(m) for m in (models[0], model)]
        if len(shapes[0][1]) != 1 or shapes[0] != shapes[1]:
            raise ValueError(
                "models: expected one output each, and inputs and outputs of the same shapes, got "
                f"{shapes[0]} and {shapes[1]}"
            )
    classify = is_classifier(models[0]) if classify is None else classify
    copies = [_member(model, f"member_{place}", custom_objects, classify) for place, model in enumerate(models)]
    given = copies[0].inputs
    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=f"input_{i}") for i, tensor in enumerate(given)]
    whole = inputs if len(inputs) > 1 else inputs[0]
    return keras.Model(whole, [copy(whole) for copy in copies], name="voting"), copies


def is_classifier(model: Any) -> bool:
    """Whether a model's outputs are probabilities of classes: by the loss it is compiled with, else by the activation
    of its last layer."""
    kind = LossModelTypeMapper().get_model_type(getattr(model, "loss", None)) if model.compiled else None
    if kind is not None:
        return kind is ModelType.CLASSIFICATION
    last = model.layers[-1]
    return type(last).__name__.lower() in _PROBABILITIES or _activation(last) in _PROBABILITIES


def _gives_logits(model: Any) -> bool:
    """Whether a classifier's outputs are no probabilities yet: by its loss, else by a last layer that is linear."""
    by_loss = model.compiled and bool(getattr(model.loss, "from_logits", False))
    return by_loss or _activation(model.layers[-1]) == "linear"


def _activation(layer: Any) -> str:
    return str(getattr(getattr(layer, "activation", None), "__name__", ""))


def _shapes(model: Any) -> tuple[list[Any], list[Any]]:
    return [tuple(t.shape[1:]) for t in model.inputs], [tuple(t.shape[1:]) for t in model.outputs]


def _member(model: Any, name: str, custom_objects: Mapping[str, Any] | None, classify: bool) -> Any:
    if not classify or not _gives_logits(model):
        return _renamed(model, name, custom_objects)
    keras = runtime.keras()
    inner = _renamed(model, f"{name}_logits", custom_objects)
    kind = "sigmoid" if inner.outputs[0].shape[-1] == 1 else "softmax"
    return keras.Model(inner.inputs, keras.layers.Activation(kind, dtype="float32")(inner.outputs[0]), name=name)


def _renamed(model: Any, name: str, custom_objects: Mapping[str, Any] | None) -> Any:
    configuration = json.loads(model.to_json())
    configuration.pop("compile_config", None)
    configuration["config"]["name"] = name
    copy = unweighted(json.dumps(configuration), custom_objects)
    copy.set_weights(model.get_weights())
    return copy
