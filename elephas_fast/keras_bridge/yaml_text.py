"""Models as the YAML text that Keras wrote until 2.5, whose tags name Python types: read as data, nothing is run."""

from __future__ import annotations

from typing import Any, Final

import yaml

_LISTS: Final = ("ListWrapper", "List", "list", "tuple", "_TupleWrapper")
_MAPPINGS: Final = ("_DictWrapper", "dict")
_HOMES: Final = (
    "builtins",
    "__builtin__",
    "tensorflow.python.trackable.data_structures",
    "tensorflow.python.training.tracking.data_structures",
    "tensorflow.python.training.checkpointable.data_structures",
)
_SCALARS: Final = {"str": "str", "unicode": "str", "int": "int", "long": "int", "float": "float", "bool": "bool"}
_YAML: Final = "tag:yaml.org,2002:"


def read(text: str) -> Any:
    """What the text says, as lists, dicts, strings, numbers and ``None``.

    Tags of Python that are admitted are those of lists, tuples, dicts, strings and numbers, and of TensorFlow's
    wrappers around lists and dicts. Raises ``ValueError`` for another tag and for what is not YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except _RefusedTag as error:
        raise ValueError(
            f"keras_model_config: expected YAML of lists, dicts, strings and numbers, got the tag {error}, which is "
            "not run; pass model.to_json() of a model that your own code builds"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"keras_model_config: expected JSON or YAML, got {text[:40]!r}") from error


class _RefusedTag(Exception):
    """A tag of what is no data; its text is the tag."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader, and the tags above."""


def _sequence(loader: Any, node: Any) -> Any:
    return loader.construct_sequence(node, deep=True)


def _mapping(loader: Any, node: Any) -> Any:
    return loader.construct_mapping(node, deep=True)


def _refuse(loader: Any, node: Any) -> None:
    raise _RefusedTag(node.tag.removeprefix(_YAML))


def _made(loader: Any, suffix: str, node: Any) -> Any:
    """A list or dict as ``pickle`` would make it: of one argument, or of its items."""
    home, _, name = suffix.rpartition(".")
    if home not in _HOMES or name not in (*_LISTS, *_MAPPINGS):
        _refuse(loader, node)
    given = _mapping(loader, node) if isinstance(node, yaml.MappingNode) else {"args": _sequence(loader, node)}
    empty: Any = {} if name in _MAPPINGS else []
    (first,) = given.get("args") or [empty]
    return given.get("dictitems" if name in _MAPPINGS else "listitems") or first


for _tag in ("tuple", "list"):
    _Loader.add_constructor(f"{_YAML}python/{_tag}", _sequence)
_Loader.add_constructor(f"{_YAML}python/dict", _mapping)
for _tag, _plain in _SCALARS.items():
    _Loader.add_constructor(f"{_YAML}python/{_tag}", yaml.SafeLoader.yaml_constructors[_YAML + _plain])
for _how in ("apply", "new"):
    _Loader.add_multi_constructor(f"{_YAML}python/object/{_how}:", _made)
_Loader.add_constructor(None, _refuse)
