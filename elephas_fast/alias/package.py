"""What ``import elephas`` gives where this package stands in for it: its names, and its modules as ``elephas...``.

It is a module of its own because ``elephas.optimizers`` is not ``elephas_fast.optimizers``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import elephas_fast
from elephas_fast import __all__ as __all__
from elephas_fast import __version__ as __version__

__path__: list[str] = []


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(elephas_fast, name)
    if not name.startswith("_"):
        try:
            return import_module(f"elephas.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"elephas.{name}":
                raise
    raise AttributeError(f"module 'elephas' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
