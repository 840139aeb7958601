"""Distributions for double braces, and as hyperopt has them."""

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

__all__ = [
    "choice",
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
