"""How many rows a second does `fit` train, end to end, and how good is the model?

Fashion-MNIST, batch 32, two workers on two cores, warm processes: one fit of each kind is run first and not
counted. Against Elephas 7.3.0 of the same mode and against plain Keras in one process with one thread.
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

from benchmarks import data
from benchmarks.contender import Contender
from benchmarks.measure import Figure, Goal, Settings, figures, goal, interleave
from benchmarks.peers.install import interpreter
from benchmarks.peers.task import LEARNING_RATE

NETWORKS = {"0.118 M": [128, 128], "1.86 M": [1024, 1024]}
ELEPHAS, KERAS, OURS = "elephas 7.3.0", "keras, one thread", "elephas_fast"
SANE = 0.4


@dataclass(frozen=True)
class Case:
    """One kind of fit. elephas: the mode of Elephas to compare with, None where it has no such thing."""

    mode: str
    frequency: str
    size: str
    epochs: int
    elephas: str | None

    @property
    def name(self) -> str:
        return f"{self.mode} {self.frequency}, {self.size}"

    def arguments(self, mode: str) -> dict[str, Any]:
        return {
            "mode": mode, "frequency": self.frequency, "epochs": self.epochs, "batch_size": 32,
            "units": NETWORKS[self.size], "learning_rate": LEARNING_RATE, "deadline": 900.0,
        }  # fmt: skip


def cases(quick: bool) -> Iterator[Case]:
    for size in NETWORKS if not quick else ("0.118 M",):
        epochs = 5 if size == "0.118 M" and not quick else 2
        yield Case("hogwild", "batch", size, 1, "asynchronous")
        yield Case("asynchronous", "batch", size, 1, "asynchronous")
        yield Case("synchronous", "batch", size, 1, None)
        for mode in ("hogwild", "asynchronous", "synchronous"):
            yield Case(mode, "epoch", size, epochs, mode)


AGAINST_ELEPHAS = {"batch": {"0.118 M": 35.0, "1.86 M": 9.5}, "epoch": {"0.118 M": 5.0, "1.86 M": 2.0}}
AGAINST_KERAS = {
    "hogwild": {"0.118 M": 4.0, "1.86 M": 1.9},
    "asynchronous": {"0.118 M": 3.0, "1.86 M": 1.8},
}


def block(who: Contender, accuracies: list[float], arguments: dict[str, Any]) -> float:
    """Rows/s of one fit. Raises AssertionError if the model it made is no good."""
    result = who.ask("fit", **arguments)
    if result["accuracy"] < SANE:
        raise AssertionError(f"{who.name}: expected an accuracy of at least {SANE}, got {result['accuracy']}")
    accuracies.append(result["accuracy"])
    return float(result["rows_per_second"])


def goals(case: Case, speed: dict[str, Figure], accuracy: dict[str, Figure]) -> Iterator[dict[str, Any]]:
    if case.elephas and (case.frequency, case.mode) != ("batch", "asynchronous"):
        target = AGAINST_ELEPHAS[case.frequency][case.size]
        yield from goal(f"{case.name}, against elephas {case.elephas}", speed, OURS, ELEPHAS, target)
    if case.frequency == "batch" and case.mode in AGAINST_KERAS:
        target = AGAINST_KERAS[case.mode][case.size]
        yield from goal(f"{case.name}, against keras", speed, OURS, KERAS, target)
    ours, keras = accuracy[OURS].median, accuracy[KERAS].median
    yield Goal(f"{case.name}, accuracy", ours, keras, KERAS, "share", round((keras - 0.01) / keras, 4)).line()


def cold(path: str, rounds: int) -> Iterator[dict[str, Any]]:
    """The first fit of a fresh session on 1,000 rows, the workers' import of TensorFlow and all."""
    case = Case("asynchronous", "epoch", "0.118 M", 1, "asynchronous")

    def first_fit(name: str, python: Path, module: str) -> float:
        with Contender(name, python, module) as who:
            who.ask("open", data=path, workers=2, rows=1_000)
            return float(who.ask("fit", **case.arguments("asynchronous"))["seconds"])

    here, elephas = Path(sys.executable), interpreter("elephas-7.3.0")
    blocks: dict[str, Callable[[], float]] = {
        OURS: partial(first_fit, "ours fit cold", here, "benchmarks.ours.fit"),
        ELEPHAS: partial(first_fit, "elephas fit cold", elephas, "benchmarks.peers.elephas_fit"),
    }
    found = figures("fit", "first fit, 1,000 rows", "s", interleave(blocks, rounds))
    yield from (figure.line() for figure in found.values())
    yield from goal("first fit of a fresh session, 1,000 rows", found, OURS, ELEPHAS, 1 / 0.6)


def compare(case: Case, contenders: dict[str, Contender], rounds: int) -> Iterator[dict[str, Any]]:
    """Figures and goals of one case; the first fit of each contender, one epoch, is not counted."""
    blocks: dict[str, Callable[[], float]] = {}
    accuracies: dict[str, list[float]] = {}
    for name, who in contenders.items():
        mode = case.elephas if name == ELEPHAS else case.mode
        if mode is None:
            continue
        arguments = case.arguments(mode)
        who.ask("fit", **{**arguments, "epochs": 1})
        accuracies[name] = []
        blocks[name] = partial(block, who, accuracies[name], arguments)
    speed = figures("fit", case.name, "rows/s", interleave(blocks, rounds))
    accuracy = figures("fit", f"{case.name}: accuracy", "share", accuracies)
    yield from (figure.line() for figure in [*speed.values(), *accuracy.values()])
    yield from goals(case, speed, accuracy)


def warm(path: str, settings: Settings) -> Iterator[dict[str, Any]]:
    """All cases in processes that live as long as the suite."""
    here, elephas = Path(sys.executable), interpreter("elephas-7.3.0")
    with ExitStack() as stack:
        contenders = {
            KERAS: stack.enter_context(Contender("keras fit", here, "benchmarks.peers.keras_fit")),
            OURS: stack.enter_context(Contender("ours fit", here, "benchmarks.ours.fit")),
            ELEPHAS: stack.enter_context(Contender("elephas fit", elephas, "benchmarks.peers.elephas_fit")),
        }
        yield {"versions": {"elephas environment": contenders[ELEPHAS].ask("versions")}}
        for name, who in contenders.items():
            who.ask("open", data=path, workers=1 if name == KERAS else 2)
        for case in cases(settings.quick):
            if settings.wants(case.name):
                rounds = 1 if settings.quick else 3 if case.size == "0.118 M" else 2
                yield from compare(case, contenders, rounds)


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: the data set, versions, figures, goals."""
    rows = 20_000 if settings.quick else 60_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        yield {"data": data.write(path, rows), "rows": rows}
        yield from warm(str(path), settings)
        if settings.wants("first fit"):
            yield from cold(str(path), 1 if settings.quick else 3)
