"""Which generation of Elephas a call is written for, and what it means in today's words.

From 0.1 to 0.3 the arguments began with a Spark context; from 0.4 to 6 the mode followed the model; from 7 on the
number of workers does. The generations are told apart by what stands where; each form's documented meaning holds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
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
    "batch_size", "port",
)  # fmt: skip
_MIDDLE: Final = (
    "model", "mode", "frequency", "parameter_server_mode", "num_workers", "custom_objects", "batch_size", "port",
)  # fmt: skip
_SEVENTH: Final = ("model", "num_workers", "custom_objects", "batch_size")
ASYNCHRONOUS: Final = (*_SEVENTH, "mode", "frequency", "parameter_server_mode", "port")
TEXTS: Final = (
    "model", "mode", "frequency", "parameter_server_mode", "num_workers", "batch_size", "port", "tokenizer",
    "tokenizer_kwargs", "loader",
)  # fmt: skip
_COMPILED: Final = {"master_optimizer": "optimizer", "master_loss": "loss", "master_metrics": "metrics"}
TRAINING: Final = ("batch_size", "verbose", "validation_split")
"""What follows the epochs in a training call by position."""
MLLIB_TRAINING: Final = (*TRAINING, "categorical", "nb_classes")
_KERAS_ONLY: Final = {
    "x": "the rows are those of the RDD",
    "y": "the targets are those of the RDD's (x, y) rows",
    "sample_weight": "give an RDD of (x, y, sample_weight) rows",
    "initial_epoch": "epochs counts those of this call; leave it out, or go on from a checkpoint with resume=True",
    "steps_per_epoch": "an epoch is all rows; to train on some of them give rdd.sample(...)",
    "validation_steps": "all rows kept for validation are evaluated; leave it out",
    "validation_batch_size": "validation goes by batch_size; leave it out",
    "validation_freq": "each epoch is validated; leave it out",
    "max_queue_size": "each worker has its rows as arrays; leave it out",
    "workers": "num_workers says how many partitions train",
    "use_multiprocessing": "each worker is a process of its own already; leave it out",
}
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
    fourth = "elephas_optimizer" in given
    for name in ("optimizer", "elephas_optimizer"):
        if name in given:
            given["server_optimizer"] = given.pop(name)
    if early:
        given = {"num_workers": 4, **given}
    if (early or fourth) and given.get("mode") is None:
        given["mode"] = "asynchronous"
    return Construction(given.pop("model"), given, compiled, dict(EARLY_TRAINING) if early or fourth else {})


def fixed_construction(
    owner: str, names: Sequence[str], mode: str, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> Construction:
    """What the call of a class means that has had one form only: arguments by their ``names``, ``mode`` unless given.

    Raises ``TypeError`` for arguments that it does not have.
    """
    given = bind(owner, names, arguments, keywords)
    if "model" not in given:
        raise TypeError(f"{owner}: expected a compiled Keras model, got none")
    if given.get("mode") is None:
        given["mode"] = mode
    return Construction(given.pop("model"), given)


def training(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a training call, with ``nb_epoch`` called ``epochs`` and Keras' ``verbose='auto'`` or a boolean
    as a number. Raises ``TypeError`` where both names of the epochs are given."""
    given = dict(options)
    if "nb_epoch" in given:
        if "epochs" in given:
            raise TypeError("epochs: expected it once, got epochs and nb_epoch, which mean the same")
        given["epochs"] = given.pop("nb_epoch")
    verbose = given.get("verbose")
    if isinstance(verbose, bool) or verbose == "auto":
        given["verbose"] = int(bool(verbose))
    return {**defaults, **given}


def refuse_keras_only(options: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` for a keyword that ``keras.Model.fit`` has and training on an RDD has no use for, saying what
    stands in its place."""
    for name in options:
        if name in _KERAS_ONLY:
            raise TypeError(f"fit: '{name}' is of keras.Model.fit, not for an RDD: {_KERAS_ONLY[name]}")


def signature(set_up: Callable[..., Any], names: Sequence[str] = (), **defaults: Any) -> inspect.Signature:
    """The signature of a constructor whose arguments end up in the method ``set_up``, with ``names`` by position in
    this order (none: its own), and other ``defaults``."""
    found = dict(list(inspect.signature(set_up).parameters.items())[1:])
    by_position = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = [found.pop(name, inspect.Parameter(name, by_position, default=None)) for name in names]
    first = [one.replace(default=defaults.get(one.name, one.default)) for one in first]
    rest = [one for one in found.values() if not names or one.kind is not by_position]
    return inspect.Signature(first + rest, return_annotation=None)


def _is_early(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
    if arguments:
        return isinstance(arguments[0], SparkContext | SparkSession)
    return "sc" in keywords or "master_network" in keywords


def _positions(arguments: Sequence[Any], keywords: Mapping[str, Any], early: bool) -> tuple[str, ...]:
    """The names of the positional arguments."""
    if early:
        return _FIRST
    count = len(arguments)
    second, third, fourth, sixth, seventh = (arguments[at] if count > at else None for at in (1, 2, 3, 5, 6))
    if isinstance(second, int):
        return _SEVENTH
    if second is None and 2 < count <= len(_SEVENTH) and _are_objects(third) and not isinstance(fourth, str):
        return _SEVENTH
    if "elephas_optimizer" in keywords or not _are_objects(sixth) or (count > 6 and _are_objects(seventh)):
        return _WITH_OPTIMIZER
    return _MIDDLE


def _are_objects(value: Any) -> bool:
    """Whether this may stand for ``custom_objects``."""
    return value is None or isinstance(value, Mapping)


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
