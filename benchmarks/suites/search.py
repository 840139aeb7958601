"""Do all workers feed one search, does it learn, and is stopping early worth it?

Networks on scikit-learn's digits, five hyper-parameters, 25 trials of nine epochs, two workers on two cores; losses,
stopping and votes with an MLP over ten seeds. Losses are those on rows kept for choosing, accuracies those on rows kept
for the end.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender
from benchmarks.measure import Goal, Settings, figures, goal, interleave

WORKERS = 2
NETWORKS = ("MLP", "CNN")
TPE, RANDOM, MEDIAN = "tpe", "random", "random, median rule"
FASTER = 1 / 0.65
AS_GOOD, SEEDS_AS_GOOD = 0.8, 0.7
FEWER_EPOCHS, KEPT = 1 / 0.7, 1 / 1.02
POINTS = 0.005
DEADLINE = 1800.0
SEARCHES: dict[str, dict[str, Any]] = {
    TPE: {"algo": "tpe", "ensemble": True},
    RANDOM: {"algo": "random"},
    MEDIAN: {"algo": "random", "stop": "median"},
}


def check(result: dict[str, Any], trials: int) -> dict[str, Any]:
    """Raises AssertionError where a search has lost trials or its best network is no good."""
    if sum(result["states"].values()) != trials or "failed" in result["states"] or not 0 < result["loss"] < 1:
        raise AssertionError(f"search: expected {trials} trials that end and a loss below 1, got {result}")
    return result


def time_at_once(who: Contender, network: str, trials: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Seconds of the same random trials, one after the other and two at once."""
    names = {f"parallelism {width}": width for width in (WORKERS, 1)}

    def once(width: int) -> float:
        result = who.ask(
            "search", algo="random", seed=1, max_evals=trials, parallelism=width, network=network, deadline=DEADLINE
        )
        return float(check(result, trials)["seconds"])

    found = figures(
        "search",
        f"{network}, {trials} trials",
        "s",
        interleave({n: partial(once, w) for n, w in names.items()}, rounds),
    )
    yield from (figure.line() for figure in found.values())
    two, one = names
    yield from goal(f"two workers: seconds of a search, {network}", found, two, one, FASTER)


def over_seeds(who: Contender, trials: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Figures and goals of all searches of each seed."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SEARCHES}
    for seed in range(seeds):
        for name, options in SEARCHES.items():
            result = who.ask("search", seed=seed, max_evals=trials, parallelism=WORKERS, deadline=DEADLINE, **options)
            found[name].append(check(result, trials))
    case = f"{trials} trials, {seeds} seeds"
    for unit, key in (("loss", "loss"), ("epochs", "epochs"), ("s", "seconds")):
        lines = figures("search", f"{case}: {key}", unit, {n: [r[key] for r in rs] for n, rs in found.items()})
        yield from (figure.line() for figure in lines.values())
    members = {kind: [result[kind] for result in found[TPE]] for kind in ("best", "hard", "soft")}
    lines = figures("search", f"{case}: accuracy, best alone and five best", "share right", members)
    yield from (figure.line() for figure in lines.values())
    yield from _goals(found, seeds)


def _goals(found: dict[str, list[dict[str, Any]]], seeds: int) -> Iterator[dict[str, Any]]:
    losses = {name: [float(result["loss"]) for result in results] for name, results in found.items()}
    epochs = {name: sum(result["epochs"] for result in results) for name, results in found.items()}
    as_good = sum(a <= b for a, b in zip(losses[TPE], losses[RANDOM], strict=True))
    yield _share("TPE's best loss is at least as good as random search's", as_good, seeds, AS_GOOD)
    yield Goal("median rule: epochs", 1 / epochs[MEDIAN], 1 / epochs[RANDOM], RANDOM, "1/epochs", FEWER_EPOCHS).line()
    medians = {name: statistics.median(values) for name, values in losses.items()}
    yield Goal("median rule: best loss", 1 / medians[MEDIAN], 1 / medians[RANDOM], RANDOM, "1/loss", KEPT).line()
    for voting in ("hard", "soft"):
        kept = sum(result[voting] >= result["best"] - POINTS for result in found[TPE])
        yield _share(
            f"five best, {voting}: within half a point of the best alone, or above", kept, seeds, SEEDS_AS_GOOD
        )


def _share(name: str, count: int, seeds: int, target: float) -> dict[str, Any]:
    return Goal(f"{name}, in how many seeds", count, seeds, "seeds", "seeds", target).line()


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: figures, goals."""
    trials, seeds = (10, 2) if settings.quick else (25, 10)
    with Contender("ours search", Path(sys.executable), "benchmarks.ours.search") as who:
        yield {"data": "digits", "rows": who.ask("open", workers=WORKERS, deadline=DEADLINE)["rows"]}
        for network in NETWORKS:
            if settings.wants(f"parallelism, {network}"):
                yield from time_at_once(who, network, trials, 1 if settings.quick else 3)
        if settings.wants("seeds"):
            yield from over_seeds(who, trials, seeds)
