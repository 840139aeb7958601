"""Elephas' ``utils.versioning_utils``."""

__all__ = ["get_minor_version"]


def get_minor_version(version_string: str) -> int:
    """The second number of a version such as ``'3.15.1'``. Raises ``ValueError`` where there is none."""
    parts = version_string.split(".")
    if len(parts) < 2 or not parts[1].isdigit():
        raise ValueError(f"version_string: expected a version such as '3.15.1', got {version_string!r}")
    return int(parts[1])
