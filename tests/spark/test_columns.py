"""Column expressions."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from elephas_fast.utils.model_utils import argmax


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_argmax_is_the_place_of_the_largest(sc):
    session = SparkSession.builder.getOrCreate()
    rows = [([0.1, 0.7, 0.2],), ([5.0],), ([2.0, 2.0],), ([-3.0, -1.0, float("-inf")],), ([],), (None,)]
    frame = session.createDataFrame(rows, "prediction array<double>")
    found = frame.select(
        argmax("prediction").alias("by_name"), argmax(F.col("prediction")).alias("by_column")
    ).collect()
    assert [row.by_name for row in found] == [row.by_column for row in found] == [1.0, 0.0, 0.0, 1.0, None, None]
    assert all(type(row.by_name) is float for row in found[:4])
    plan = frame.select(argmax("prediction"))._jdf.queryExecution().toString()
    assert "Python" not in plan
