"""Elephas' ``enums.frequency``."""

from enum import StrEnum


class Frequency(StrEnum):
    """How much is trained between a pull and a push; each equals its name as a string."""

    EPOCH = "epoch"
    BATCH = "batch"
