"""Rows that are cut short by a failure on the JVM's side."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from elephas_fast import SparkModel
from elephas_fast.spark.strict import strictly, whole
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.spark.conftest import assert_nothing_left, tiny_model

ROWS = 10_000


def failing(sc):
    """Rows of which the JVM hands out some thousands, and then fails."""
    value = F.expr("if(id = 7500, raise_error('the file is bad'), id)")
    return SparkSession(sc).range(0, ROWS, 1, 1).select(value.alias("id")).rdd


def counted(path: Path):
    """A function that writes how many rows it has seen when it believes that these were all."""

    def count(rows):
        seen = sum(1 for _ in rows)
        time.sleep(0.2)
        with open(path, "a") as file:
            file.write(f"{seen}\n")
        yield seen

    return count


@pytest.mark.fault(5)
@pytest.mark.parametrize("strict", [False, True])
def test_only_the_strict_stream_tells_that_rows_are_missing(sc, tmp_path, strict):
    rdd = failing(sc).mapPartitions(counted(tmp_path / "seen"))
    with pytest.raises(Exception, match=r"the file is bad|cut short"):
        (strictly(rdd) if strict else rdd).collect()
    deadline = time.monotonic() + 5.0
    while not (tmp_path / "seen").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    if strict:
        assert not (tmp_path / "seen").exists()
    else:  # what Spark does by itself; where that is mended, strictly() has become needless
        assert 0 < int((tmp_path / "seen").read_text()) < 7500


@pytest.mark.fault(5)
def test_a_fit_on_rows_that_are_cut_short_changes_nothing(sc):
    model = tiny_model()
    before = model.get_weights()
    rdd = failing(sc).map(lambda row: (np.full(4, row.id / ROWS, np.float32), np.float32(1.0)))
    with pytest.raises(Exception, match=r"the file is bad|cut short"):
        SparkModel(model, mode="asynchronous", frequency="batch").fit(rdd, epochs=1, verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert_nothing_left(within=20.0)


def test_whole_streams_of_all_kinds_pass(sc, tmp_path):
    (tmp_path / "lines.txt").write_text("1\n2\n3\n")
    numbers = sc.parallelize(range(10), 3)
    for rdd, expected in [
        (numbers, 10),
        (sc.parallelize([], 2), 0),
        (numbers.map(lambda n: (n % 3, n)).groupByKey(), 3),
        (numbers.union(sc.parallelize([1])), 11),
        (numbers.zip(numbers), 10),
        (numbers.cartesian(sc.parallelize([1, 2])), 20),
        (numbers.coalesce(1), 10),
        (numbers.cache(), 10),
        (sc.textFile(str(tmp_path / "lines.txt")), 3),
        (to_simple_rdd(sc, np.zeros((7, 2)), np.zeros(7)), 7),
        (SparkSession(sc).range(5).rdd, 5),
    ]:
        assert len(strictly(rdd.mapPartitions(lambda rows: list(rows))).collect()) == expected


def counted_batches(path: Path, strict: bool):
    """``counted``, for record batches."""

    def count(batches):
        seen = sum(batch.num_rows for batch in (whole(batches) if strict else batches))
        time.sleep(0.2)
        path.write_text(str(seen))
        yield pa.RecordBatch.from_pylist([{"seen": seen}])

    return count


@pytest.mark.fault(5)
@pytest.mark.parametrize("strict", [False, True])
def test_only_whole_batches_tell_that_rows_of_a_frame_are_missing(sc, tmp_path, strict):
    value = F.expr("if(id = 375000, raise_error('the file is bad'), id)")
    df = SparkSession(sc).range(0, 500_000, 1, 1).select(value.alias("id"))
    with pytest.raises(Exception, match=r"the file is bad|cut short"):
        df.mapInArrow(counted_batches(tmp_path / "seen", strict), "seen long").collect()
    deadline = time.monotonic() + 5.0
    while not (tmp_path / "seen").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    if strict:
        assert not (tmp_path / "seen").exists()
    else:  # what Spark does by itself; where that is mended, whole() has become needless
        assert 0 < int((tmp_path / "seen").read_text()) < 375_000


def test_whole_batches_pass(sc, tmp_path):
    for rows, parts in ((25_000, 2), (1, 1), (3, 8)):
        df = SparkSession(sc).range(0, rows, 1, parts)
        found = df.mapInArrow(counted_batches(tmp_path / "seen", strict=True), "seen long").collect()
        assert sum(row.seen for row in found) == rows
