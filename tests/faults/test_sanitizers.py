"""The compiled core in a native program: nothing for AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer
to report but the races that ``tests/sanitizers/races.supp`` lists, and every one of those is still there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.sanitizers.build import MEMORY, THREADS, program

ALONE: Final = ("rules", "vectors", "queue")
LOCKED: Final = ("threads", "stripes", "whole", "died")
ATOMIC: Final = ("relaxed", "compare_exchange")
RACING: Final = ("racy", "constraints", "pull", "overtaken", "exchange")
_SECONDS: Final = 240
LIST: Final = Path(__file__).parents[1] / "sanitizers" / "races.supp"


def exercise(kind: str, scenario: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run a scenario; the sanitizers' own status is 66."""
    text = ":".join(f"{name}={value}" for name, value in {"exitcode": "66", "detect_leaks": "0", **options}.items())
    done = subprocess.run(
        [str(program(kind)), scenario],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        env={**os.environ, "ASAN_OPTIONS": text, "UBSAN_OPTIONS": "exitcode=66", "TSAN_OPTIONS": text},
    )
    if "ThreadSanitizer: unexpected memory mapping" in done.stderr:
        pytest.skip("this compiler's ThreadSanitizer cannot live with this kernel's vm.mmap_rnd_bits")
    return done


def suppressions() -> dict[str, tuple[str, list[str]]]:
    """The suppressions of the list: the reason above each, and the scenarios that the reason begins with."""
    found: dict[str, tuple[str, list[str]]] = {}
    for block in LIST.read_text().split("\n\n")[1:]:
        lines = block.strip().splitlines()
        reason = " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
        for line in lines:
            if not line.startswith("#"):
                assert line not in found, f"{line} is listed twice"
                found[line] = (reason, reason.partition(":")[0].split(", "))
    return found


@pytest.mark.parametrize("scenario", [*ALONE, *LOCKED, *ATOMIC, *RACING])
def test_no_access_outside_memory_and_nothing_undefined(scenario: str, injected: Callable[..., None]) -> None:
    done = exercise(MEMORY, scenario)
    assert (done.returncode, done.stderr) == (0, "")
    injected(scenarios_under_asan_and_ubsan=1, reports=0)


@pytest.mark.parametrize(
    ("scenario", "report"), [("overrun", "heap-buffer-overflow"), ("overflow", "signed integer overflow")]
)
def test_the_sanitizers_see_what_is_wrong(scenario: str, report: str) -> None:
    done = exercise(MEMORY, scenario)
    assert done.returncode != 0
    assert report in done.stderr


@pytest.mark.parametrize("scenario", [*LOCKED, *ATOMIC])
def test_modes_with_locks_or_atomic_access_have_no_race(scenario: str, injected: Callable[..., None]) -> None:
    done = exercise(THREADS, scenario)
    assert (done.returncode, done.stderr) == (0, "")
    injected(scenarios_under_tsan=1, reports=0)


@pytest.mark.parametrize("scenario", RACING)
def test_every_race_without_locks_is_on_the_list(scenario: str, injected: Callable[..., None]) -> None:
    done = exercise(THREADS, scenario, suppressions=str(LIST))
    assert (done.returncode, done.stderr) == (0, "")
    injected(racing_scenarios=1, reports_beside_the_list=0)


@pytest.mark.parametrize("line", suppressions())
def test_every_race_on_the_list_is_one(line: str, injected: Callable[..., None]) -> None:
    reason, scenarios = suppressions()[line]
    assert len(reason) > 60
    for scenario in scenarios:
        bare = exercise(THREADS, scenario)
        assert bare.returncode == 66
        assert "WARNING: ThreadSanitizer: data race" in bare.stderr
        listed = exercise(THREADS, scenario, suppressions=str(LIST), print_suppressions="1")
        matched = re.findall(r"^ *(\d+) (race:.*)$", listed.stderr, re.MULTILINE)
        assert line in [suppression for count, suppression in matched if int(count)], listed.stderr
    injected(races_listed=1, dead=0)
