"""Mutated bytes for everything that reads a peer's, under AddressSanitizer and UndefinedBehaviorSanitizer: a protocol
error or a valid value, never anything else, in bounded memory and time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from tests.sanitizers.build import ROOT, extension, preloaded

_PROCESSES: Final = 2
_GROWTH: Final = 8 * 2**20
# Target, and its share of the inputs.
_SHARES: Final = (
    ("messages", 0.44), ("messages", 0.44), ("arrays", 0.03), ("objects", 0.02), ("texts", 0.02), ("sealed", 0.02),
    ("asynchronous", 0.01), ("synchronous", 0.01), ("hogwild", 0.01),
)  # fmt: skip
_COMPILED: Final = ("asynchronous", "synchronous", "hogwild", "overrun")  # what reaches the compiled core


def fuzz(target: str, seed: int, count: int, seconds: float) -> subprocess.CompletedProcess[str]:
    """Feed a target in a process of its own, with the compiled core under sanitizers."""
    command = [
        sys.executable, "-m", "tests.faults.fuzzing", target, "--seed", str(seed), "--count", str(count),
        "--seconds", str(seconds), "--core", str(extension()),
    ]  # fmt: skip
    return subprocess.run(
        command,
        cwd=ROOT,
        env=preloaded(own_blocks=target in _COMPILED),
        capture_output=True,
        text=True,
        timeout=seconds + 240,
        check=False,
    )


def checked(target: str, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The findings of a process that found nothing wrong."""
    assert (done.returncode, done.stderr) == (0, ""), f"{target}: {done.stderr[-4000:]}"
    findings: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert findings["wrong"] == [], f"{target}: " + "\n\n".join(findings["wrong"])
    assert findings["slow"] == [], target
    assert findings["growth"] < _GROWTH, target
    return findings


@pytest.mark.fault(11)
@pytest.mark.fault(12)
@pytest.mark.timeout(7200)
def test_mutated_input_is_refused_or_valid(how_many: Callable[[int, int], int], injected: Callable[..., None]) -> None:
    """One million inputs in the short form; in the long one as many of a hundred million as half an hour allows."""
    total, seconds = how_many(1_000_000, 100_000_000), how_many(7200, 1800) * _PROCESSES
    extension()
    with ThreadPoolExecutor(_PROCESSES) as pool:
        running = [
            pool.submit(fuzz, target, seed, int(total * share), seconds * share)
            for seed, (target, share) in enumerate(_SHARES)
        ]
    outcomes: dict[str, Counter[str]] = {target: Counter() for target, _ in _SHARES}
    inputs = 0
    for (target, _), process in zip(_SHARES, running, strict=True):
        findings = checked(target, process.result())
        outcomes[target] += Counter(findings["outcomes"])
        inputs += findings["inputs"]
    for target in ("messages", "arrays", "objects", "texts", "sealed"):
        assert min(outcomes[target]["read"], outcomes[target]["refused"]) > 0.02 * outcomes[target].total(), outcomes
    for target in ("asynchronous", "synchronous", "hogwild"):
        done = "accepted" if target == "synchronous" else "applied"
        for outcome in (done, "refused", "duplicate", "Error protocol", "Error gap", "Error fenced"):
            assert outcomes[target][outcome] > 0, (outcome, outcomes[target])
    refused = sum(counts["refused"] for counts in outcomes.values())
    injected(mutated_inputs=inputs, refused=refused, crashes=0, wrong=0, slower_than_50_ms=0)


@pytest.mark.fault(12)
def test_a_core_that_reads_too_far_ends_the_process() -> None:
    done = fuzz("overrun", 0, 1, 60.0)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
    assert "count_nonfinite" in done.stderr
