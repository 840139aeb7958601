"""Which generation of Elephas a call is written for, and what it means in today's words.

From 0.1 to 0.3 the arguments began with a Spark context; from 0.4 to 6 the mode followed the model; from 7 on the
number of workers does. The generations are told apart by what stands where; each form's documented meaning holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pyspark import SparkContext
from pyspark.sql import SparkSession

_FIRST: Final = (
    "sc", "master_network", "optimizer", "mode", "frequency", "num_workers",
    "master_optimizer", "master_loss", "master_metrics", "custom_objects",
)  # fmt: skip
_WITH_OPTIMIZER: Final = (
    "model", "mode", "frequency", "parameter_server_mode", "num_workers", "elephas_optimizer", "custom_objects",
    "batch_size",
)  # fmt: skip
_MIDDLE: Final = (
    "model", "mode", "frequency", "parameter_server_mode", "num_workers", "custom_objects", "batch_size", "port",
)  # fmt: skip
_SEVENTH: Final = ("model", "num_workers", "custom_objects", "batch_size")
_ASYNCHRONOUS: Final = (*_SEVENTH, "mode", "frequency", "parameter_server_mode", "port")
_TEXTS: Final = (
    "model", "mode", "frequency", "parameter_server_mode", "num_workers", "batch_size", "port", "tokenizer",
    "tokenizer_kwargs", "loader",
)  # fmt: skip
_COMPILED: Final = {"master_optimizer": "optimizer", "master_loss": "loss", "master_metrics": "metrics"}
EARLY_TRAINING: Final = {"epochs": 10, "verbose": 0, "validation_split": 0.1}


@dataclass(frozen=True)
class Construction:
    """A constructor call in today's words: ``model``; its ``options`` as keywords; what it is to be compiled with
    (``compiled``: of optimizer, loss, metrics those that were given); and what training means where it is not told
    (``training``)."""

    model: Any
    options: dict[str, Any]
    compiled: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def construction(owner: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Construction:
    """What ``SparkModel(*arguments, **keywords)`` means.

    Raises ``TypeError`` for arguments that no generation has.
    """
    early = _is_early(arguments, keywords)
    given = bind(owner, _positions(arguments, keywords, early), arguments, keywords)
    given.pop("sc", None)
    if "master_network" in given:
        given["model"] = given.pop("master_network")
    if "model" not in given:
        raise TypeError(f"{owner}: expected a compiled Keras model, got none")
    compiled = {ours: given.pop(theirs) for theirs, ours in _COMPILED.items() if theirs in given}
    with_optimizer = early or "elephas_optimizer" in given
    for name in ("optimizer", "elephas_optimizer"):
        if name in given:
            given["server_optimizer"] = given.pop(name)
    if early:
        given = {"mode": "asynchronous", "num_workers": 4, **given}
    return Construction(given.pop("model"), given, compiled, dict(EARLY_TRAINING) if with_optimizer else {})


def asynchronous_construction(owner: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Construction:
    """What ``AsynchronousSparkModel(*arguments, **keywords)`` of Elephas 7 means."""
    given = bind(owner, _ASYNCHRONOUS, arguments, keywords)
    if "model" not in given:
        raise TypeError(f"{owner}: expected a compiled Keras model, got none")
    if given.get("mode") is None:
        given["mode"] = "asynchronous"
    return Construction(given.pop("model"), given)


def text_construction(owner: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Construction:
    """What ``SparkHFModel(*arguments, **keywords)`` of Elephas 6 means; ``mode`` is 'synchronous' unless given."""
    given = bind(owner, _TEXTS, arguments, keywords)
    if "model" not in given:
        raise TypeError(f"{owner}: expected a compiled Keras model, got none")
    if given.get("mode") is None:
        given["mode"] = "synchronous"
    return Construction(given.pop("model"), given)


def training(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a training call, with ``nb_epoch`` called ``epochs``. Raises ``TypeError`` where both are
    given."""
    given = dict(options)
    if "nb_epoch" in given:
        if "epochs" in given:
            raise TypeError("epochs: expected it once, got epochs and nb_epoch, which mean the same")
        given["epochs"] = given.pop("nb_epoch")
    return {**defaults, **given}


def _is_early(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
    if arguments:
        return isinstance(arguments[0], SparkContext | SparkSession)
    return "sc" in keywords or "master_network" in keywords


def _positions(arguments: Sequence[Any], keywords: Mapping[str, Any], early: bool) -> tuple[str, ...]:
    """The names of the positional arguments."""
    if early:
        return _FIRST
    second, third = (arguments[place] if len(arguments) > place else None for place in (1, 2))
    if isinstance(second, int) or (second is None and len(arguments) > 2 and not isinstance(third, str)):
        return _SEVENTH
    sixth = arguments[5] if len(arguments) > 5 else None
    if "elephas_optimizer" in keywords or not (sixth is None or isinstance(sixth, Mapping)):
        return _WITH_OPTIMIZER
    return _MIDDLE


def bind(owner: str, names: Sequence[str], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Positional ``arguments`` by their ``names``, with the ``keywords``.

    Raises ``TypeError`` where there are too many or one is given twice.
    """
    if len(arguments) > len(names):
        raise TypeError(f"{owner}: expected at most {len(names)} arguments ({', '.join(names)}), got {len(arguments)}")
    given = dict(zip(names, arguments, strict=False))
    twice = sorted(set(given) & set(keywords))
    if twice:
        raise TypeError(f"{owner}: expected '{twice[0]}' once, got it by position and by name")
    return {**given, **keywords}
