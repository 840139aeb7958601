"""The classes and functions of the user that a model's configuration only names."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any

from elephas_fast.keras_bridge import private, runtime

_NESTING = 4


def gather(model: Any, configurations: Any, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Everything a worker needs beside Keras to rebuild the model, by the name its configuration uses.

    Names found in ``configurations`` (the serialized model and compile arguments) are looked up in ``given``, among
    registered Keras objects, and in the live model: its layers and what they hold, and the compile arguments. A name
    that is found nowhere is left out, for Keras to complain about. Raises ``ValueError`` where two different functions
    of the model have one name.
    """
    keras = runtime.keras()
    names = set(_names(configurations))
    found: dict[str, Any] = {}
    for name, candidate in _candidates(model):
        if name not in names:
            continue
        if name in found and found[name] is not candidate:
            raise ValueError(
                f"model: expected one function or class named '{name}', got two; give them different names"
            )
        found[name] = candidate
    for name in names:
        registered = keras.saving.get_registered_object(name)
        if registered is not None:
            found[name] = registered
    return {**found, **dict(given or {})}


def _names(configuration: Any) -> Iterator[str]:
    if isinstance(configuration, Mapping):
        if configuration.get("class_name") == "function":
            yield str(configuration.get("config"))
        elif configuration.get("registered_name"):
            yield str(configuration["registered_name"])
        configuration = list(configuration.values())
    if isinstance(configuration, list | tuple):
        for item in configuration:
            yield from _names(item)


def _candidates(model: Any) -> Iterator[tuple[str, Any]]:
    name_of = runtime.keras().saving.get_registered_name
    for layer in private.layers_of(model):
        for owned in _objects([layer, *vars(layer).values()], _NESTING):
            yield name_of(owned), owned
    for owned in _objects(private.compile_arguments(model), _NESTING):
        yield name_of(owned), owned


def _objects(value: Any, depth: int) -> Iterator[Any]:
    """Functions, and classes of objects with a configuration, in ``value`` and the containers in it."""
    if isinstance(value, types.FunctionType):
        if not value.__module__.startswith("keras."):
            yield value
    elif isinstance(value, Mapping):
        for item in value.values() if depth else ():
            yield from _objects(item, depth - 1)
    elif isinstance(value, list | tuple):
        for item in value if depth else ():
            yield from _objects(item, depth - 1)
    elif hasattr(value, "get_config") and not type(value).__module__.startswith("keras."):
        yield type(value)
