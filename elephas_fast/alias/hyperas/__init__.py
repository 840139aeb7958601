"""The names of hyperas that scripts for Elephas import, where hyperas itself is not installed."""

import sys

if __name__ == "hyperas":  # found on the PYTHONPATH of Spark's Python workers
    del sys.modules[__name__]

    from elephas_fast.alias import install_as_elephas

    install_as_elephas()
    import hyperas  # type: ignore[import-not-found] # noqa: F401
