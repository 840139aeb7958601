"""``elephas.optimizers``: the optimizers that the server of Elephas 0.2 to 0.4 had, with their own defaults.

``elephas_fast.optimizers`` has those of Keras 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elephas_fast.optimizers import Optimizer, convert, deserialize, serialize
from elephas_fast.optimizers.earlier import KINDS, SGD, Adadelta, Adagrad, Adam, RMSprop

sgd, rmsprop, adagrad, adadelta, adam = SGD, RMSprop, Adagrad, Adadelta, Adam

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "Optimizer",
    "RMSprop",
    "adadelta",
    "adagrad",
    "adam",
    "deserialize",
    "get",
    "rmsprop",
    "serialize",
    "sgd",
]


def get(identifier: Any, kwargs: Mapping[str, Any] | None = None) -> Optimizer:
    """``elephas_fast.optimizers.get``, but a name means an optimizer of this module; ``kwargs`` are its arguments."""
    if isinstance(identifier, str) and identifier.lower() in KINDS:
        made: Optimizer = KINDS[identifier.lower()](**(kwargs or {}))
        return made
    return convert.get(identifier, kwargs)
