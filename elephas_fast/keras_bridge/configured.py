"""Models, losses, metrics and optimizers as text and JSON, which Spark's Params can hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from elephas_fast.keras_bridge import keras2_files, private, runtime, yaml_text
from elephas_fast.keras_bridge.structure import structure_of
from elephas_fast.keras_bridge.weights import layout_of, set_weights
from elephas_fast.layout import ByteArray, Float32Array, Layout

_BY_OUTPUT: Final = ("acc", "accuracy", "ce", "crossentropy")
"""Names of metrics that Keras understands by the shape of the output."""


def as_config(model: Any) -> str:
    """A model's configuration as JSON text: of a Keras model, or the text itself, which may be YAML.

    Raises ``ValueError`` for text that is neither, ``TypeError`` for something else.
    """
    if isinstance(model, str):
        return _json_of(model)
    if isinstance(model, runtime.keras().Model):
        text: str = model.to_json()
        return text
    raise TypeError(f"keras_model_config: expected model.to_json() or a keras.Model, got {type(model).__name__}")


def as_json(value: Any) -> Any:
    """A loss, a metric, an optimizer, or lists and dicts of them, as values JSON knows, where Keras can find them again
    by name; functions and objects of the user that are not registered with Keras stay as they are."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    kind = value if callable(value) and hasattr(value, "__name__") else type(value)
    saving = runtime.keras().saving
    if kind.__module__.startswith("keras.") or saving.get_registered_name(kind) != kind.__name__:
        return saving.serialize_keras_object(value)
    return value


def compiled(
    config: str, *, optimizer: Any, loss: Any, metrics: Any, custom_objects: Mapping[str, Any] | None = None
) -> Any:
    """A new compiled model of a configuration, with Keras' initial weights.

    ``optimizer`` (a name, an object or a configuration of either form Keras has), ``loss``, ``metrics``: ``None``
    leaves what the configuration itself was compiled with, and where it was not, Keras' default. Raises ``ValueError``
    where there is no loss, and for a name that Keras does not know.
    """
    keras = runtime.keras()
    with keras.saving.custom_object_scope(dict(custom_objects or {})):
        model = unweighted(config, custom_objects)
        arguments: dict[str, Any] = {}
        if model.compiled:
            arguments = keras.saving.deserialize_keras_object(model.get_compile_config())
        _check_names("optimizer_config", optimizer, keras.optimizers.get)
        _check_names("loss", loss, keras.losses.get)
        _check_names("metrics", metrics, keras.metrics.get)
        given = {"optimizer": _optimizer(optimizer), "loss": _revived(loss), "metrics": _revived(metrics)}
        arguments.update({name: value for name, value in given.items() if value is not None})
        if arguments.get("loss") is None:
            raise ValueError(
                "loss: expected one, as Param or in keras_model_config of a compiled model, got none; "
                "pass loss='categorical_crossentropy' or another"
            )
        model.compile(**arguments)
    return model


def is_compiled(config: str) -> bool:
    """Whether a configuration says what its model was compiled with."""
    return bool(json.loads(config).get("compile_config"))


def unweighted(config: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """A new model of a configuration, with Keras' initial weights.

    Raises ``ValueError`` where Keras cannot build it, or build its weights.
    """
    keras, objects, saved = runtime.keras(), dict(custom_objects or {}), json.loads(config)
    try:
        if keras2_files.is_of_keras_2_config(saved):
            model = private.keras_2_model(keras2_files.todays_config(saved), objects)
        else:
            model = keras.models.model_from_json(config, custom_objects=objects)
    except Exception as error:  # Keras and the user's classes raise anything here
        lines = str(error).rsplit("Exception encountered:", 1)[-1].strip().splitlines()
        cause = lines[0] if lines else type(error).__name__
        raise ValueError(
            f"keras_model_config: Keras could not build a model from it ({cause}); "
            "pass its own layers and functions in custom_objects"
        ) from error
    layout_of(model)
    return model


def weighted(
    config: str, layout_json: str, flat: Float32Array, opaque: ByteArray, custom_objects: Mapping[str, Any] | None
) -> Any:
    """A model of a configuration with given weights."""
    model = unweighted(config, custom_objects)
    set_weights(model, Layout.from_json(layout_json), flat, opaque)
    return model


def flattened(model: Any, weights: Any) -> tuple[Float32Array, ByteArray]:
    """A list of arrays in the order of ``model.get_weights()`` as flat buffers of its layout.

    Raises ``ValueError`` where their number or a shape differs.
    """
    layout = layout_of(model)
    arrays = [np.asarray(array) for array in weights]
    expected = [tensor.shape for tensor in layout.tensors]
    if [array.shape for array in arrays] != expected:
        raise ValueError(
            f"weights: expected arrays of shapes {expected}, got {[array.shape for array in arrays]}; "
            "they must be those of the model of keras_model_config"
        )
    cast = [array.astype(str(variable.dtype)) for array, variable in zip(arrays, model.weights, strict=True)]
    return layout.flatten(cast)


def output_axes(model: Any) -> list[tuple[str, int, int]]:
    """(name, axes beside that of the rows, length of the last) of each output of a model."""
    structure = structure_of(model)
    tensors = runtime.keras().tree.flatten(structure.output_template)
    return [
        (spec.name, len(tensor.shape) - 1, tensor.shape[-1] or 0)
        for spec, tensor in zip(structure.outputs, tensors, strict=True)
    ]


def set_seed(seed: int | None) -> None:
    """Seed Keras, and with it Python and NumPy, so that initial weights are the same again; ``None``: nothing."""
    if seed is not None:
        runtime.keras().utils.set_random_seed(seed)


def _json_of(text: str) -> str:
    try:
        configuration = json.loads(text)
    except ValueError:
        configuration = yaml_text.read(text)
    if not isinstance(configuration, Mapping) or "class_name" not in configuration:
        raise ValueError(f"keras_model_config: expected what model.to_json() gives, got {text[:40]!r}")
    return text if text.lstrip().startswith("{") else json.dumps(configuration)


def _check_names(what: str, value: Any, find: Callable[[str], Any]) -> None:
    """Raise ``ValueError`` for a name, alone or in lists and dicts by output, that Keras does not ``find``."""
    if isinstance(value, str) and value not in _BY_OUTPUT and _own(value) is value:
        try:
            find(value)
        except ValueError:
            raise ValueError(
                f"{what}: expected a name that Keras knows, got {value!r}; pass your own in custom_objects"
            ) from None
    elif isinstance(value, list | tuple):
        for item in value:
            _check_names(what, item, find)
    elif isinstance(value, Mapping) and what != "optimizer_config" and "class_name" not in value:
        for item in value.values():
            _check_names(what, item, find)


def _own(name: str) -> Any:
    """What was registered with Keras or is in ``custom_objects`` under a name; the name where there is nothing."""
    found = runtime.keras().saving.get_registered_object(name)
    if found is None:
        return name
    return found() if isinstance(found, type) else found


def _optimizer(value: Any) -> Any:
    """Also the bare ``get_config()`` of an optimizer, which names no class."""
    if isinstance(value, Mapping):
        settings = dict(value)
        if "class_name" not in settings:
            settings = {"class_name": str(settings.pop("name", "")), "config": settings}
        return runtime.keras().optimizers.get(settings)
    return _revived(value)


def _revived(value: Any) -> Any:
    if isinstance(value, str):
        return _own(value)
    if isinstance(value, Mapping):
        if "class_name" in value:
            return runtime.keras().saving.deserialize_keras_object(dict(value))
        return {key: _revived(item) for key, item in value.items()}
    return [_revived(item) for item in value] if isinstance(value, list | tuple) else value
