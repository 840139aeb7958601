"""A model as a small value that travels to the workers, and back to a model."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from elephas_fast.input_spec import InputSpec
from elephas_fast.keras_bridge import custom_objects as user_objects
from elephas_fast.keras_bridge import private, runtime
from elephas_fast.keras_bridge.digest import digest_of
from elephas_fast.keras_bridge.structure import structure_of
from elephas_fast.keras_bridge.weights import layout_of
from elephas_fast.layout import Layout

Update = Literal["delta", "gradient"] | None


@dataclass(frozen=True)
class ModelSpec:
    """A model without its weights. Pickles with cloudpickle (custom objects may live in ``__main__``).

    ``json``: ``model.to_json()`` without its compile configuration; ``compile_config``: what
    ``model.get_compile_config()`` gave, or ``None``; ``layout_json``: the layout of the driver's model, which holds for
    all workers; ``digest``: equal for specs a worker need not tell apart.
    """

    json: str
    compile_config: dict[str, Any] | None
    custom_objects: dict[str, Any]
    layout_json: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[InputSpec, ...]
    digest: str

    def __reduce__(self) -> tuple[Any, ...]:
        """Start TensorFlow quietly before the user's classes are unpickled, which would import it."""
        first = _ImportFirst() if self.custom_objects else None
        return _unpickled, (first, *(getattr(self, part.name) for part in fields(self)))


def describe(model: Any, custom_objects: Mapping[str, Any] | None = None, *, update: Update = "delta") -> ModelSpec:
    """Describe a Keras model so that a worker can build it again.

    ``update`` says how it will be trained; ``None`` is for prediction alone and needs no compiled model. Functions and
    classes of the user are collected from the model; ``custom_objects`` adds what cannot be found there. The model is
    rebuilt and recompiled once here, at the cost of one construction, so that what a worker cannot build is an error on
    the driver.

    Raises ``ValueError``, in one sentence, for a model that is not built, not compiled, holds a Python lambda or a
    dtype without a place in the store, cannot be rebuilt, or cannot train by ``update='gradient'``.
    """
    keras = runtime.keras()
    if not isinstance(model, keras.Model):
        raise ValueError(f"model: expected a keras.Model, got {type(model).__name__}")
    layout = layout_of(model)
    _check_trainable(model, update)
    _check_lambdas(model)
    try:
        configuration = json.loads(model.to_json())
        compile_config = model.get_compile_config() or None
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"model: '{model.name}' has no configuration to rebuild it from ({_first_line(error)}); "
            "implement get_config() in its custom classes"
        ) from error
    configuration.pop("compile_config", None)
    objects = user_objects.gather(model, [configuration, compile_config], custom_objects)
    text = json.dumps(configuration)
    spec = ModelSpec(text, compile_config, objects, layout.to_json(), (), (), "")
    rebuilt = rebuild(spec)
    _check_vocabularies(model, rebuilt)
    structure = structure_of(rebuilt)
    digest = digest_of(rebuilt, structure, configuration, compile_config, layout, objects)
    return ModelSpec(text, compile_config, objects, layout.to_json(), structure.inputs, structure.outputs, digest)


def rebuild(spec: ModelSpec) -> Any:
    """A new model from its description: built, and compiled if the description is; its weights are initial values.

    Raises ``ValueError`` where Keras cannot build it or its weights differ from the described ones.
    """
    keras = runtime.keras()
    try:
        with keras.saving.custom_object_scope(spec.custom_objects):
            model = keras.models.model_from_json(spec.json, custom_objects=spec.custom_objects)
            _adopt_roles(model, Layout.from_json(spec.layout_json))
            if spec.compile_config is not None:
                _compile(model, copy.deepcopy(spec.compile_config))  # Keras takes it apart
    except _Mismatch as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # Keras and the user's classes raise anything here
        raise ValueError(
            f"model: Keras could not rebuild it from its configuration ({_first_line(error)}); "
            "pass its custom layers and functions in custom_objects"
        ) from error
    if spec.compile_config is not None and not model.compiled:
        raise ValueError(
            f"model: '{model.name}' overrides compile(); override get_compile_config() and "
            "compile_from_config() too, so that workers can compile it"
        )
    return model


def _compile(model: Any, config: dict[str, Any]) -> None:
    """Compile as ``config`` says. Keras leaves a model alone that overrides ``compile``; one that has compiled itself
    when it was made (as those of keras_hub do, with defaults of their own) would train as nobody asked."""
    keras = runtime.keras()
    kind = type(model)
    own = kind.compile is not keras.Model.compile and kind.compile_from_config is keras.Model.compile_from_config
    if own and model.compiled:
        model.compile(**keras.saving.deserialize_keras_object(config))
    else:
        model.compile_from_config(config)


class _ImportFirst:
    def __reduce__(self) -> tuple[Any, ...]:
        return _import_lean, ()


def _import_lean() -> None:
    runtime.import_quietly(lean=True)


def _unpickled(_: None, *parts: Any) -> ModelSpec:
    return ModelSpec(*parts)


class _Mismatch(Exception):
    pass


def _adopt_roles(model: Any, layout: Layout) -> None:
    """Check the rebuilt weights against the layout and freeze what was frozen."""
    rebuilt = [(tuple(v.shape), str(v.dtype)) for v in model.weights]
    described = [(t.shape, t.dtype) for t in layout.tensors]
    if rebuilt != described:
        first = next((i for i, (a, b) in enumerate(zip(rebuilt, described, strict=False)) if a != b), None)
        difference = (
            f"{len(described)} weights, got {len(rebuilt)}"
            if first is None
            else f"weight '{layout.tensors[first].name}' of {described[first]}, got {rebuilt[first]}"
        )
        raise _Mismatch(
            f"model: expected its configuration to rebuild {difference}; "
            "create all weights in __init__() or build() and describe them in get_config()"
        )
    for variable, tensor in zip(model.weights, layout.tensors, strict=True):
        trains = tensor.role == "trainable"
        if variable.trainable != trains:
            variable.trainable = trains


def _check_trainable(model: Any, update: Update) -> None:
    if update not in ("delta", "gradient", None):
        raise ValueError(f"update: expected 'delta' or 'gradient', got {update!r}")
    if update is None:
        return
    if not model.compiled or model.optimizer is None:
        raise ValueError(f"model: '{model.name}' is not compiled; call model.compile(optimizer=..., loss=...)")
    if update == "delta":
        return
    if type(model).train_step is not runtime.keras().Model.train_step:
        raise ValueError(
            f"update: expected 'delta' for a model with its own train_step ('{type(model).__name__}'), got 'gradient'"
        )
    if hasattr(model.optimizer, "inner_optimizer"):
        raise ValueError(
            "update: expected 'delta' for an optimizer that scales the loss (policy mixed_float16), got 'gradient'; "
            "or use the policy mixed_bfloat16"
        )


def _check_lambdas(model: Any) -> None:
    lambda_class = runtime.keras().layers.Lambda
    for layer in private.layers_of(model):
        if isinstance(layer, lambda_class) and getattr(layer.function, "__name__", "") == "<lambda>":
            raise ValueError(
                f"model: layer '{layer.name}' is a Lambda around a Python lambda, which Keras does not load in safe "
                "mode; use a custom layer or a named function"
            )
    for value in runtime.keras().tree.flatten(private.compile_arguments(model)):
        if inspect.isfunction(value) and value.__name__ == "<lambda>":
            raise ValueError("model: compiled with a Python lambda, which cannot travel; use a named function")


def _check_vocabularies(model: Any, rebuilt: Any) -> None:
    for layer, again in zip(private.layers_of(model), private.layers_of(rebuilt), strict=False):
        adapted = callable(getattr(layer, "vocabulary_size", None))  # elsewhere it is a number
        if adapted and layer.vocabulary_size() != again.vocabulary_size():
            raise ValueError(
                f"model: layer '{layer.name}' was adapted, and Keras leaves its vocabulary out of the configuration; "
                "create the layer with vocabulary=layer.get_vocabulary()"
            )


def _first_line(error: BaseException) -> str:
    """The cause in one line: Keras puts it after the configuration it could not read."""
    text = str(error).rsplit("Exception encountered:", 1)[-1].strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__
