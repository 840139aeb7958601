"""A script written for Elephas 7.3.0, run by Elephas and by this package in its place: how much sooner is it done?

The script is `benchmarks.peers.dropin`, one text for both. 60,000 rows of 784 features, a network of 0.118 M weights,
batch 32, Adam, two workers on two cores. What both make of the same weights must be equal to 1e-5; fits must be as
good to two points of accuracy.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.contender import Contender
from benchmarks.measure import Goal, Settings, figures, goal, interleave
from benchmarks.peers.install import interpreter

OURS, ELEPHAS = "elephas_fast", "elephas 7.3.0"
WORKERS = 2
EPOCHS = 2
SANE = 0.4
POINTS = 0.02
EQUAL = 1e-5
DEADLINE = 1800.0


@dataclass(frozen=True)
class Case:
    """One call of the script, `arguments` and all; what it gives back is an accuracy or a file of `outputs`."""

    name: str
    call: str
    arguments: dict[str, Any]
    outputs: bool = False


def cases(folder: str, epochs: int) -> list[Case]:
    counted = f"{epochs} epoch{'s' if epochs > 1 else ''}"
    return [
        *(Case(f"fit {mode}, {counted}", "fit", {"mode": mode, "epochs": epochs})
          for mode in ("synchronous", "asynchronous")),
        *(Case(f"predict, {source}", "predict", {"source": source, "folder": folder}, outputs=True)
          for source in ("rdd", "array")),
        Case(f"estimator fit, {counted}", "fit_estimator", {"folder": folder, "epochs": epochs}),
        Case("transform", "transform", {"folder": folder}, outputs=True),
    ]  # fmt: skip


def check_equal(case: str, files: dict[str, Path]) -> None:
    """Raises AssertionError where the two contenders' outputs are not the same."""
    ours, theirs = (np.load(files[name]) for name in (OURS, ELEPHAS))
    if ours.shape != theirs.shape:
        raise AssertionError(f"{case}: expected outputs of shape {theirs.shape} from {OURS}, got {ours.shape}")
    apart = float(np.abs(ours.astype(np.float64) - theirs).max())
    if not apart <= EQUAL:
        raise AssertionError(f"{case}: expected the same outputs to {EQUAL}, got a difference of {apart}")


def compare(who: dict[str, Contender], case: Case, folder: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Figures and goals of one case; results are checked in the first round."""
    files = {name: Path(folder) / f"{case.call}-{place}.npy" for place, name in enumerate(who)}
    accuracies: dict[str, list[float]] = {name: [] for name in who}

    def once(name: str) -> float:
        outputs = {"outputs": str(files[name])} if case.outputs else {}
        result = who[name].ask(case.call, deadline=DEADLINE, **case.arguments, **outputs)
        if not case.outputs:
            accuracies[name].append(result["accuracy"])
            if result["accuracy"] < SANE:
                raise AssertionError(f"{name} {case.name}: expected an accuracy of at least {SANE}, got {result}")
        return float(result["seconds"])

    blocks: dict[str, Callable[[], float]] = {name: partial(once, name) for name in who}
    first = interleave(blocks, 1)
    if case.outputs:
        check_equal(case.name, files)
    more = interleave(blocks, rounds - 1)
    speed = figures("dropin", case.name, "s", {name: first[name] + more[name] for name in who})
    yield from (figure.line() for figure in speed.values())
    if not case.outputs:
        accuracy = figures("dropin", case.name, "share right", accuracies)
        yield from (figure.line() for figure in accuracy.values())
        ours, theirs = accuracy[OURS].median, accuracy[ELEPHAS].median
        yield Goal(
            f"{case.name}: accuracy", ours, theirs, ELEPHAS, "share", round((theirs - POINTS) / theirs, 4)
        ).line()
    yield from goal(f"{case.name}: against elephas", speed, OURS, ELEPHAS, 1.0)


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: the data set, versions, figures, goals."""
    rows = 5_000 if settings.quick else 60_000
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = str(Path(folder) / "rows.npz")
        yield {"data": data.write(Path(path), rows), "rows": rows}
        here, elephas = Path(sys.executable), interpreter("elephas-7.3.0")
        who = {
            OURS: stack.enter_context(Contender("ours dropin", here, "benchmarks.ours.dropin")),
            ELEPHAS: stack.enter_context(Contender("elephas dropin", elephas, "benchmarks.peers.dropin")),
        }
        for contender in who.values():
            contender.ask("open", data=path, workers=WORKERS)
        yield {"versions": {"elephas environment": who[ELEPHAS].ask("versions")}}
        who[OURS].ask("write", data=path, folder=folder, deadline=DEADLINE)
        for case in cases(folder, 1 if settings.quick else EPOCHS):
            if settings.wants(case.name):
                yield from compare(who, case, folder, 1 if settings.quick else 3)
