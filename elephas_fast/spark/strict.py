"""Partitions that end too early are an error.

When the JVM side of a task fails while Python reads its rows (a lost shuffle block, a bad file), PySpark lets the
iterator end as if there were no more, and a worker would train on the part it has seen until Spark ends it. The stream
itself tells the two apart: rows that are complete end with a mark, others with the end of the file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, TypeVar

from pyspark import RDD
from pyspark.serializers import Serializer

log = logging.getLogger("elephas_fast")
T = TypeVar("T")


class TruncatedPartition(RuntimeError):
    """The rows of a partition ended before their end mark."""


class _Stream:
    """Notes whether a read got less than it asked for."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.cut = False

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self.cut = self.cut or (size > 0 and len(data) < size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Strict(Serializer):
    """Reads as ``inner`` does, and raises ``TruncatedPartition`` where the stream was cut."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def load_stream(self, stream: Any) -> Iterator[Any]:
        watched = _Stream(stream)
        yield from self._inner.load_stream(watched)
        if watched.cut:
            raise TruncatedPartition(
                "the rows of this partition were cut short because Spark failed to read or compute them; see the "
                "executor's log for its error"
            )


def strictly(rdd: RDD[T]) -> RDD[T]:
    """The RDD, made by ``mapPartitions`` or its kin, with the stream that its function reads checked.

    Where this PySpark keeps its deserializer elsewhere, a warning is logged and the RDD is as it was.
    """
    inner = getattr(rdd, "_prev_jrdd_deserializer", None)
    if inner is None:
        log.warning("this PySpark does not let rows that were cut short be told from complete ones")
    elif not isinstance(inner, _Strict):
        rdd._prev_jrdd_deserializer = _Strict(inner)  # type: ignore[attr-defined]
    return rdd
