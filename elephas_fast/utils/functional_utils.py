"""Elephas' ``utils.functional_utils``."""

from elephas_fast.spark.weight_lists import add_params, average_and_subtract, divide_by, get_neutral, subtract_params

__all__ = ["add_params", "average_and_subtract", "divide_by", "get_neutral", "subtract_params"]
