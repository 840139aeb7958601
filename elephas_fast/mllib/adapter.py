"""Elephas' ``mllib.adapter``."""

from elephas_fast.spark.labeled_points import from_matrix, from_vector, to_matrix, to_vector

__all__ = ["from_matrix", "from_vector", "to_matrix", "to_vector"]
