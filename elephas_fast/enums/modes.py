"""Elephas' ``enums.modes``."""

from enum import StrEnum


class Mode(StrEnum):
    """How the workers' updates come together; each equals its name as a string."""

    SYNCHRONOUS = "synchronous"
    ASYNCHRONOUS = "asynchronous"
    HOGWILD = "hogwild"
