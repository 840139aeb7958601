"""Keras 3's learning-rate schedules, computed without Keras.

A schedule maps the number of updates already applied to a learning rate. The arithmetic is float32, operation
by operation as in ``keras/src/optimizers/schedules/learning_rate_schedule.py``: floors and nearly cancelling
differences would otherwise fall on the other side of a step now and then.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from elephas_fast.optimizers._checks import at_least, finite, known_keys, positive

_f32 = np.float32


@dataclass(frozen=True)
class Schedule:
    """Base of the schedules: frozen values with Keras' argument names; ``schedule(step)`` is a float.

    ``step`` counts the updates applied before this one, as Keras' ``iterations`` does. Thread-safe.
    """

    # Keras' names of arguments that carry no meaning here.
    ignored: ClassVar[tuple[str, ...]] = ("name",)

    def __call__(self, step: int) -> float:
        raise NotImplementedError

    def to_config(self) -> dict[str, Any]:
        """``{'class_name': ..., 'config': {...}}``, JSON-able."""
        return {
            "class_name": type(self).__name__,
            "config": {f.name: getattr(self, f.name) for f in fields(self)},
        }

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Schedule:
        """The schedule that ``to_config`` or ``keras.optimizers.schedules.serialize`` described.

        Raises ``ValueError`` for a class that is not one of Keras' own schedules.
        """
        kind = _KINDS.get(str(config.get("class_name")))
        if kind is None or config.get("registered_name"):
            raise ValueError(
                f"learning_rate: expected a number or one of Keras' schedules ({', '.join(_KINDS)}), "
                f"got {config.get('registered_name') or config.get('class_name')}, "
                "which the server process cannot compute"
            )
        arguments = {k: v for k, v in config.get("config", {}).items() if k not in kind.ignored}
        known_keys(kind.__name__, arguments, [f.name for f in fields(kind)])
        return kind(**arguments)


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``, the exponent floored if
    ``staircase``.
    """

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False

    def __post_init__(self) -> None:
        finite("initial_learning_rate", self.initial_learning_rate)
        positive("decay_steps", self.decay_steps)
        at_least("decay_rate", self.decay_rate, 0)

    def __call__(self, step: int) -> float:
        periods = _f32(step) / _f32(self.decay_steps)
        if self.staircase:
            periods = np.floor(periods)
        return float(_f32(self.initial_learning_rate) * _power(_f32(self.decay_rate), periods))


@dataclass(frozen=True)
class PiecewiseConstantDecay(Schedule):
    """``values[k]`` up to and including step ``boundaries[k]``; the last value after the last boundary."""

    boundaries: Sequence[float]
    values: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "boundaries", tuple(self.boundaries))
        object.__setattr__(self, "values", tuple(self.values))
        if not self.boundaries or len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                "values: expected one more than boundaries, which are at least one, "
                f"got {len(self.values)} values and {len(self.boundaries)} boundaries"
            )
        # Keras casts boundaries to the integer type of the step.
        whole = [int(finite("boundaries", b)) for b in self.boundaries]
        if any(low >= high for low, high in itertools.pairwise(whole)):
            raise ValueError(f"boundaries: expected increasing steps, got {list(self.boundaries)}")
        for value in self.values:
            finite("values", value)

    def __call__(self, step: int) -> float:
        passed = sum(step > int(boundary) for boundary in self.boundaries)
        return float(_f32(self.values[passed]))


@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """From ``initial_learning_rate`` to ``end_learning_rate`` over ``decay_steps``, as ``(1 - progress) **
    power``.

    With ``cycle`` the decay restarts at the next multiple of ``decay_steps`` instead of staying at the end.
    """

    initial_learning_rate: float
    decay_steps: float
    end_learning_rate: float = 0.0001
    power: float = 1.0
    cycle: bool = False

    def __post_init__(self) -> None:
        finite("initial_learning_rate", self.initial_learning_rate)
        positive("decay_steps", self.decay_steps)
        finite("end_learning_rate", self.end_learning_rate)
        at_least("power", self.power, 0)

    def __call__(self, step: int) -> float:
        now, total = _f32(step), _f32(self.decay_steps)
        if self.cycle:
            total = total * (_f32(1) if step == 0 else np.ceil(now / total))
        else:
            now = min(now, total)
        initial, end = _f32(self.initial_learning_rate), _f32(self.end_learning_rate)
        return float((initial - end) * _power(_f32(1) - now / total, _f32(self.power)) + end)


@dataclass(frozen=True)
class InverseTimeDecay(Schedule):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``, the quotient floored if
    ``staircase``.
    """

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False

    def __post_init__(self) -> None:
        finite("initial_learning_rate", self.initial_learning_rate)
        positive("decay_steps", self.decay_steps)
        at_least("decay_rate", self.decay_rate, 0)

    def __call__(self, step: int) -> float:
        periods = _f32(step) / _f32(self.decay_steps)
        if self.staircase:
            periods = np.floor(periods)
        return float(_f32(self.initial_learning_rate) / (_f32(1) + _f32(self.decay_rate) * periods))


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """Half a cosine from the start to ``alpha`` times the start, after an optional linear warm-up.

    The start is ``initial_learning_rate``, or ``warmup_target`` where that is given: then the rate first
    rises linearly from ``initial_learning_rate`` over ``warmup_steps``. Source: Loshchilov & Hutter, arXiv
    1608.03983.
    """

    initial_learning_rate: float
    decay_steps: float
    alpha: float = 0.0
    warmup_target: float | None = None
    warmup_steps: float = 0

    def __post_init__(self) -> None:
        finite("initial_learning_rate", self.initial_learning_rate)
        positive("decay_steps", self.decay_steps)
        finite("alpha", self.alpha)
        at_least("warmup_steps", self.warmup_steps, 0)
        if self.warmup_target is not None:
            finite("warmup_target", self.warmup_target)

    def __call__(self, step: int) -> float:
        start, total = _f32(self.initial_learning_rate), _f32(self.decay_steps)
        if self.warmup_target is None:
            return self._decayed(min(_f32(step), total), total, start)
        target, warmup = _f32(self.warmup_target), _f32(self.warmup_steps)
        now = min(_f32(step), total + warmup)
        if now < warmup:
            return float((target - start) * (now / warmup) + start)
        return self._decayed(now - warmup, total, target)

    def _decayed(self, now: np.float32, total: np.float32, start: np.float32) -> float:
        cosine = _f32(0.5) * (_f32(1) + _cosine(_f32(math.pi) * (now / total)))
        return float(start * (_f32(1 - self.alpha) * cosine + _f32(self.alpha)))


@dataclass(frozen=True)
class CosineDecayRestarts(Schedule):
    """Cosine decay that starts again: period k lasts ``t_mul**k * first_decay_steps`` steps, from
    ``m_mul**k`` times the initial rate. Source: Loshchilov & Hutter, arXiv 1608.03983.
    """

    initial_learning_rate: float
    first_decay_steps: float
    t_mul: float = 2.0
    m_mul: float = 1.0
    alpha: float = 0.0

    def __post_init__(self) -> None:
        finite("initial_learning_rate", self.initial_learning_rate)
        positive("first_decay_steps", self.first_decay_steps)
        at_least("t_mul", self.t_mul, 1)
        at_least("m_mul", self.m_mul, 0)
        finite("alpha", self.alpha)

    def __call__(self, step: int) -> float:
        one, growth = _f32(1), _f32(self.t_mul)
        fraction = _f32(step) / _f32(self.first_decay_steps)
        if growth == one:
            restarts = np.floor(fraction)
            fraction = fraction - restarts
        else:
            restarts = np.floor(_log(one - fraction * (one - growth)) / _log(growth))
            length = _power(growth, restarts)
            fraction = (fraction - (one - length) / (one - growth)) / length
        height = _power(_f32(self.m_mul), restarts)
        cosine = _f32(0.5) * height * (one + _cosine(_f32(math.pi) * fraction))
        alpha = _f32(self.alpha)
        return float(_f32(self.initial_learning_rate) * ((one - alpha) * cosine + alpha))


_KINDS: dict[str, type[Schedule]] = {
    kind.__name__: kind
    for kind in (
        ExponentialDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
        InverseTimeDecay,
        CosineDecay,
        CosineDecayRestarts,
    )
}


def _power(base: np.float32, exponent: np.float32) -> np.float32:
    return _f32(math.pow(float(base), float(exponent)))


def _log(value: np.float32) -> np.float32:
    return _f32(math.log(float(value)))


def _cosine(angle: np.float32) -> np.float32:
    return _f32(math.cos(float(angle)))
