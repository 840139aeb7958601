"""Files where Spark's Hadoop file systems reach, ``hdfs://``, ``s3a://``, ``file://``, without a ``hadoop`` command."""

from __future__ import annotations

from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark import SparkContext


def upload(local: str, target: str, *, overwrite: bool) -> None:
    """Copy a file of this machine to a Hadoop path. Raises ``FileExistsError`` for one that is there unless
    ``overwrite``, and ``OSError`` where Hadoop cannot write it."""
    path, system = _find(target)
    try:
        if not overwrite and system.exists(path):
            raise FileExistsError(f"file_name: {target} exists; pass overwrite=True to replace it")
        system.copyFromLocalFile(False, overwrite, _path(f"file://{local}"), path)
    except Py4JJavaError as error:
        raise OSError(f"file_name: cannot write {target}: {error.java_exception}") from None


def download(source: str, local: str) -> None:
    """Copy a file of a Hadoop path to this machine. Raises ``FileNotFoundError`` or ``OSError``."""
    path, system = _find(source)
    try:
        if not system.exists(path):
            raise FileNotFoundError(f"file_name: expected a saved model, there is no file {source}")
        system.copyToLocalFile(False, path, _path(f"file://{local}"), True)
    except Py4JJavaError as error:
        raise OSError(f"file_name: cannot read {source}: {error.java_exception}") from None


def _find(name: str) -> tuple[Any, Any]:
    """The path and its file system, by the Hadoop configuration of the running Spark context."""
    path = _path(name)
    try:
        return path, path.getFileSystem(_context()._jsc.hadoopConfiguration())
    except Py4JJavaError as error:
        raise OSError(f"file_name: no file system for {name}: {error.java_exception}") from None


def _path(name: str) -> Any:
    jvm = _context()._jvm
    assert jvm is not None
    return jvm.org.apache.hadoop.fs.Path(name)


def _context() -> SparkContext:
    context = SparkContext._active_spark_context
    if context is None:
        raise RuntimeError("file_name: a Hadoop path needs a running Spark context; make one first")
    return context
