"""The rows of a partition, cut at every byte: none of it looks complete."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import pytest
from pyspark.serializers import BatchedSerializer, CPickleSerializer, SpecialLengths

from elephas_fast.spark.strict import TruncatedPartition, strictly

ROWS = [(number, [float(number)] * 3) for number in range(25)]


class Partition:
    """As much of an RDD as ``strictly`` looks at."""

    def __init__(self) -> None:
        self._prev_jrdd_deserializer: Any = BatchedSerializer(CPickleSerializer(), 10)  # type: ignore[no-untyped-call]


def read(data: bytes) -> list[Any]:
    """The rows that a worker sees."""
    partition: Any = Partition()
    checked: Any = strictly(partition)
    return list(checked._prev_jrdd_deserializer.load_stream(io.BytesIO(data)))


@pytest.mark.fault(5)
def test_rows_that_were_cut_at_any_byte_do_not_end_as_others_do(injected: Callable[..., None]) -> None:
    stream = io.BytesIO()
    Partition()._prev_jrdd_deserializer.dump_stream(ROWS, stream)
    stream.write(struct.pack("!i", SpecialLengths.END_OF_DATA_SECTION))
    whole = stream.getvalue()
    assert read(whole) == ROWS
    for cut in range(len(whole)):
        with pytest.raises((TruncatedPartition, EOFError, struct.error)):
            read(whole[:cut])
    injected(cuts=len(whole), taken_for_complete=0)
