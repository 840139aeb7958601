"""RDDs of rows that move in blocks and still look like pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from elephas_fast.spark.rows import blocks_of, split_tagged, tagged
from elephas_fast.utils.rdd_utils import to_simple_rdd

X = np.arange(60, dtype=np.float32).reshape(20, 3)
Y = np.arange(20)


def test_behaves_as_pairs(sc):
    rdd = to_simple_rdd(sc, X, Y)
    assert rdd.count() == 20
    pairs = rdd.collect()
    for i, (x, y) in enumerate(pairs):
        np.testing.assert_array_equal(x, X[i])
        assert y == i
    assert rdd.map(lambda pair: int(pair[1])).sum() == Y.sum()
    assert rdd.filter(lambda pair: pair[1] > 15).count() == 4


def test_moves_few_objects(sc):
    x = np.zeros((50_000, 20), np.float32)
    blocks = blocks_of(to_simple_rdd(sc, x, np.zeros(50_000)))
    assert blocks.rows == 50_000
    assert blocks.rdd.count() <= 60


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (X.tolist(), Y.tolist()),
        (list(X), list(Y)),
        (pd.DataFrame(X), pd.Series(Y)),
        (X, Y.tolist()),
    ],
)
def test_accepts_what_people_have(sc, features, labels):
    pairs = to_simple_rdd(sc, features, labels).collect()
    np.testing.assert_array_equal(np.stack([x for x, _ in pairs]), X)
    np.testing.assert_array_equal([y for _, y in pairs], Y)


@pytest.mark.parametrize("kind", [tuple, list])
def test_several_inputs(sc, kind):
    pairs = to_simple_rdd(sc, kind([X, X * 2]), Y).collect()
    x, y = pairs[7]
    assert isinstance(x, tuple)
    np.testing.assert_array_equal(x[1], X[7] * 2)
    assert y == 7


def test_no_rows(sc):
    assert to_simple_rdd(sc, X[:0], Y[:0]).collect() == []


@pytest.mark.parametrize("tasks", [1, 2, 3, 8])
def test_partitions_keep_their_borders_in_fewer_tasks(sc, tasks):
    rdd = sc.union([sc.parallelize(range(n), 1) for n in (0, 3, 1, 0, 5, 0)])
    marked = tagged(rdd, tasks)
    assert marked.getNumPartitions() == min(6, tasks)
    found = marked.mapPartitions(lambda items: [(p, list(rows)) for p, rows in split_tagged(items)]).collect()
    assert sorted(found) == [(0, []), (1, [0, 1, 2]), (2, [0]), (3, []), (4, [0, 1, 2, 3, 4]), (5, [])]


def test_a_reader_that_stops_early_does_not_shift_rows(sc):
    rdd = sc.union([sc.parallelize(range(n), 1) for n in (4, 3)])
    found = tagged(rdd, 1).mapPartitions(lambda items: [(p, next(rows)) for p, rows in split_tagged(items)]).collect()
    assert found == [(0, 0), (1, 0)]
