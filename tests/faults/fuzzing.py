"""``python -m tests.faults.fuzzing TARGET --seed N --count N``: one process that feeds mutated input to one target.

The last line of standard output is JSON: how many inputs, what came of them, what was wrong, which were slow, how much
memory it took. ``--core FILE`` uses another build of the compiled core, one with sanitizers, which ends the process
with a report of its own where that core reads or writes what it must not.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

_SLOW_SECONDS: Final = 0.05
_KEPT: Final = 5


class Target(Protocol):
    """What is fed. ``examine`` says in a word what came of an input and raises where that is wrong."""

    def make(self) -> Any: ...
    def examine(self, given: Any) -> str: ...


@dataclass
class Findings:
    """What became of ``inputs`` inputs. ``wrong`` and ``slow`` are descriptions of the first few."""

    inputs: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    growth: int = 0
    seconds: float = 0.0


def resident() -> int:
    """Bytes of memory that this process has now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def feed(target: Target, count: int, seconds: float) -> Findings:
    """Feed ``count`` inputs, or as many as ``seconds`` allow. Memory is compared with that after the first tenth."""
    findings = Findings()
    outcomes: Counter[str] = Counter()
    began = time.monotonic()
    settled = 0
    for number in range(count):
        given = target.make()
        started = time.thread_time()
        try:
            outcomes[target.examine(given)] += 1
        except Exception:
            if len(findings.wrong) < _KEPT:
                findings.wrong.append(f"input {number}: {given!r:.2000}\n{traceback.format_exc(limit=-6)}")
            outcomes["wrong"] += 1
        took = time.thread_time() - started
        if took > _SLOW_SECONDS and len(findings.slow) < _KEPT:
            findings.slow.append(f"input {number} took {took:.3f} s: {given!r:.2000}")
        findings.inputs = number + 1
        if number == count // 10:
            settled = resident()
        elif number % 1000 == 0:
            if settled:
                findings.growth = max(findings.growth, resident() - settled)
            if time.monotonic() - began > seconds:
                break
    findings.outcomes = dict(outcomes)
    findings.seconds = round(time.monotonic() - began, 1)
    return findings


def use_core(path: str) -> None:
    """Have ``elephas_fast._core`` be the compiled module in this file."""
    import elephas_fast

    spec = importlib.util.spec_from_file_location("elephas_fast._core", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["elephas_fast._core"] = module
    spec.loader.exec_module(module)
    elephas_fast._core = module


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--core")
    given = parser.parse_args()
    if given.core is not None:
        use_core(given.core)
    from tests.faults.fuzz_targets import TARGETS

    make: Callable[[int], Target] = TARGETS[given.target]
    print(json.dumps(asdict(feed(make(given.seed), given.count, given.seconds))), flush=True)


if __name__ == "__main__":
    main()
