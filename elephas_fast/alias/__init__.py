"""``import elephas`` as this package: on the driver, and in Spark's Python workers. Where hyperas is not installed,
``import hyperas`` finds the names of it that scripts for Elephas use."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Final

from elephas_fast.alias.submission import send_to_executors
from elephas_fast.keras_bridge import early_names

_HOME: Final = Path(__file__).parent
_JAVA: Final = ("elephas.dl4j", "elephas.java")
_HYPERAS: Final = "hyperas"
_OWN: Final = {"elephas": "elephas_fast.alias.package", "elephas.optimizers": "elephas_fast.alias.optimizers"}
"""Modules of Elephas that are not what ``elephas_fast`` has under the same name."""


class _Alias(MetaPathFinder, Loader):
    """Finds ``elephas...`` and gives the module ``elephas_fast...`` itself, so that both names are one, except for
    those in ``_OWN``."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = fullname.partition(".")[0]
        if package == _HYPERAS:
            return _installed_hyperas(fullname, path) or ModuleSpec(fullname, self)
        if package != "elephas":
            return None
        if fullname.startswith(_JAVA):
            raise ImportError(f"{fullname}: Elephas 1.0 was the last to train Java models; Keras models only here")
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        ours = _ours(spec.name)
        try:
            module = importlib.import_module(ours)
        except ModuleNotFoundError as error:
            if error.name != ours:
                raise
            raise ModuleNotFoundError(
                f"No module named {spec.name!r} in elephas_fast, which stands in for {spec.name.partition('.')[0]}",
                name=spec.name,
            ) from None
        self._specs[ours] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it has run under its own name. That the import system has just given it another is undone."""
        module.__spec__ = self._specs.pop(module.__name__)


def _ours(name: str) -> str:
    if name in _OWN:
        return _OWN[name]
    package, dot, rest = name.partition(".")
    return f"elephas_fast{'.alias.hyperas' if package == _HYPERAS else ''}{dot}{rest}"


def _installed_hyperas(fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """hyperas itself, if it is installed: not what stands in for it in this very folder."""
    if path is None:
        path = [entry for entry in sys.path if Path(entry or ".").resolve() != _HOME]
    found = PathFinder.find_spec(fullname, path)
    return None if found is None or _HOME in Path(found.origin or ".").parents else found


def install_as_elephas() -> None:
    """Have every ``import elephas...`` of this process, and of Spark's Python workers started from now on, mean this
    package, and Keras have the names of its first releases that scripts for Elephas use. Call it before the Spark
    context is made. Safe to call twice.

    Raises ``RuntimeError`` where Elephas itself has been imported already.
    """
    loaded = sys.modules.get("elephas")
    if loaded is not None and loaded.__name__ != _OWN["elephas"]:
        raise RuntimeError("install_as_elephas: expected to be called before elephas is imported; move it up")
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alias())
    early_names.install()
    path = os.environ.get("PYTHONPATH", "")
    if str(_HOME) not in path.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join([str(_HOME), *filter(None, [path])])
        send_to_executors(str(_HOME / "elephas.py"))
