"""How close is each optimizer to the limit of cache and memory, and how far ahead of its peers?

The limit is a bare loop, compiled here, that reads and writes the same arrays. Peers: NumPy in place, Keras'
`optimizer.apply` in a `tf.function`, and PyTorch's fused and foreach CPU optimizers if its environment is
installed.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender
from benchmarks.measure import Figure, Settings, figures, goal, interleave
from benchmarks.peers.install import PeerMissing, interpreter
from benchmarks.rules import RULES

SIZES = {100_000: "1e5", 1_000_000: "1e6", 10_000_000: "1e7", 100_000_000: "1e8"}
IN_CACHE = {"SGD": 0.98, "momentum": 0.98, "RMSprop": 0.80, "Adagrad": 0.93, "Adadelta": 0.65, "Adam": 0.88}
IN_MEMORY = 0.97
NUMPY, KERAS = {"SGD": 2.0, "Adam": 5.0}, 5.0
FUSED, FOREACH = {"1e5": 3.0, "1e6": 1.6, "1e7": 1.05, "1e8": 1.0}, 7.0
FUSED_RULES, FOREACH_RULES = ("SGD", "momentum", "Adagrad", "Adam"), ("RMSprop", "Adadelta", "Adam")


def block(who: Contender, **arguments: Any) -> float:
    """Median seconds of one application in a block."""
    return float(statistics.median(who.ask("measure", **arguments)["seconds"]))


class Processes:
    """One process of ours, one of Keras and, if installed, one of PyTorch, for one number of threads."""

    def __init__(self, stack: ExitStack, threads: int):
        here, start = Path(sys.executable), stack.enter_context
        self.threads = threads
        self.ours = start(Contender(f"ours kernels {threads}", here, "benchmarks.ours.kernels"))
        self.keras = start(Contender(f"keras apply {threads}", here, "benchmarks.peers.keras_apply"))
        self.keras.ask("set_threads", threads=threads)
        self.torch: Contender | None = None
        try:
            python = interpreter("torch")
        except PeerMissing:
            return
        self.torch = start(Contender(f"torch apply {threads}", python, "benchmarks.peers.torch_apply"))
        self.torch.ask("set_threads", threads=threads)

    def check(self, rule: str) -> None:
        """Five steps of ours, NumPy and Keras give the same weights. Raises AssertionError."""
        common: dict[str, Any] = {"rule": rule, "n": 10_007, "steps": 5}
        ours = self.ours.ask("after", kind="ours", **common)["weights"]
        others = {
            "numpy": self.ours.ask("after", kind="numpy", **common)["weights"],
            "keras": self.keras.ask("after", **common)["weights"],
        }
        for name, weights in others.items():
            furthest = max(abs(a - b) for a, b in zip(ours, weights, strict=True))
            if furthest > 1e-5:
                raise AssertionError(f"{rule} against {name}: expected equal weights, differ by {furthest}")

    def blocks(self, rule: str, n: int, seconds: float) -> dict[str, Callable[[], float]]:
        common: dict[str, Any] = {"rule": rule, "n": n, "seconds": seconds}
        contenders: dict[str, Callable[[], float]] = {
            "ours": partial(block, self.ours, kind="ours", threads=self.threads, **common),
            "bare loop": partial(block, self.ours, kind="bare", threads=self.threads, **common),
            "keras apply": partial(block, self.keras, **common),
        }
        if self.threads == 1:
            contenders["numpy in place"] = partial(block, self.ours, kind="numpy", threads=1, **common)
        if self.torch and rule in FUSED_RULES:
            contenders["torch fused"] = partial(block, self.torch, kind="fused", **common)
        if self.torch and rule in FOREACH_RULES:
            contenders["torch foreach"] = partial(block, self.torch, kind="foreach", **common)
        return contenders


def goals(rule: str, size: str, threads: int, found: dict[str, Figure]) -> Iterator[dict[str, Any]]:
    here = f"{rule}, {size}, {threads} thread{'s' if threads > 1 else ''}"
    if size == "1e5" and threads == 1:
        yield from goal(f"{here}: share of the limit in cache", found, "ours", "bare loop", IN_CACHE[rule])
    if size in ("1e7", "1e8"):
        yield from goal(f"{here}: share of the limit in memory", found, "ours", "bare loop", IN_MEMORY)
    if threads > 1:
        return
    if rule in NUMPY:
        yield from goal(f"{here}: against NumPy in place", found, "ours", "numpy in place", NUMPY[rule])
    if rule == "Adam":
        yield from goal(f"{here}: against Keras' apply", found, "ours", "keras apply", KERAS)
    yield from goal(f"{here}: against PyTorch fused", found, "ours", "torch fused", FUSED[size])
    yield from goal(f"{here}: against PyTorch foreach", found, "ours", "torch foreach", FOREACH)


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: figures, goals."""
    rounds, seconds = (3, 0.05) if settings.quick else (7, 0.2)
    sizes = [n for n in SIZES if n <= (1_000_000 if settings.quick else 10_000_000)]
    for threads in (1, 2):
        with ExitStack() as stack:
            processes = Processes(stack, threads)
            for rule in RULES:
                processes.check(rule)
                for n in sizes:
                    case = f"{rule}, {SIZES[n]}, {threads}"
                    if not settings.wants(case):
                        continue
                    results = interleave(processes.blocks(rule, n, seconds), rounds)
                    found = figures("kernels", case, "us", results)
                    yield from (figure.line() for figure in found.values())
                    yield from goals(rule, SIZES[n], threads, found)
