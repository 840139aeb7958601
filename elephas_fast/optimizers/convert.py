"""From what users hold (a name, a Keras optimizer, its serialized form) to our optimizers, without importing
Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from elephas_fast.optimizers.base import Optimizer
from elephas_fast.optimizers.earlier import KINDS
from elephas_fast.optimizers.schedules import InverseTimeDecay, Schedule

# Keras' common arguments that our optimizers do not have, and the values at which they mean nothing.
_WITHOUT_MEANING: dict[str, tuple[Any, ...]] = {
    "use_ema": (False, None),
    "loss_scale_factor": (None,),
    "gradient_accumulation_steps": (None, 0),
}
_DROPPED = ("name", "ema_momentum", "ema_overwrite_frequency", *_WITHOUT_MEANING)
_CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")
_HOMES = ("keras", "keras.", "tf_keras.", "tensorflow.")


def get(identifier: Any, kwargs: Mapping[str, Any] | None = None) -> Optimizer:
    """The optimizer that ``identifier`` names: one of ours, a Keras 3 optimizer, its serialized form, or a
    name.

    A Keras optimizer's current learning rate and hyper-parameters are taken, its slots are not. Names are
    Keras' own, in any case ('sgd', 'rmsprop', 'adagrad', 'adadelta', 'adam', 'adamw'); ``kwargs`` go with one. What
    ``Optimizer.get_config`` gave is understood too. Raises
    ``ValueError`` for an optimizer, schedule or option that a parameter server cannot apply (``use_ema``,
    ``gradient_accumulation_steps``, loss scaling, custom classes).
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, str):
        given = {"learning_rate" if name == "lr" else name: value for name, value in (kwargs or {}).items()}
        decay = given.pop("decay", 0.0)
        made = _from_keras(identifier, given)
        if not decay:
            return made
        if isinstance(made.learning_rate, Schedule):
            raise ValueError(f"decay: expected it with a number as lr, got it with {made.learning_rate}")
        return replace(made, learning_rate=InverseTimeDecay(made.learning_rate, 1, decay))
    if kwargs:
        raise ValueError(f"kwargs: expected none beside an optimizer that is not a name, got {dict(kwargs)}")
    if isinstance(identifier, Mapping) and "class_name" not in identifier and "name" in identifier:
        return _from_short_form(identifier)
    if isinstance(identifier, Mapping):
        registered = identifier.get("registered_name")
        if registered and registered != identifier.get("class_name"):
            raise _unsupported(registered)
        config = identifier.get("config") or {}
        if not isinstance(config, Mapping):
            raise ValueError(f"optimizer: expected its config as a dict, got {type(config).__name__}")
        return _from_keras(str(identifier.get("class_name")), config)
    if callable(getattr(identifier, "get_config", None)) and not isinstance(identifier, type):
        kind = type(identifier)
        if not kind.__module__.startswith(_HOMES):
            raise _unsupported(f"{kind.__module__}.{kind.__name__}")
        return _from_keras(kind.__name__, {**identifier.get_config(), **_exclusions(identifier)})
    raise ValueError(
        "optimizer: expected a name, an optimizer of elephas_fast.optimizers, a Keras optimizer "
        "or its serialized form, "
        f"got {type(identifier).__name__}"
    )


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """``{'class_name': ..., 'config': ...}``, JSON-able, of one of our optimizers."""
    return optimizer.to_config()


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Optimizer:
    """The optimizer that ``serialize``, ``Optimizer.get_config`` or Keras described.

    Raises ``ValueError`` for ``custom_objects``: a parameter server applies compiled rules only.
    """
    if custom_objects:
        raise ValueError(f"custom_objects: expected none, got {', '.join(custom_objects)}, which have no compiled rule")
    return get(config)


def _from_short_form(config: Mapping[str, Any]) -> Optimizer:
    """From ``Optimizer.get_config()``, of ours or of Elephas 0.2 to 0.4, whose defaults hold for what is not there."""
    given = dict(config)
    name = str(given.pop("name"))
    defaults = KINDS[name.lower()]().get_config() if name.lower() in KINDS else {}
    defaults.pop("name", None)
    if "learning_rate" in given:
        defaults.pop("lr", None)
    return get(name, {**defaults, **given})


def _from_keras(name: str, config: Mapping[str, Any]) -> Optimizer:
    kinds = {key.lower(): kind for key, kind in Optimizer.registry.items()}
    decoupled = name.lower() == "adamw"
    kind = kinds.get("adam" if decoupled else name.lower())
    if kind is None:
        raise _unsupported(name)
    for option, harmless in _WITHOUT_MEANING.items():
        if option in config and config[option] not in harmless:
            raise ValueError(
                f"optimizer {name}: expected {option}={harmless[0]}, got {config[option]!r}, "
                "which a parameter server cannot apply"
            )
    arguments = {key: value for key, value in config.items() if key not in _DROPPED}
    for clip in _CLIPS:
        # Keras clips only where the bound is positive.
        if arguments.get(clip) is not None and arguments[clip] <= 0:
            arguments[clip] = None
    if decoupled:
        arguments.setdefault("weight_decay", 0.004)
    rate = arguments.get("learning_rate")
    if isinstance(rate, Schedule):
        arguments["learning_rate"] = rate.to_config()
    return Optimizer.from_config({"class_name": kind.__name__, "config": arguments})


def _exclusions(optimizer: Any) -> dict[str, Any]:
    """What Keras' ``exclude_from_weight_decay`` recorded; its configuration does not hold it."""
    if getattr(optimizer, "_exclude_from_weight_decay", None):
        raise ValueError(
            "optimizer: expected exclude_from_weight_decay(var_names=...), got a list of variables, "
            "which the server process cannot recognise"
        )
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    return {"exclude_from_weight_decay": (pattern.pattern,)} if pattern is not None else {}


def _unsupported(name: str) -> ValueError:
    return ValueError(
        f"optimizer: expected one of {', '.join(Optimizer.registry)} or AdamW, got {name}, "
        "which has no compiled rule; choose one of these for the server"
    )
