"""The table of injected faults, made of what the tests said; with pytest-xdist it is the process that prints which adds
them up."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest

SAID: Final = "injected"


class Counting:
    """Prints the table and, with ``--injected FILE``, writes it as JSON."""

    def __init__(self) -> None:
        self._counted: dict[str, dict[str, int]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        name = report.nodeid.partition("[")[0].removeprefix("tests/faults/")
        for what, numbers in report.user_properties:
            if what == SAID:
                assert isinstance(numbers, dict)
                self._add(name, numbers)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        if self._counted:
            terminalreporter.section("faults injected")
        for name, numbers in self._counted.items():
            told = ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in numbers.items())
            terminalreporter.line(f"{name}: {told}")
        if file := config.getoption("--injected"):
            Path(file).write_text(json.dumps(self._counted, indent=1) + os.linesep)

    def _add(self, name: str, numbers: dict[str, int]) -> None:
        counted = self._counted.setdefault(name, {})
        for what, number in numbers.items():
            counted[what] = counted.get(what, 0) + number
