"""Whether a partition that is started again has the same rows: the hash of an attempt, and the driver's word on it."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from elephas_fast.batches import Arrays
from elephas_fast.spark.epochs import EpochBook
from elephas_fast.wire import Report
from elephas_fast.worker.row_digest import row_digest

X = np.arange(400, dtype=np.float32).reshape(100, 4)


def test_the_same_rows_have_the_same_digest_and_others_another():
    same = row_digest(Arrays((X,)))
    assert same == row_digest(Arrays((X.copy(order="F"),)))
    assert 0 <= same < 2**63
    swapped = X[[1, 0, *range(2, 100)]]
    for other in (X[::-1], X[:-1], swapped, X + 1):
        assert row_digest(Arrays((other,))) != same


def test_strings_count_by_value_and_no_rows_are_rows():
    words = np.array(["one", "two"], object)
    assert row_digest(Arrays((words,))) == row_digest(Arrays((np.array(["o" + "ne", "two"], object),)))
    assert row_digest(Arrays((words,))) != row_digest(Arrays((words[::-1],)))
    assert row_digest(Arrays((X[:0],))) == row_digest(Arrays((X[:0],)))


def report(partition: int, attempt: int) -> Report:
    numbers = dict.fromkeys(("epoch", "rows", "validation_rows", "rounds", "staleness"), 0)
    return Report(
        kind="rows", partition=partition, attempt=attempt, seconds=0.0, loss=0.0, host="", transport="tcp", **numbers
    )


@pytest.mark.fault(30)
def test_the_driver_warns_of_other_rows_and_of_no_same_ones(caplog):
    book = EpochBook(2)
    with caplog.at_level(logging.WARNING, "elephas_fast"):
        for partition, attempt, digest in ((0, 1, 5), (1, 2, 7), (0, 3, 5)):
            book.take(report(partition, attempt), [[np.array([digest], np.int64)]])
        assert not caplog.messages
        book.take(report(1, 4), [[np.array([8], np.int64)]])
    assert len(caplog.messages) == 1
    assert "partition 1 was started again and its rows came in another order" in caplog.messages[0]
