"""Elephas' import paths for helpers; they re-export and hold nothing of their own."""

from elephas_fast.utils.rdd_utils import to_simple_rdd

__all__ = ["to_simple_rdd"]
