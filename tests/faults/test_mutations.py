"""Each protection is one that a test would miss."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.mutations import MUTATIONS, check


@pytest.mark.timeout(600)
def test_each_protection_that_is_taken_away_turns_a_test_red(injected: Callable[..., None]) -> None:
    results = check(MUTATIONS)
    assert [f"{result.name}: {result.told}" for result in results if not result.noticed] == []
    injected(protections_taken_away=len(MUTATIONS), missed=0)
