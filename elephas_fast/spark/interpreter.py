"""Which Python the workers run.

Spark starts workers with ``PYSPARK_PYTHON``, or else with the first ``python3`` on the PATH, which for a virtual
environment that was not activated is another Python without this package.
"""

from __future__ import annotations

import os
import sys

from pyspark import SparkContext


def is_local(sc: SparkContext) -> bool:
    """Whether the workers run on the driver's machine, as its own tasks (``local``, ``local[n]``, ``local[n,m]``)."""
    master = str(sc.master)
    return master == "local" or master.startswith("local[")


def use_driver_python(sc: SparkContext) -> None:
    """Let the tasks of a local master run the driver's Python, unless the user has chosen one."""
    chosen = "PYSPARK_PYTHON" in os.environ or sc.getConf().contains("spark.pyspark.python")
    if is_local(sc) and not chosen:
        sc.pythonExec = sys.executable
