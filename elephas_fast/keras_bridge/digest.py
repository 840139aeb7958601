"""When are two models one to a worker, so that it need not build and trace the second?"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from elephas_fast.keras_bridge import private
from elephas_fast.keras_bridge.structure import Structure
from elephas_fast.layout import Layout

_NUMBER = re.compile(r"_\d+$")


def digest_of(
    model: Any,
    structure: Structure,
    configuration: dict[str, Any],
    compile_config: dict[str, Any] | None,
    layout: Layout,
    objects: Mapping[str, Any],
) -> str:
    """The same for models that compute alike; unique where a custom object's content cannot be told.

    The names that Keras makes up of a class and a number, and would make otherwise in another process, do not count
    where nothing hangs on them: in a model with one input and one output and without the user's own classes.
    """
    whole: list[Any] = [configuration, json.loads(layout.to_json())]
    single = all(len(part) == 1 for part in (structure.inputs, structure.outputs))
    templates = (structure.input_template, structure.output_template)
    if single and not objects and not any(isinstance(template, Mapping) for template in templates):
        whole = _renamed(whole, _made_up_names(model))
    whole.append(_unnamed_optimizer(compile_config))
    state = hashlib.blake2b(json.dumps(whole, default=repr, sort_keys=True).encode(), digest_size=16)
    if objects:
        try:
            state.update(importlib.import_module("cloudpickle").dumps(sorted(objects.items())))
        except Exception:  # not installed, or an object that does not pickle
            state.update(uuid.uuid4().bytes)
    return state.hexdigest()


def _made_up_names(model: Any) -> dict[str, str]:
    """What to call the layers, and the model itself, that Keras named after their class: as 'max_pooling2d_3'."""
    layers = private.layers_of(model)
    made_up = [layer.name for layer in layers if _NUMBER.sub("", layer.name).replace("_", "") == _lower_class(layer)]
    return {name: f"layer {number}" for number, name in enumerate(dict.fromkeys(made_up))}


def _lower_class(layer: Any) -> str:
    return type(layer).__name__.lower().replace("_", "")


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """With other names, also where they are a part of a weight's path."""
    if isinstance(value, Mapping):
        return {key: _renamed(part, names) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(part, names) for part in value]
    if isinstance(value, str):
        return "/".join(names.get(part, part) for part in value.split("/"))
    return value


def _unnamed_optimizer(compile_config: dict[str, Any] | None) -> dict[str, Any] | None:
    """Without the optimizer's name: Keras numbers them, so that no two models in a process would be alike."""
    optimizer = (compile_config or {}).get("optimizer")
    if compile_config is None or not isinstance(optimizer, Mapping) or "config" not in optimizer:
        return compile_config
    settings = {key: value for key, value in optimizer["config"].items() if key != "name"}
    return {**compile_config, "optimizer": {**optimizer, "config": settings}}
