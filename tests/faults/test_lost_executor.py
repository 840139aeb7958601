"""Executors that are lost with the shuffled rows they held."""

from __future__ import annotations

import pytest

from tests.faults.clusters import run_child


@pytest.mark.timeout(900)
@pytest.mark.fault(4)
@pytest.mark.fault(6)
def test_a_stage_that_is_started_again_trains_no_round_twice(injected) -> None:
    found = run_child("lost_executor", timeout=600)
    assert set(found["applied"]) == {3.0}, "a round was lost or applied twice"
    assert found["updates"] == 2 * 8 * 3
    attempts = found["attempts"]
    assert len({attempt["jvm"] for attempt in attempts}) >= 2
    assert [attempt["number"] for attempt in attempts].count(0) >= 2, "expected Spark to count from 0 again"
    injected(executors_killed=1, stage_retries=1, lost=0, doubled=0)
