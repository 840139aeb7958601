"""Elephas' ``utils.rdd_utils``."""

from elephas_fast.spark.labeled_points import encode_label, from_labeled_point, lp_to_simple_rdd, to_labeled_point
from elephas_fast.spark.rows import to_simple_rdd

__all__ = ["encode_label", "from_labeled_point", "lp_to_simple_rdd", "to_labeled_point", "to_simple_rdd"]
