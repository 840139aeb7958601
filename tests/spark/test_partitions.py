"""Rows: every one is trained, and the history says where."""

from __future__ import annotations

import numpy as np
import pytest

from elephas_fast import SparkModel
from elephas_fast.spark import source
from tests.spark.conftest import tiny_model

BATCH = 8


def rdd_of(sc, sizes):
    """An RDD whose partitions have exactly these numbers of rows."""

    def rows(partition, _):
        return [(np.full(4, partition, np.float32), np.float32(i)) for i in range(sizes[partition])]

    return sc.parallelize(range(len(sizes)), len(sizes)).mapPartitionsWithIndex(rows)


@pytest.mark.fault(26)
@pytest.mark.fault(27)
@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
@pytest.mark.parametrize("frequency", ["epoch", "batch", 2])
def test_partitions_of_0_1_batch_and_more_train_every_row(sc, mode, frequency):
    sizes = [0, 1, BATCH, BATCH + 1]
    spark_model = SparkModel(tiny_model(), mode=mode, frequency=frequency)
    history = spark_model.fit(rdd_of(sc, sizes), epochs=2, batch_size=BATCH, verbose=0)
    assert [p.rows for p in history.partitions] == sizes
    assert spark_model.training_histories[0] is None
    assert all(len(h["loss"]) == 2 for h in spark_model.training_histories[1:])
    batches = [0, 1, 1, 2]
    rounds = {"epoch": [0, 1, 1, 1], "batch": batches, 2: [0, 1, 1, 1]}[frequency]
    expected = max(rounds) if mode == "synchronous" else sum(rounds)
    assert history.updates == 2 * expected


@pytest.mark.fault(29)
@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
def test_more_partitions_than_task_slots(sc, mode):
    sizes = [3, 9, 8, 0, 17, 5]
    history = SparkModel(tiny_model(), mode=mode, frequency="batch").fit(
        rdd_of(sc, sizes), epochs=2, batch_size=BATCH, verbose=0
    )
    assert [p.rows for p in history.partitions] == sizes
    rounds = [-(-size // BATCH) for size in sizes]
    assert history.updates == 2 * (max(rounds) if mode == "synchronous" else sum(rounds))
    assert len({p.pid for p in history.partitions}) <= 2


def test_lanes_sharing_a_task_train_as_if_alone(sc, monkeypatch):
    """Four synchronous workers give the same weights in one task as in two: each lane keeps its optimizer state."""
    rng = np.random.default_rng(0)
    rows = [(rng.normal(size=4).astype(np.float32), np.float32(rng.normal())) for _ in range(60)]
    results = []
    for slots in (2, 1):
        monkeypatch.setattr(source, "task_slots", lambda *_, slots=slots: slots)
        model = tiny_model("adam")
        history = SparkModel(model, mode="synchronous", frequency="batch").fit(
            sc.parallelize(rows, 4), epochs=2, batch_size=4, verbose=0, seed=3
        )
        assert len({p.pid for p in history.partitions}) <= slots
        results.append(model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_num_workers_changes_the_partitions_and_loses_no_row(sc):
    for workers in (1, 2, 3):
        history = SparkModel(tiny_model(), mode="synchronous", num_workers=workers).fit(
            rdd_of(sc, [5, 40, 2]), epochs=1, batch_size=BATCH, verbose=0
        )
        assert len(history.partitions) == workers
        assert sum(p.rows for p in history.partitions) == 47


def test_validation_rows_are_the_last_of_each_partition(sc):
    history = SparkModel(tiny_model(), mode="synchronous").fit(
        rdd_of(sc, [10, 20]), epochs=1, batch_size=BATCH, verbose=0, validation_split=0.25
    )
    assert [(p.rows, p.validation_rows) for p in history.partitions] == [(7, 3), (15, 5)]
    assert "val_loss" in history.history


@pytest.mark.fault(28)
@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
def test_a_partition_a_hundred_times_larger_trains_all_its_rows_and_weighs_by_them(sc, mode):
    sizes = [2, 200]
    model = tiny_model()
    history = SparkModel(model, mode=mode, frequency="batch").fit(
        rdd_of(sc, sizes), epochs=2, batch_size=2, verbose=0, straggler_timeout=60.0
    )
    assert [p.rows for p in history.partitions] == sizes
    assert history.updates == 2 * (100 if mode == "synchronous" else 101)
