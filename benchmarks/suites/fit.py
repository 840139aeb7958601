"""How many rows a second does `fit` train, end to end, and how good is the model?

Fashion-MNIST, batch 32, Adam, two workers on two cores, warm processes: a short fit before each is not counted.
Against Elephas 7.3.0 of the same mode and against plain Keras in one process with one thread.

With `frequency='epoch'` the changes of a whole epoch, made by each worker from the same weights, add up in the
asynchronous modes; there our server applies each worker's share of them, `server_optimizer=SGD(1 / workers)`. What
plain addition comes to, as Elephas does it, is shown beside it.
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

WORKERS = 2
NETWORKS = {"0.118 M": [128, 128], "1.86 M": [1024, 1024]}
EPOCHS = {("batch", "0.118 M"): 3, ("batch", "1.86 M"): 1, ("epoch", "0.118 M"): 5, ("epoch", "1.86 M"): 2}
MODES = ("hogwild", "asynchronous", "synchronous")
OURS, ELEPHAS, KERAS = "elephas_fast", "elephas 7.3.0", "keras, one thread"
ADDED = f"{OURS} asynchronous, all of each change"
SANE = 0.4
AGAINST_ELEPHAS = {"batch": {"0.118 M": 35.0, "1.86 M": 9.5}, "epoch": {"0.118 M": 5.0, "1.86 M": 2.0}}
AGAINST_KERAS = {
    "hogwild": {"0.118 M": 4.0, "1.86 M": 1.9},
    "asynchronous": {"0.118 M": 3.0, "1.86 M": 1.8},
}
GOOD = 0.86


@dataclass(frozen=True)
class Kind:
    """One kind of fit of one contender."""

    contender: str
    mode: str
    frequency: str
    share: float = 1.0
    name: str = ""

    def __str__(self) -> str:
        return self.name or (self.contender if self.contender == KERAS else f"{self.contender} {self.mode}")

    def arguments(self, size: str, epochs: int, warm: bool = True) -> dict[str, Any]:
        shared: dict[str, Any] = {"share": self.share} if self.contender == OURS else {}
        if self.contender != KERAS:
            shared["warm"] = warm
        return {
            "mode": self.mode, "frequency": self.frequency, "epochs": epochs, "batch_size": 32,
            "units": NETWORKS[size], "deadline": 900.0, **shared,
        }  # fmt: skip


def kinds(frequency: str) -> list[Kind]:
    keras = Kind(KERAS, "", frequency)
    if frequency == "batch":  # Elephas has no synchronous mode by batch, and its two others take the same time
        return [*(Kind(OURS, mode, "batch") for mode in MODES), Kind(ELEPHAS, "asynchronous", "batch"), keras]
    ours = [Kind(OURS, mode, "epoch", 1.0 if mode == "synchronous" else 1.0 / WORKERS) for mode in MODES]
    added = Kind(OURS, "asynchronous", "epoch", name=ADDED)
    return [*ours, added, *(Kind(ELEPHAS, mode, "epoch") for mode in MODES), keras]


class Processes:
    """The contenders, opened on the rows of one file; they live as long as the suite."""

    def __init__(self, stack: ExitStack, path: str) -> None:
        here, elephas = Path(sys.executable), interpreter("elephas-7.3.0")
        self.who = {
            KERAS: stack.enter_context(Contender("keras fit", here, "benchmarks.peers.keras_fit")),
            OURS: stack.enter_context(Contender("ours fit", here, "benchmarks.ours.fit")),
            ELEPHAS: stack.enter_context(Contender("elephas fit", elephas, "benchmarks.peers.elephas_fit")),
        }
        for name, who in self.who.items():
            who.ask("open", data=path, workers=1 if name == KERAS else WORKERS)

    def fit(self, kind: Kind, size: str, epochs: int) -> dict[str, Any]:
        """One fit. Raises AssertionError if the model it made is no good."""
        result = self.who[kind.contender].ask("fit", **kind.arguments(size, epochs))
        if result["accuracy"] < SANE:
            raise AssertionError(f"{kind}: expected an accuracy of at least {SANE}, got {result['accuracy']}")
        return result

    def rate(self, kind: Kind, size: str, epochs: int, accuracies: list[float]) -> float:
        """Rows/s of one fit; notes its accuracy."""
        result = self.fit(kind, size, epochs)
        accuracies.append(result["accuracy"])
        return float(result["rows_per_second"])


def goals(frequency: str, size: str, speed: dict[str, Figure], accuracy: dict[str, Figure]) -> Iterator[dict[str, Any]]:
    keras = accuracy[KERAS].median
    enough = round((keras - 0.01) / keras, 4)
    for mode in MODES:
        ours, case = f"{OURS} {mode}", f"{mode}, {frequency}, {size}"
        peer = f"{ELEPHAS} {'asynchronous' if frequency == 'batch' else mode}"
        if frequency == "epoch" or mode == "hogwild":
            yield from goal(f"{case}: against elephas", speed, ours, peer, AGAINST_ELEPHAS[frequency][size])
        if frequency == "batch" and mode in AGAINST_KERAS:
            yield from goal(f"{case}: against keras", speed, ours, KERAS, AGAINST_KERAS[mode][size])
        yield Goal(f"{case}: accuracy", accuracy[ours].median, keras, KERAS, "share", enough).line()


def compare(processes: Processes, frequency: str, size: str, rounds: int, epochs: int) -> Iterator[dict[str, Any]]:
    """Figures and goals of all kinds of one frequency."""
    blocks: dict[str, Callable[[], float]] = {}
    accuracies: dict[str, list[float]] = {}
    for kind in kinds(frequency):
        accuracies[str(kind)] = []
        blocks[str(kind)] = partial(processes.rate, kind, size, epochs, accuracies[str(kind)])
    case = f"{frequency}, {size}, {epochs} epochs"
    speed = figures("fit", case, "rows/s", interleave(blocks, rounds))
    accuracy = figures("fit", case, "share right", accuracies)
    yield from (figure.line() for figure in [*speed.values(), *accuracy.values()])
    yield from goals(frequency, size, speed, accuracy)


def time_to_accuracy(processes: Processes, most: int) -> Iterator[dict[str, Any]]:
    """Seconds of the shortest fit that reaches a test accuracy, by whole epochs."""
    case, found = f"seconds to an accuracy of {GOOD}, 0.118 M", {}
    compared = [
        *(Kind(OURS, mode, "batch") for mode in MODES), Kind(ELEPHAS, "asynchronous", "batch"),
        Kind(ELEPHAS, "synchronous", "epoch"), Kind(KERAS, "", ""),
    ]  # fmt: skip
    for kind in compared:
        for epochs in range(1, most + 1):
            result = processes.fit(kind, "0.118 M", epochs)
            if result["accuracy"] >= GOOD:
                found.update(figures("fit", case, "s", {str(kind): [result["seconds"]]}))
                break
    yield from (figure.line() for figure in found.values())
    for mode in MODES:
        peer = f"{ELEPHAS} {'synchronous' if mode == 'synchronous' else 'asynchronous'}"
        yield from goal(f"{mode}: {case}, against elephas", found, f"{OURS} {mode}", peer, 1.0)
        if mode != "synchronous":
            yield from goal(f"{mode}: {case}, against keras", found, f"{OURS} {mode}", KERAS, 1.0)


def memory(path: str) -> Iterator[dict[str, Any]]:
    """What a worker needs at most, against rows + 2 x weights + what plain TensorFlow needs for the same network."""
    size, here = "1.86 M", Path(sys.executable)
    with Contender("keras memory", here, "benchmarks.peers.keras_fit") as keras:
        plain = keras.ask("memory", units=NETWORKS[size])
    with Contender("ours memory", here, "benchmarks.ours.fit") as ours:
        ours.ask("open", data=path, workers=WORKERS)
        ours.ask("fit", **Kind(OURS, "hogwild", "batch").arguments(size, 1))
        used = ours.ask("memory")
    allowed = used["rows"] + 2 * plain["weights"] + plain["peak"]
    case = f"peak memory of a worker, {size}"
    found = figures("fit", case, "MiB", {OURS: used["peaks"], "rows + 2 x weights + TensorFlow": [allowed]})
    yield from (figure.line() for figure in found.values())
    yield from goal(case, found, OURS, "rows + 2 x weights + TensorFlow", 1.0)


def cold(path: str, rounds: int) -> Iterator[dict[str, Any]]:
    """The first fit of a fresh session on 1,000 rows, the workers' import of TensorFlow and all."""

    def first_fit(kind: Kind, python: Path, module: str) -> float:
        with Contender(f"{kind.contender} fit cold", python, module) as who:
            who.ask("open", data=path, workers=WORKERS, rows=1_000)
            return float(who.ask("fit", **kind.arguments("0.118 M", 1, warm=False))["seconds"])

    here, elephas = Path(sys.executable), interpreter("elephas-7.3.0")
    blocks: dict[str, Callable[[], float]] = {
        OURS: partial(first_fit, Kind(OURS, "asynchronous", "epoch"), here, "benchmarks.ours.fit"),
        ELEPHAS: partial(first_fit, Kind(ELEPHAS, "asynchronous", "epoch"), elephas, "benchmarks.peers.elephas_fit"),
    }
    found = figures("fit", "first fit, 1,000 rows", "s", interleave(blocks, rounds))
    yield from (figure.line() for figure in found.values())
    yield from goal("first fit of a fresh session, 1,000 rows", found, OURS, ELEPHAS, 1 / 0.6)


def warm(path: str, settings: Settings) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        processes = Processes(stack, path)
        yield {"versions": {"elephas environment": processes.who[ELEPHAS].ask("versions")}}
        for (frequency, size), epochs in EPOCHS.items():
            if not settings.wants(f"{frequency}, {size}") or (settings.quick and (frequency, size) != QUICK):
                continue
            rounds = 1 if settings.quick else 3 if size == "0.118 M" else 2
            yield from compare(processes, frequency, size, rounds, 1 if settings.quick else epochs)
        if settings.wants("accuracy") and not settings.quick:
            yield from time_to_accuracy(processes, most=8)


QUICK = ("epoch", "0.118 M")


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: the data set, versions, figures, goals."""
    rows = 5_000 if settings.quick else 60_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        yield {"data": data.write(path, rows), "rows": rows}
        yield from warm(str(path), settings)
        if settings.wants("first fit") and not settings.quick:
            yield from cold(str(path), 3)
        if settings.wants("memory") and not settings.quick:
            yield from memory(str(path))
