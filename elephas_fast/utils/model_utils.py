"""Elephas' ``utils.model_utils``."""

from elephas_fast.keras_bridge.model_type import (
    LossModelTypeMapper,
    ModelType,
    ModelTypeEncoder,
    as_enum,
    is_multiple_input_model,
    is_multiple_output_model,
)
from elephas_fast.spark.columns import argmax

__all__ = [
    "LossModelTypeMapper",
    "ModelType",
    "ModelTypeEncoder",
    "argmax",
    "as_enum",
    "is_multiple_input_model",
    "is_multiple_output_model",
]
