"""What Spark's Python workers find as ``elephas`` where the driver has installed this package under that name: on the
``PYTHONPATH`` of its own machine, and as a file that Spark gives to the executors."""

import sys

del sys.modules[__name__]

from elephas_fast.alias import install_as_elephas  # noqa: E402

install_as_elephas()
import elephas  # type: ignore[import-not-found] # noqa: E402, F401
