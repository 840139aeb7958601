"""Every reliance on what Keras does not document, each with what happens where it is otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def layers_of(model: Any) -> list[Any]:
    """All layers inside ``model``, itself first, at any depth."""
    flatten = getattr(model, "_flatten_layers", None)
    return list(flatten()) if flatten is not None else list(_walk(model))


def seed_generators(model: Any) -> list[Any]:
    """The ``keras.random.SeedGenerator`` of all layers, each once, in a fixed order."""
    found: dict[int, Any] = {}
    for layer in layers_of(model):
        for generator in getattr(layer, "_seed_generators", ()):
            found.setdefault(id(generator), generator)
    return list(found.values())


def is_fixed_seed(generator: Any) -> bool:
    """Whether the user gave the generator its seed; taken to be so where Keras does not tell."""
    return getattr(generator, "_initial_seed", 0) is not None


def templates(model: Any) -> tuple[Any, Any]:
    """The nesting of a functional model's inputs and outputs; flat lists where Keras does not tell."""
    inputs = getattr(model, "_inputs_struct", None)
    outputs = getattr(model, "_outputs_struct", None)
    return (list(model.inputs) if inputs is None else inputs), (list(model.outputs) if outputs is None else outputs)


def loss_tracker(model: Any) -> Any | None:
    """The metric that averages the total loss, if the model has one."""
    return getattr(model, "_loss_tracker", None)


def metric_results(model: Any) -> dict[str, Any]:
    """What ``model.get_metrics_result`` gives; nothing where compiled metrics have not seen a batch."""
    try:
        return dict(model.get_metrics_result())
    except ValueError:  # raised by the container of compiled metrics, which is not built
        return {}


def build_metrics(model: Any, y: Any, y_pred: Any) -> None:
    """Build the container of compiled metrics for targets and outputs like these symbolic tensors; where it cannot, or
    this Keras has another, the first batch does."""
    container = getattr(model, "_compile_metrics", None)
    if container is not None and not container.built:
        with contextlib.suppress(Exception):  # the same from the first batch is reported with its reason
            container.build(y, y_pred)


def calls_with_training(model: Any) -> bool:
    """Whether ``model.call`` takes ``training``."""
    return bool(getattr(model, "_call_has_training_arg", True))


def compile_arguments(model: Any) -> dict[str, Any]:
    """What ``model.compile`` was given, as live objects."""
    kept = getattr(model, "_compile_config", None)
    return dict(getattr(kept, "config", None) or {})


def flat_call(function: Any) -> Callable[[list[Any]], Sequence[Any]]:
    """A concrete function without outputs that are ``None`` as ``call(tensors) -> its output tensors in flat order``.

    Calls TensorFlow's executor without the checks and conversions that ``function(*tensors)`` runs each time; where
    this TensorFlow has no such way in, the public one is taken.
    """
    try:
        from tensorflow.python.eager import context

        execute = context.context().call_function
        name, captured, count = function._inference_function.name, function.captured_inputs, len(function.outputs)
    except (ImportError, AttributeError):
        return public_call(function)

    def call(tensors: list[Any]) -> Sequence[Any]:
        outputs: Sequence[Any] = execute(name, [*tensors, *captured], count)
        return outputs

    return call


def public_call(function: Any) -> Callable[[list[Any]], Sequence[Any]]:
    """As ``flat_call``, by public means only."""

    def call(tensors: list[Any]) -> Sequence[Any]:
        outputs: Sequence[Any] = function(*tensors)
        return outputs

    return call


def keras_2_model(config: dict[str, Any], custom_objects: dict[str, Any]) -> Any:
    """A model of a configuration in Keras 2's form, which Keras 3 reads in HDF5 files only. Raises ``ImportError``
    where this Keras reads none."""
    from keras.src.legacy.saving import saving_utils

    return saving_utils.model_from_config(config, custom_objects=custom_objects)


def _walk(layer: Any) -> Iterator[Any]:
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _walk(inner)
