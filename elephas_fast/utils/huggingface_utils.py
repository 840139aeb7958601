"""Elephas' ``utils.huggingface_utils``."""

from elephas_fast.batches.labels import pad_labels

__all__ = ["pad_labels"]
