"""What scripts of Keras 1 and 2 call by names that today's Keras lacks: modules, ``to_yaml``, ``nb_epoch`` and
``show_accuracy``. They are added; nothing that Keras has is replaced."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Final

from elephas_fast.keras_bridge.configured import as_config, unweighted

_LAYERS: Final = (
    "advanced_activations", "convolutional", "core", "embeddings", "local", "merge", "noise", "normalization",
    "pooling", "recurrent", "wrappers",
)  # fmt: skip
_MODULES: Final = {
    **{f"keras.layers.{name}": "keras.layers" for name in _LAYERS},
    "keras.utils.np_utils": "keras.utils",
}


def install() -> None:
    """Let Keras have them in this process, be it imported already or later. Safe to call twice."""
    if installed():
        return
    sys.meta_path.insert(0, _WhenImported())
    sys.meta_path.append(_Early())
    if "keras" in sys.modules:
        _add(importlib.import_module("keras"))


def installed() -> bool:
    """Whether ``install`` has been called in this process."""
    return any(isinstance(finder, _Early) for finder in sys.meta_path)


class _Early(MetaPathFinder, Loader):
    """Finds the modules of early Keras, with the names of those of today. Asked last: what Keras has itself is used."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in _MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """An ordinary one."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Takes over the public names."""
        today = vars(importlib.import_module(_MODULES[module.__name__]))
        vars(module).update({name: value for name, value in today.items() if not name.startswith("_")})


class _WhenImported(MetaPathFinder):
    """Adds to Keras when it has been imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == "keras" else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_add(module: ModuleType) -> None:
            run(module)
            _add(module)

        spec.loader.exec_module = run_and_add  # type: ignore[method-assign]
        return spec


def _add(keras: Any) -> None:
    if not hasattr(keras.Model, "to_yaml"):
        keras.Model.to_yaml = _to_yaml
    if not hasattr(keras.models, "model_from_yaml"):
        keras.models.model_from_yaml = _model_from_yaml
    keras.Model.fit = _with_early_keywords(keras.Model.fit)
    keras.Model.evaluate = _with_early_keywords(keras.Model.evaluate)


def _to_yaml(self: Any, **options: Any) -> str:
    """The model's configuration: JSON, which is YAML too."""
    text: str = self.to_json(indent=2)
    return text


def _model_from_yaml(yaml_string: str, custom_objects: Any = None) -> Any:
    """The model of a configuration in YAML, with initial weights."""
    return unweighted(as_config(yaml_string), custom_objects)


def _with_early_keywords(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if "nb_epoch" in keywords:
            if "epochs" in keywords:
                raise TypeError("nb_epoch: expected it or epochs, which is today's name of it, got both; give one")
            keywords["epochs"] = keywords.pop("nb_epoch")
        if keywords.pop("show_accuracy", False) and not self.get_compile_config().get("metrics"):
            self.compile(optimizer=self.optimizer, loss=self.loss, metrics=["accuracy"])
        return method(self, *arguments, **keywords)

    return call
