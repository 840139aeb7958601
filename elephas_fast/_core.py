"""Stands in for the compiled module, which Python prefers when it is there, to say how to build it."""

raise ImportError(
    "elephas_fast._core: the compiled kernels are missing for this Python; "
    "build them with 'pip install .' (or 'pip install -e .') in the source folder of elephas_fast"
)
