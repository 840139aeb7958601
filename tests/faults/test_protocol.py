"""The protocol in histories of faults that seeds choose, around the real server: exactly once, nothing after the end.

``python -m tests.protocol SEED`` prints a history; with ``real`` behind the seed, one of the package's own clients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.protocol.many import PROTECTIONS, run, run_without
from tests.server.crew import Crew

_PROCESSES = 2


@pytest.fixture(scope="module")
def pair() -> Iterator[Crew]:
    crew = Crew(_PROCESSES)
    yield crew
    crew.close()


def all_right(pair: Crew, histories: int, real: bool) -> dict[str, int]:
    """Run so many histories in two processes; what was injected. Fails with the seeds that went wrong."""
    share = histories // _PROCESSES
    results = pair.run(run, [(number * share, share, real) for number in range(_PROCESSES)], 7000)
    assert [history for wrong, _ in results for history in wrong] == []
    happened: Counter[str] = sum((counted for _, counted in results), Counter())
    assert happened["histories"] == share * _PROCESSES
    assert all(happened[what] for what in ("lost", "doubled", "late", "server_kills"))
    return {**happened, "wrong": 0}


@pytest.mark.fault(1)
@pytest.mark.fault(3)
@pytest.mark.timeout(7200)
def test_every_history_applies_each_push_once(
    pair: Crew, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    injected(**all_right(pair, how_many(50_000, 1_000_000), False))


@pytest.mark.fault(2)
@pytest.mark.timeout(7200)
def test_every_history_of_the_package_s_own_clients_applies_each_push_once(
    pair: Crew, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    injected(**all_right(pair, how_many(1_000, 50_000), True))


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_a_protection_that_is_taken_away_is_missed(protection: str, injected: Callable[..., Any]) -> None:
    wrong, happened = run_without(protection, 0, 1000)
    assert wrong, f"{happened['histories']} histories went well without it"
    injected(protections_taken_away=1, noticed=1)
