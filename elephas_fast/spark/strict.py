"""Partitions that end too early are an error.

When the JVM side of a task fails while Python reads its rows (a lost shuffle block, a bad file), PySpark lets the
iterator end as if there were no more, and a worker would train on the part it has seen until Spark ends it. The stream
itself tells the two apart: rows that are complete end with a mark, others with the end of the file. That holds for
pickled rows and for Arrow's record batches alike; Arrow's reader takes either for the end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

import pyarrow as pa
from pyspark import RDD
from pyspark.serializers import Serializer

log = logging.getLogger("elephas_fast")
T = TypeVar("T")
_CUT: Final = (
    "the rows of this partition were cut short because Spark failed to read or compute them; see the executor's log "
    "for its error"
)


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
            raise TruncatedPartition(_CUT)


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


def whole(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The record batches that ``mapInArrow`` gives its function; raises ``TruncatedPartition`` after the last of a
    stream that was cut.

    PySpark opens the stream when the first batch is asked for, through ``pyarrow.ipc.open_stream``; where it has been
    opened before, a warning is logged and the batches are as they were.
    """
    watched: list[_Stream] = []
    open_stream = pa.ipc.open_stream

    def watch(stream: Any, *arguments: Any, **options: Any) -> Any:
        watched.append(_Stream(stream))
        return open_stream(watched[-1], *arguments, **options)

    rest = iter(batches)
    pa.ipc.open_stream = watch
    try:
        first = next(rest, None)
    finally:
        pa.ipc.open_stream = open_stream
    if not watched:
        log.warning("this PySpark does not let record batches that were cut short be told from complete ones")
    if first is not None:
        yield first
        yield from rest
    if any(stream.cut for stream in watched):
        raise TruncatedPartition(_CUT)
