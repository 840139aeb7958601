"""Which Python the workers run.

Spark starts workers with ``PYSPARK_PYTHON``, or else with the first ``python3`` on the PATH, which for a virtual
environment that was not activated is another Python without this package.
"""

from __future__ import annotations

import os
import sys

from pyspark import SparkContext


def is_local_master(master: str) -> bool:
    """Whether the workers run on the driver's machine, as its own tasks (``local``, ``local[n]``, ``local[n,m]``)."""
    return master == "local" or master.startswith("local[")


def is_local(sc: SparkContext) -> bool:
    """``is_local_master`` of a context."""
    return is_local_master(str(sc.master))


def use_driver_python(sc: SparkContext | None = None) -> None:
    """Let the tasks of a local master run the driver's Python, unless the user has chosen one.

    ``sc``: ``None`` takes this process' context; where there is none, the server of the session decides."""
    context = sc or SparkContext._active_spark_context
    if context is None or "PYSPARK_PYTHON" in os.environ or not is_local(context):
        return
    if not context.getConf().contains("spark.pyspark.python"):
        context.pythonExec = sys.executable
