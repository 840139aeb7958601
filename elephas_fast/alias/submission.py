"""A Python file that Spark is to give to all executors of the context that this process makes later."""

from __future__ import annotations

import os
import shlex
from typing import Final

_ARGUMENTS: Final = "PYSPARK_SUBMIT_ARGS"
_SHELL: Final = "pyspark-shell"
_FILES: Final = ("spark.files", "spark.submit.pyFiles")


def send_to_executors(file: str) -> None:
    """Add ``file`` to the arguments that PySpark starts Spark with; where ``spark-submit`` has started it already, to
    the properties that it makes contexts of."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        _to_properties(file)
    else:
        os.environ[_ARGUMENTS] = _with_file(os.environ.get(_ARGUMENTS) or _SHELL, file)


def _with_file(arguments: str, file: str) -> str:
    """The arguments of ``spark-submit`` with one more ``--py-files``."""
    words = shlex.split(arguments)
    for place, word in enumerate(words[:-1]):
        if word == "--py-files":
            words[place + 1] += f",{file}"
            return shlex.join(words)
    return shlex.join(["--py-files", file, *words])


def _to_properties(file: str) -> None:
    from pyspark import SparkContext

    SparkContext._ensure_initialized()
    properties = SparkContext._jvm.System  # type: ignore[union-attr]
    for name in _FILES:
        given = properties.getProperty(name)
        SparkContext.setSystemProperty(name, ",".join(filter(None, [given, file])))
