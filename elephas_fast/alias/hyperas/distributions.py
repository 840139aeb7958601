"""Distributions for double braces, and as hyperopt has them."""

from typing import Any

from hyperopt import hp

choice = hp.choice
pchoice = hp.pchoice
randint = hp.randint
uniform = hp.uniform
uniformint = hp.uniformint
quniform = hp.quniform
loguniform = hp.loguniform
qloguniform = hp.qloguniform
normal = hp.normal
qnormal = hp.qnormal
lognormal = hp.lognormal
qlognormal = hp.qlognormal


def conditional(condition: Any) -> Any:
    """The condition itself: ``if conditional({{choice([...])}}) == ...`` names the hyper-parameter."""
    return condition


__all__ = [
    "choice",
    "conditional",
    "lognormal",
    "loguniform",
    "normal",
    "pchoice",
    "qlognormal",
    "qloguniform",
    "qnormal",
    "quniform",
    "randint",
    "uniform",
    "uniformint",
]
