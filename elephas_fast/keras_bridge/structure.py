"""How a model wants its arrays: names, shapes and dtypes of inputs and outputs, and the nesting around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elephas_fast.input_spec import InputSpec
from elephas_fast.keras_bridge import private, runtime


@dataclass(frozen=True)
class Structure:
    """Inputs and outputs as flat tuples, and the templates (nested tuples, lists, dicts) that Keras takes them in."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[InputSpec, ...]
    input_template: Any
    output_template: Any

    def pack_inputs(self, flat: Sequence[Any]) -> Any:
        """The inputs in the model's own nesting."""
        return _pack(self.input_template, flat)

    def pack_outputs(self, flat: Sequence[Any]) -> Any:
        """Targets, or sample weights of each output, in the nesting of the model's outputs."""
        return _pack(self.output_template, flat)


def structure_of(model: Any) -> Structure:
    """The structure of a built model.

    Functional and Sequential models say it themselves. A subclassed model is known by the input shape it was built
    with, and its outputs by a symbolic call; where that fails it is taken to have a single output.
    """
    tree = runtime.keras().tree
    if getattr(model, "inputs", None) and getattr(model, "outputs", None):
        names = getattr(model, "output_names", None) or [model.layers[-1].name]
        given, returned = private.templates(model)
        inputs = _specs(given, model.inputs, [tensor.name for tensor in model.inputs])
        return Structure(inputs, _targets(returned, names), given, returned)
    template = _built_inputs(model)
    tensors = tree.flatten(template)
    several = len(tensors) > 1
    found = _specs(template, tensors, [f"x{i}" if several else "x" for i in range(len(tensors))])
    # a subclassed model casts its own inputs: let the data keep integers
    inputs = tuple(InputSpec(spec.name, spec.shape, None) for spec in found)
    result = _symbolic_outputs(model, template)
    return Structure(inputs, _targets(result, [f"y{i}" for i in range(len(tree.flatten(result)))]), template, result)


def _specs(template: Any, tensors: Sequence[Any], names: Sequence[str]) -> tuple[InputSpec, ...]:
    keys = _keys(template) or names
    return tuple(
        InputSpec(str(key), None if t.shape is None else tuple(t.shape[1:]), str(t.dtype))
        for key, t in zip(keys, tensors, strict=True)
    )


def _targets(template: Any, names: Sequence[str]) -> tuple[InputSpec, ...]:
    return tuple(InputSpec(str(name)) for name in _keys(template) or names)


def _keys(template: Any) -> list[str] | None:
    """The keys of a plain dict template, in the order in which Keras flattens it."""
    if not isinstance(template, Mapping) or any(isinstance(v, Mapping | list | tuple) for v in template.values()):
        return None
    return [path[0] for path, _ in runtime.keras().tree.flatten_with_path(template)]


def _pack(template: Any, flat: Sequence[Any]) -> Any:
    if len(flat) == 1 and not isinstance(template, Mapping):
        return flat[0]
    packed = runtime.keras().tree.pack_sequence_as(template, list(flat))
    return tuple(packed) if isinstance(packed, list) else packed


def _built_inputs(model: Any) -> Any:
    """KerasTensors in the nesting of the shapes the model was built with, of open batch size."""
    keras = runtime.keras()
    config = model.get_build_config() or {}
    shapes = config.get("input_shape")
    if shapes is None:
        shapes = next(iter((config.get("shapes_dict") or {}).values()), None)
    if shapes is None:
        return keras.KerasTensor((None,), "float32")
    return _map_shapes(shapes, lambda shape: keras.KerasTensor((None, *shape[1:]), "float32"))


def _map_shapes(shapes: Any, build: Any) -> Any:
    if isinstance(shapes, Mapping):
        return {key: _map_shapes(value, build) for key, value in shapes.items()}
    if all(axis is None or isinstance(axis, int) for axis in shapes):
        return build(tuple(shapes))
    return tuple(_map_shapes(shape, build) for shape in shapes)


def _symbolic_outputs(model: Any, template: Any) -> Any:
    keras = runtime.keras()
    try:
        return model.compute_output_spec(template)
    except Exception:  # the model's own code, which may need real values
        return keras.KerasTensor((None,), "float32")
