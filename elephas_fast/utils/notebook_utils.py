"""Elephas' ``utils.notebook_utils``."""

from elephas_fast.spark.notebook import is_running_in_notebook

__all__ = ["is_running_in_notebook"]
