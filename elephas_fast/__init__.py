"""Data-parallel training of Keras models on Spark, with a compiled shared-memory parameter server.

Names are imported on first use, so that a parameter server process, which needs neither Spark nor TensorFlow, starts
without them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elephas_fast.alias import install_as_elephas
    from elephas_fast.hyperparam import HyperParamModel, VotingModel, search
    from elephas_fast.ml_model import ElephasEstimator, ElephasTransformer, load_ml_estimator, load_ml_transformer
    from elephas_fast.spark_model import (
        AsynchronousSparkModel,
        SparkHFModel,
        SparkMLlibModel,
        SparkModel,
        load_spark_model,
    )

__version__ = "0.1.0"
__all__ = [
    "AsynchronousSparkModel",
    "ElephasEstimator",
    "ElephasTransformer",
    "HyperParamModel",
    "SparkHFModel",
    "SparkMLlibModel",
    "SparkModel",
    "VotingModel",
    "__version__",
    "install_as_elephas",
    "load_ml_estimator",
    "load_ml_transformer",
    "load_spark_model",
    "search",
]

_HOMES = {
    "AsynchronousSparkModel": "elephas_fast.spark_model",
    "ElephasEstimator": "elephas_fast.ml_model",
    "ElephasTransformer": "elephas_fast.ml_model",
    "HyperParamModel": "elephas_fast.hyperparam",
    "SparkHFModel": "elephas_fast.spark_model",
    "SparkMLlibModel": "elephas_fast.spark_model",
    "SparkModel": "elephas_fast.spark_model",
    "VotingModel": "elephas_fast.hyperparam",
    "install_as_elephas": "elephas_fast.alias",
    "load_ml_estimator": "elephas_fast.ml_model",
    "load_ml_transformer": "elephas_fast.ml_model",
    "load_spark_model": "elephas_fast.spark_model",
    "search": "elephas_fast.hyperparam",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'elephas_fast' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
