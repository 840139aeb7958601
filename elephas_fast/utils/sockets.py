"""Elephas' ``utils.sockets``."""

from elephas_fast.spark.earlier import determine_master

__all__ = ["determine_master"]
