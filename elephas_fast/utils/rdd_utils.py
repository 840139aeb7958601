"""Elephas' ``utils.rdd_utils``."""

from elephas_fast.spark.rows import to_simple_rdd

__all__ = ["to_simple_rdd"]
