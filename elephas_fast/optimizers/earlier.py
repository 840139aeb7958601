"""The optimizers of ``elephas.optimizers`` as Elephas 0.2 to 0.4 had them: their signatures, defaults and order.

Each call makes one of today's optimizers, which counts as an instance of both classes. ``epsilon`` of RMSprop, Adagrad
and Adadelta stands under the root, there as here.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from elephas_fast.optimizers import rules

_CLIPS: Final = ("clipnorm", "clipvalue")


class _Earlier(type):
    today: ClassVar[Any]

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        if "learning_rate" in keywords:
            if arguments or "lr" in keywords:
                raise TypeError(f"{cls.__name__}: expected lr once, got it as learning_rate too")
            keywords["lr"] = keywords.pop("learning_rate")
        # A clip that is not positive meant none.
        without = [name for name in _CLIPS if isinstance(keywords.get(name), int | float) and keywords[name] <= 0]
        return super().__call__(*arguments, **{n: value for n, value in keywords.items() if n not in without})

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.today)


class SGD(metaclass=_Earlier):
    """Gradient descent; ``decay`` divides the rate of step t by ``1 + decay t``."""

    today = rules.SGD

    def __new__(
        cls, lr: float = 0.01, momentum: float = 0.0, decay: float = 0.0, nesterov: bool = False, **more: Any
    ) -> Any:
        return cls.today(learning_rate=lr, momentum=momentum, decay=decay, nesterov=nesterov, **more)


class RMSprop(metaclass=_Earlier):
    """RMSprop."""

    today = rules.RMSprop

    def __new__(cls, lr: float = 0.001, rho: float = 0.9, epsilon: float = 1e-6, **more: Any) -> Any:
        return cls.today(learning_rate=lr, rho=rho, epsilon=epsilon, **more)


class Adagrad(metaclass=_Earlier):
    """Adagrad; its accumulator begins at zero."""

    today = rules.Adagrad

    def __new__(cls, lr: float = 0.01, epsilon: float = 1e-6, **more: Any) -> Any:
        return cls.today(learning_rate=lr, epsilon=epsilon, **{"initial_accumulator_value": 0.0, **more})


class Adadelta(metaclass=_Earlier):
    """Adadelta."""

    today = rules.Adadelta

    def __new__(cls, lr: float = 1.0, rho: float = 0.95, epsilon: float = 1e-6, **more: Any) -> Any:
        return cls.today(learning_rate=lr, rho=rho, epsilon=epsilon, **more)


class Adam(metaclass=_Earlier):
    """Adam; ``epsilon`` is added to the root."""

    today = rules.Adam

    def __new__(
        cls, lr: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8, **more: Any
    ) -> Any:
        return cls.today(learning_rate=lr, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, **more)


KINDS: Final[dict[str, Any]] = {kind.__name__.lower(): kind for kind in (SGD, RMSprop, Adagrad, Adadelta, Adam)}
"""By their lower-case names."""
