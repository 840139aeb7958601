"""Elephas' ``ml.params``."""

from elephas_fast.spark.ml_params import (
    HasBatchSize,
    HasCategoricalLabels,
    HasCustomObjects,
    HasElephasOptimizerConfig,
    HasEpochs,
    HasFrequency,
    HasInferenceBatchSize,
    HasKerasModelConfig,
    HasKerasOptimizerConfig,
    HasLoss,
    HasMetrics,
    HasMode,
    HasNumberOfClasses,
    HasNumberOfWorkers,
    HasPredictClasses,
    HasValidationSplit,
    HasVerbosity,
)

# As Elephas 0.3 had it.
HasOptimizerConfig = HasKerasOptimizerConfig

__all__ = [
    "HasBatchSize",
    "HasCategoricalLabels",
    "HasCustomObjects",
    "HasElephasOptimizerConfig",
    "HasEpochs",
    "HasFrequency",
    "HasInferenceBatchSize",
    "HasKerasModelConfig",
    "HasKerasOptimizerConfig",
    "HasLoss",
    "HasMetrics",
    "HasMode",
    "HasNumberOfClasses",
    "HasNumberOfWorkers",
    "HasOptimizerConfig",
    "HasPredictClasses",
    "HasValidationSplit",
    "HasVerbosity",
]
