"""Elephas' ``utils.rwlock``."""

from elephas_fast.store.rwlock import RWLock

__all__ = ["RWLock"]
