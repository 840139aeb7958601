"""What does `xla='measure'` gain, and what does a first fit pay for it?

Networks of three kinds on the pixels of Fashion-MNIST, batch 32, Adam, two synchronous workers on two cores. A warm
fit is one whose workers have decided in an earlier one; a first fit is the first of its kind in a session whose workers
have TensorFlow already, so that it traces, tries and compiles.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import data
from benchmarks.contender import Contender
from benchmarks.measure import Settings, figures, goal, interleave

WORKERS = 2
WITH, WITHOUT = "xla='measure'", "xla='compiled'"
OPTIONS = {WITH: "measure", WITHOUT: "compiled"}
KINDS = {"MLP 784-128-128": (20_000, 4), "LSTM of 32, 28 steps": (6_000, 3), "CNN of 16 and 32": (4_000, 3)}
"""Rows and epochs of a fit, of a second or two."""
TARGETS = {"MLP 784-128-128": 1.0, "LSTM of 32, 28 steps": 1.5, "CNN of 16 and 32": 0.95}
SAME = 0.02  # of a loss: XLA rounds otherwise, and training makes more of it


def check(first: list[float], second: list[float]) -> None:
    """Raises AssertionError where two fits have not learned the same."""
    if any(abs(one - other) > SAME * other for one, other in zip(first, second, strict=True)):
        raise AssertionError(f"losses: expected the same to {SAME:.0%} with XLA and without, got {first} and {second}")


def fits(path: str, kind: str, frequency: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Figures and goals of one kind of network, in a session of its own."""
    rows, epochs = KINDS[kind]
    losses: dict[str, list[float]] = {}

    def fit(who: Contender, name: str) -> float:
        result = who.ask("fit", kind=kind, rows=rows, epochs=epochs, frequency=frequency, xla=OPTIONS[name])
        losses[name] = result["loss"]
        return float(result["seconds"])

    with Contender("ours xla", Path(sys.executable), "benchmarks.ours.xla") as who:
        who.ask("open", data=path, workers=WORKERS)
        other = next(name for name in KINDS if name != kind)
        who.ask("fit", kind=other, rows=64, epochs=1, frequency=frequency, xla="compiled")
        first = {name: [fit(who, name)] for name in (WITHOUT, WITH)}
        check(losses[WITH], losses[WITHOUT])
        blocks: dict[str, Callable[[], float]] = {name: partial(fit, who, name) for name in OPTIONS}
        warm = figures("xla", f"{kind}, {frequency}", "s", interleave(blocks, rounds))
    began = figures("xla", f"{kind}, {frequency}: first fit", "s", first)
    yield from (figure.line() for figure in [*warm.values(), *began.values()])
    yield from goal(f"{kind}, {frequency}: a warm fit", warm, WITH, WITHOUT, TARGETS[kind])


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: the data set, figures, goals."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        yield {"data": data.write(path, 20_000), "rows": 20_000}
        for kind in KINDS:
            for frequency in ("epoch",) if settings.quick else ("epoch", "batch"):
                if settings.wants(f"{kind}, {frequency}"):
                    yield from fits(str(path), kind, frequency, 1 if settings.quick else 5)
