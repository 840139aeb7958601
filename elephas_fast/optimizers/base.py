"""What all optimizers share: Keras 3's common arguments, their checks, and the form that crosses to a server
process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from elephas_fast._core import round_to_float32
from elephas_fast.optimizers._checks import at_least, finite, known_keys, positive
from elephas_fast.optimizers.schedules import InverseTimeDecay, Schedule
from elephas_fast.optimizers.updates import EarlierCalls


class _EarlierNames(type):
    """Takes the names that Keras had before: ``lr`` for ``learning_rate``, and ``decay``, by which the rate at step t
    is divided by ``1 + decay t``."""

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        if "lr" in keywords:
            if arguments or "learning_rate" in keywords:
                raise TypeError(f"{cls.__name__}: expected learning_rate once, got it as lr too")
            keywords["learning_rate"] = keywords.pop("lr")
        decay = keywords.pop("decay", 0.0)
        made = super().__call__(*arguments, **keywords)
        if not decay:
            return made
        return replace(made, learning_rate=InverseTimeDecay(made.learning_rate, 1, at_least("decay", decay, 0)))


@dataclass(frozen=True)
class Optimizer(EarlierCalls, metaclass=_EarlierNames):
    """An optimizer's hyper-parameters: a frozen value with Keras 3's argument names, defaults and meaning.

    It holds no state but what `get_updates` keeps; `FlatOptimizer` applies it to buffers. Common arguments:

    * ``learning_rate``: a number or a `Schedule`. Used in float32, as Keras does.
    * ``weight_decay``: before each update, ``w -= w * weight_decay * learning_rate``; ``None`` for none.
      ``exclude_from_weight_decay`` holds regular expressions; a weight whose name contains a match does not
      decay.
    * ``clipnorm``: each weight's gradient is scaled down to at most this Euclidean norm.
    * ``global_clipnorm``: the gradients of all weights together are.
    * ``clipvalue``: each element of the gradient is clipped to ``[-clipvalue, clipvalue]``.

    ``lr`` and ``decay`` (of the rate, as in Keras 1) are understood too. ``clipvalue`` may go with ``clipnorm``, and
    then clips what that has left, as in Keras 1 and 2; ``global_clipnorm`` stands alone. Raises ``ValueError`` naming
    the argument.
    """

    learning_rate: float | Schedule = 0.001
    weight_decay: float | None = field(default=None, kw_only=True)
    clipnorm: float | None = field(default=None, kw_only=True)
    clipvalue: float | None = field(default=None, kw_only=True)
    global_clipnorm: float | None = field(default=None, kw_only=True)
    exclude_from_weight_decay: Sequence[str] = field(default=(), kw_only=True)

    registry: ClassVar[dict[str, type[Optimizer]]] = {}
    _rate: ClassVar[float]  # of each object: a constant learning rate, rounded

    def __init_subclass__(cls) -> None:
        cls.registry[cls.__name__] = cls

    def __post_init__(self) -> None:
        if not isinstance(self.learning_rate, Schedule):
            self._set("learning_rate", finite("learning_rate", self.learning_rate))
            self._set("_rate", round_to_float32(self.learning_rate))
        if self.weight_decay is not None:
            self._set("weight_decay", at_least("weight_decay", self.weight_decay, 0))
        clips = [name for name in ("clipnorm", "clipvalue", "global_clipnorm") if getattr(self, name) is not None]
        if len(clips) > 1 and "global_clipnorm" in clips:
            raise ValueError(f"global_clipnorm: expected no other way to clip gradients, got {' and '.join(clips)}")
        for name in clips:
            self._set(name, positive(name, getattr(self, name)))
        if isinstance(self.exclude_from_weight_decay, str):
            raise ValueError(
                "exclude_from_weight_decay: expected a sequence of patterns, "
                f"got the string {self.exclude_from_weight_decay!r}"
            )
        self._set("exclude_from_weight_decay", tuple(self.exclude_from_weight_decay))
        for pattern in self.exclude_from_weight_decay:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"exclude_from_weight_decay: expected regular expressions, got {pattern!r} ({error})"
                ) from None

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def rule(self) -> str:
        """The name of the compiled rule (csrc/rules.hpp) that these hyper-parameters select."""
        raise NotImplementedError

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Keras' names of the slots, in the order of the rule."""
        raise NotImplementedError

    @property
    def slot_initial(self) -> tuple[float, ...]:
        """The value each slot starts from."""
        return (0.0,) * len(self.slot_names)

    def scalars(self, step: int) -> tuple[float, ...]:
        """The rule's numbers for the update that follows ``step`` earlier ones, in the order the rule names
        them.
        """
        raise NotImplementedError

    @property
    def steady(self) -> bool:
        """Whether ``scalars`` and ``decay_at`` are the same at every step."""
        return not isinstance(self.learning_rate, Schedule)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate, rounded to float32, of the update that follows ``step`` earlier ones."""
        if isinstance(self.learning_rate, Schedule):
            return round_to_float32(self.learning_rate(step))
        return self._rate

    def decay_at(self, step: int) -> float:
        """The fraction, rounded to float32, that weights lose before that update."""
        if self.weight_decay is None:
            return 0.0
        return round_to_float32(round_to_float32(self.weight_decay) * self.learning_rate_at(step))

    def decays(self, name: str) -> bool:
        """Whether the weight of that name takes part in weight decay."""
        return not any(re.search(pattern, name) for pattern in self.exclude_from_weight_decay)

    def to_config(self) -> dict[str, Any]:
        """``{'class_name': ..., 'config': {...}}``, JSON-able; `from_config` reads it back to an equal
        optimizer.
        """
        config = {f.name: getattr(self, f.name) for f in fields(self)}
        if isinstance(self.learning_rate, Schedule):
            config["learning_rate"] = self.learning_rate.to_config()
        config["exclude_from_weight_decay"] = list(self.exclude_from_weight_decay)
        return {"class_name": type(self).__name__, "config": config}

    @property
    def lr(self) -> float | Schedule:
        """``learning_rate``."""
        return self.learning_rate

    def get_config(self) -> dict[str, Any]:
        """Hyper-parameters as Elephas 0.2 to 0.4 gave them: ``{'name': 'SGD', 'lr': 0.01, ...}``, without those that
        are not set. ``optimizers.get`` makes an equal optimizer of it."""
        config = self.to_config()["config"]
        config = {name: value for name, value in config.items() if value is not None and value != []}
        rate = config.pop("learning_rate")
        schedule = self.learning_rate
        if isinstance(schedule, InverseTimeDecay) and schedule.decay_steps == 1 and not schedule.staircase:
            rate, config["decay"] = schedule.initial_learning_rate, schedule.decay_rate
        return {"name": type(self).__name__, "lr": rate, **config}

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Optimizer:
        """The optimizer that `to_config` described. Raises ``ValueError`` for an unknown class or
        argument.
        """
        kind = Optimizer.registry.get(str(config.get("class_name")))
        if kind is None:
            raise ValueError(
                f"class_name: expected one of {', '.join(Optimizer.registry)}, got {config.get('class_name')!r}"
            )
        arguments = dict(config.get("config", {}))
        known_keys(kind.__name__, arguments, [f.name for f in fields(kind)])
        if isinstance(arguments.get("learning_rate"), Mapping):
            arguments["learning_rate"] = Schedule.from_config(arguments["learning_rate"])
        return kind(**arguments)
