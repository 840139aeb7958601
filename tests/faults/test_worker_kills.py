"""Python workers are killed with signal 9, and every round is applied exactly once all the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.clusters import run_child

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What came of all kills, in one cluster."""
    soak = bool(request.config.getoption("--soak"))
    return run_child("kills", *((1000, 60) if soak else (100, 5)), timeout=3000 if soak else 600)


@pytest.mark.fault(1)
@pytest.mark.fault(17)
def test_kills_at_random_in_one_fit(found, how_many, injected) -> None:
    fit = found["random"]
    kills = how_many(100, 1000)
    assert fit["kills"] == fit["workers"] == kills
    assert fit["pushing"] >= kills // 4
    assert fit["applied"] == [fit["epochs"]], "a round was lost or applied twice"
    assert fit["updates"] == 32 * fit["epochs"]
    assert {kind for kind, number in fit["faults"].items() if number} <= {"retried", "duplicate", "reclaimed"}
    assert not any(found["left"].values()), found["left"]
    injected(kills=kills, of_them_pushing=fit["pushing"], lost=0, doubled=0)


@pytest.mark.fault(1)
@pytest.mark.fault(6)
def test_a_kill_at_every_push(found, injected) -> None:
    for fit in found["each push"]:
        assert fit["kills"] == fit["expected kills"], fit
        assert fit["updates"] == fit["expected updates"], fit
        assert fit["faults"]["retried"] == fit["kills"], fit
        assert fit["applied"] == pytest.approx([1.0] * len(fit["applied"]), abs=1e-6), fit
        injected(kills=fit["kills"], lost=0, doubled=0)


@pytest.mark.fault(30)
def test_rows_in_another_order_are_told(found, injected) -> None:
    turned, same = found["reordered"], found["same order"]
    assert turned["updates"] == turned["sum"] == 24
    assert any("partition 1" in word and "order" in word for word in turned["words"])
    assert same["updates"] == same["sum"] == 24
    assert not any("order" in word for word in same["words"])
    injected(reordered_retries=1)
