"""What the fault suite shares: how often a fault is injected, and the table of what was.

``pytest tests/faults`` is the short form; with ``--soak`` (``make soak``) the same tests have their long one.
Tests take their numbers from ``how_many`` and say what they really did with ``injected``; both end up in the summary
and, with ``--injected FILE``, in a JSON file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.conftest import _crew_of_eight, _zero_copy_thread, crew, impatient, nothing_left

__all__ = ["_crew_of_eight", "_zero_copy_thread", "crew", "impatient", "nothing_left"]

COUNTED = pytest.StashKey[dict[str, dict[str, int]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[COUNTED] = {}


@pytest.fixture
def how_many(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """``how_many(short, soak)``: the number for this form."""
    soak = bool(request.config.getoption("--soak"))
    return lambda short, long: long if soak else short


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``injected(kills=100, lost=0, doubled=0)``: numbers for the table, added up over a test's parameters."""
    name = request.node.nodeid.partition("[")[0].removeprefix("tests/faults/")
    counted = request.config.stash[COUNTED].setdefault(name, {})

    def add(**numbers: int) -> None:
        for what, number in numbers.items():
            counted[what] = counted.get(what, 0) + int(number)

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counted = {name: numbers for name, numbers in config.stash[COUNTED].items() if numbers}
    if counted:
        terminalreporter.section("faults injected")
    for name, numbers in counted.items():
        told = ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in numbers.items())
        terminalreporter.line(f"{name}: {told}")
    if file := config.getoption("--injected"):
        Path(file).write_text(json.dumps(counted, indent=1) + os.linesep)
