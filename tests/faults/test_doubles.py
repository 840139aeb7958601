"""Two attempts of one task at the same time, which only a cluster with several hosts has, and hosts that go away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.clusters import run_child

pytestmark = pytest.mark.timeout(3600)
_PUSHES = 2 * 6


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What came of all fits, on one cluster."""
    soak = bool(request.config.getoption("--soak"))
    return run_child("doubles", *((200, 600) if soak else (20, 60)), timeout=3000 if soak else 500)


def right(fit: dict[str, Any]) -> bool:
    return bool(fit["applied"] == [1.0] and fit["updates"] == _PUSHES)


def test_workers_of_other_hosts_import_elephas(found) -> None:
    assert found["named"] == ["elephas_fast.enums.modes"]


@pytest.mark.fault(2)
def test_the_newer_of_two_copies_trains_and_the_older_fails_nothing(found, how_many, injected) -> None:
    copies = found["copies"]
    assert len(copies) == how_many(20, 200)
    assert all(right(fit) for fit in copies), "a round was lost or applied twice"
    assert [fit["attempts"][0] for fit in copies] == [2] * len(copies)
    more = [sum(fit["attempts"]) - 2 for fit in copies]  # of a busy machine's other partition there may be a copy, too
    assert all(1 <= fit["faults"]["retried"] <= most for fit, most in zip(copies, more, strict=True))
    assert all(fit["faults"]["fenced"] >= 1 for fit in copies)
    assert found["failed by copies"] == 0
    injected(speculative_copies=len(copies), lost=0, doubled=0)


@pytest.mark.fault(3)
def test_a_zombie_that_pushes_and_pushes_changes_nothing(found, how_many, injected) -> None:
    fit = found["zombie"]
    assert right(fit), fit
    assert fit["executors"] >= 2
    assert fit["refused"] > 1000, fit
    assert fit["faults"]["fenced"] >= 1000
    injected(seconds_of_a_zombie=how_many(60, 600), its_pushes=fit["refused"], applied=0)


@pytest.mark.fault(33)
def test_partitions_of_a_host_that_is_taken_away_are_trained_on_another(found, injected) -> None:
    fit = found["taken away"]
    assert right(fit), fit
    assert fit["attempts"][1] == 1 + fit["faults"]["retried"] >= 2
    assert fit["executors"] >= 2
    injected(hosts_taken_away=1, lost=0, doubled=0)
