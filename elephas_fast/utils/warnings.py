"""Elephas' ``utils.warnings``."""

__all__ = ["ElephasWarning"]


class ElephasWarning(Warning):
    """What Elephas 1.4 to 4.0 warned with. This package raises errors instead; the name is for scripts that filter
    it."""
