"""SGD, RMSprop, Adagrad, Adadelta and Adam: which compiled rule, which slots, which numbers each step.

The arithmetic is in csrc/rules.hpp, with formulas and sources. The numbers are rounded to float32 exactly
where Keras rounds them: ``1 - beta`` before rounding, but powers of an already rounded ``beta``, for in ``1 -
beta_2**t`` that rounding shows (3e-5 of it for ``beta_2 = 0.999`` at the first step).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from elephas_fast._core import round_to_float32 as rounded
from elephas_fast.optimizers._checks import at_least, fraction
from elephas_fast.optimizers.base import Optimizer
from elephas_fast.optimizers.schedules import Schedule


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, with momentum (slot ``momentum``) if that is not 0, Nesterov's if ``nesterov``."""

    learning_rate: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("momentum", fraction("momentum", self.momentum))

    @property
    def rule(self) -> str:
        if self.momentum == 0:
            return "sgd"
        return "nesterov" if self.nesterov else "momentum"

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def scalars(self, step: int) -> tuple[float, ...]:
        rate = self.learning_rate_at(step)
        return (rate, self.momentum) if self.momentum else (rate,)


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop; slots ``velocity``, with momentum ``momentum``, centered ``average_gradient``.

    ``epsilon`` is added to the squared average before the root is taken, as in Keras.
    """

    learning_rate: float | Schedule = 0.001
    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("rho", fraction("rho", self.rho))
        self._set("momentum", fraction("momentum", self.momentum))
        self._set("epsilon", at_least("epsilon", self.epsilon, 0))

    @property
    def rule(self) -> str:
        return "rmsprop" + "_centered" * bool(self.centered) + "_momentum" * (self.momentum > 0)

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("velocity",) + ("momentum",) * (self.momentum > 0) + ("average_gradient",) * bool(self.centered)

    def scalars(self, step: int) -> tuple[float, ...]:
        numbers = (self.learning_rate_at(step), self.rho, 1 - self.rho, self.epsilon)
        return (*numbers, self.momentum) if self.momentum > 0 else numbers


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad; slot ``accumulator``, which starts at ``initial_accumulator_value``."""

    learning_rate: float | Schedule = 0.001
    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        super().__post_init__()
        value = at_least("initial_accumulator_value", self.initial_accumulator_value, 0)
        self._set("initial_accumulator_value", value)
        self._set("epsilon", at_least("epsilon", self.epsilon, 0))

    @property
    def rule(self) -> str:
        return "adagrad"

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("accumulator",)

    @property
    def slot_initial(self) -> tuple[float, ...]:
        return (self.initial_accumulator_value,)

    def scalars(self, step: int) -> tuple[float, ...]:
        return (self.learning_rate_at(step), self.epsilon)


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Adadelta; slots ``accumulated_grad`` and ``accumulated_delta_var``."""

    learning_rate: float | Schedule = 0.001
    rho: float = 0.95
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("rho", fraction("rho", self.rho))
        self._set("epsilon", at_least("epsilon", self.epsilon, 0))

    @property
    def rule(self) -> str:
        return "adadelta"

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("accumulated_grad", "accumulated_delta_var")

    def scalars(self, step: int) -> tuple[float, ...]:
        return (self.learning_rate_at(step), self.rho, 1 - self.rho, self.epsilon)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam; slots ``momentum`` and ``velocity``, with ``amsgrad`` also ``velocity_hat``.

    ``epsilon`` is "epsilon hat" of Kingma & Ba (before section 2.1), as in Keras. Keras' ``AdamW`` is this
    class with ``weight_decay=0.004``.
    """

    learning_rate: float | Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("beta_1", fraction("beta_1", self.beta_1, below_one=True))
        self._set("beta_2", fraction("beta_2", self.beta_2, below_one=True))
        self._set("epsilon", at_least("epsilon", self.epsilon, 0))

    @property
    def rule(self) -> str:
        return "adam_amsgrad" if self.amsgrad else "adam"

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("momentum", "velocity") + ("velocity_hat",) * bool(self.amsgrad)

    @property
    def steady(self) -> bool:
        return False

    def scalars(self, step: int) -> tuple[float, ...]:
        # Operations in double on float32 numbers, rounded after each, give what float32 operations give.
        rest_1 = rounded(1.0 - rounded(math.pow(rounded(self.beta_1), step + 1)))
        rest_2 = rounded(1.0 - rounded(math.pow(rounded(self.beta_2), step + 1)))
        rate = rounded(self.learning_rate_at(step) * rounded(math.sqrt(rest_2)))
        alpha = rounded(rate / rest_1) if rest_1 else rate * math.inf
        return (alpha, 1 - self.beta_1, 1 - self.beta_2, self.epsilon)
