"""Server optimizers with Keras 3's names, arguments and results, applied by compiled kernels; no Keras
needed.

`SGD`, `RMSprop`, `Adagrad`, `Adadelta` and `Adam` are frozen values; `get` makes one from a Keras optimizer,
its configuration or a name; `FlatOptimizer` binds one to a `Layout` and applies it.
"""

from elephas_fast.optimizers.base import Optimizer
from elephas_fast.optimizers.convert import deserialize, get, serialize
from elephas_fast.optimizers.flat import BoundOptimizer, FlatOptimizer
from elephas_fast.optimizers.rules import SGD, Adadelta, Adagrad, Adam, RMSprop
from elephas_fast.optimizers.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    PiecewiseConstantDecay,
    PolynomialDecay,
    Schedule,
)

# As Elephas 0.2 to 0.4 had them.
sgd, rmsprop, adagrad, adadelta, adam = SGD, RMSprop, Adagrad, Adadelta, Adam

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "BoundOptimizer",
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "FlatOptimizer",
    "InverseTimeDecay",
    "Optimizer",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "RMSprop",
    "Schedule",
    "adadelta",
    "adagrad",
    "adam",
    "deserialize",
    "get",
    "rmsprop",
    "serialize",
    "sgd",
]
