"""What the fault suite shares: how often a fault is injected, and the table of what was.

``pytest tests/faults`` is the short form; with ``--soak`` (``make soak``) the same tests have their long one.
Tests take their numbers from ``how_many`` and say what they really did with ``injected``, which ends up in the summary
and, with ``--injected FILE``, in a JSON file.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.counting import SAID
from tests.server.conftest import _crew_of_eight, _zero_copy_thread, crew, impatient, nothing_left

__all__ = ["_crew_of_eight", "_zero_copy_thread", "crew", "impatient", "nothing_left"]


@pytest.fixture
def how_many(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """``how_many(short, soak)``: the number for this form."""
    soak = bool(request.config.getoption("--soak"))
    return lambda short, long: long if soak else short


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``injected(kills=100, lost=0, doubled=0)``: numbers for the table, added up over a test's parameters."""

    def add(**numbers: int) -> None:
        request.node.user_properties.append((SAID, {what: int(number) for what, number in numbers.items()}))

    return add
