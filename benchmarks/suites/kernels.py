"""How close is each optimizer to the limit of cache and memory, and how far ahead of its peers?

The limit is a bare loop, compiled here, that reads and writes the same arrays. Peers: NumPy in place, Keras'
`optimizer.apply` in a `tf.function`, and PyTorch's fused and foreach CPU optimizers if its environment is
installed. Then fused work: queued pushes, the pull's copy, scaling, averaging, bfloat16. DeepSpeed's CPU Adam is not
measured: its extension is compiled on the spot, which needs PyTorch's development files.
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
BARE = "bare loop"  # the bytes of an application moved, and nothing else
NUMPY, KERAS = {"SGD": 2.0, "Adam": 5.0}, 5.0
FUSED, FOREACH = {"1e5": 3.0, "1e6": 1.6, "1e7": 1.05, "1e8": 1.0}, 7.0
FUSED_RULES, FOREACH_RULES = ("SGD", "momentum", "Adagrad", "Adam"), ("RMSprop", "Adadelta", "Adam")
QUEUED, COPIED, HALF_SLOTS, FREE = 2.4, 1.15, 1.3, 0.95

# Fused work: what, its rule, its sizes, what it is compared with, and the ratio it must reach.
FUSED_WORK = [
    ("four pushes, one pass", "Adam", ("1e7",), "four pushes, a pass each", QUEUED),
    ("copied in the pass", "SGD", ("1e7",), "copied after", COPIED),
    ("copied in the pass", "Adam", ("1e7",), "copied after", COPIED),
    ("bfloat16 slots", "Adam", ("1e7", "1e8"), BARE, HALF_SLOTS),
    ("plain", "Adam", ("1e7",), BARE, FREE),
    ("scaled", "Adam", ("1e7",), BARE, FREE),
    ("mean of four", "Adam", ("1e7",), "bare loop, four gradients", FREE),
    ("bfloat16 gradient", "Adam", ("1e7", "1e8"), "bare loop, 16-bit gradient", FREE),
]
NAMES = {"plain": "non-finite check"}


def block(who: Contender, **arguments: Any) -> float:
    """Median seconds of one application in a block."""
    return float(statistics.median(who.ask("measure", **arguments)["seconds"]))


class Processes:
    """One process of ours and, for one thread, one of Keras and one of PyTorch if installed."""

    def __init__(self, stack: ExitStack, threads: int):
        here, start = Path(sys.executable), stack.enter_context
        self.threads = threads
        self.ours = start(Contender(f"ours kernels {threads}", here, "benchmarks.ours.kernels"))
        self.keras: Contender | None = None
        self.torch: Contender | None = None
        if threads > 1:
            return
        self.keras = start(Contender("keras apply", here, "benchmarks.peers.keras_apply"))
        self.keras.ask("set_threads", threads=threads)
        try:
            python = interpreter("torch")
        except PeerMissing:
            return
        self.torch = start(Contender("torch apply", python, "benchmarks.peers.torch_apply"))
        self.torch.ask("set_threads", threads=threads)

    def check(self, rule: str) -> None:
        """Five steps of all contenders give the same weights. Raises AssertionError."""
        common: dict[str, Any] = {"rule": rule, "n": 10_007, "steps": 5}
        ours = self.ours.ask("after", kind="ours", **common)["weights"]
        others = {"numpy": self.ours.ask("after", kind="numpy", **common)["weights"]}
        if self.keras:
            others["keras"] = self.keras.ask("after", **common)["weights"]
        for name, weights in others.items():
            furthest = max(abs(a - b) for a, b in zip(ours, weights, strict=True))
            if furthest > 1e-5:
                raise AssertionError(f"{rule} against {name}: expected equal weights, differ by {furthest}")
        if self.torch:
            kind = "fused" if rule in FUSED_RULES else "foreach"
            weights = self.torch.ask("after", kind=kind, **common)["weights"]
            # It adds epsilon after the root, which shows where a gradient is as small as epsilon.
            middle = statistics.median(abs(a - b) for a, b in zip(ours, weights, strict=True))
            if middle > 1e-4:
                raise AssertionError(f"{rule} against torch: expected like weights, half of them differ by {middle}")

    def blocks(self, rule: str, n: int, seconds: float) -> dict[str, Callable[[], float]]:
        common: dict[str, Any] = {"rule": rule, "n": n, "seconds": seconds}
        contenders: dict[str, Callable[[], float]] = {
            "ours": partial(block, self.ours, kind="ours", threads=self.threads, **common),
            BARE: partial(block, self.ours, kind="bare", threads=self.threads, **common),
        }
        if self.torch and rule in FUSED_RULES:
            contenders["torch fused"] = partial(block, self.torch, kind="fused", **common)
        if n > 10_000_000:
            return contenders
        if self.threads == 1 and rule in NUMPY:
            contenders["numpy in place"] = partial(block, self.ours, kind="numpy", threads=1, **common)
        if self.keras and rule == "Adam":
            contenders["keras apply"] = partial(block, self.keras, **common)
        if self.torch and rule in FOREACH_RULES:
            contenders["torch foreach"] = partial(block, self.torch, kind="foreach", **common)
        return contenders


def case_of(rule: str, size: str, threads: int) -> str:
    return f"{rule}, {size}, {threads} thread{'s' if threads > 1 else ''}"


def goals(rule: str, size: str, threads: int, found: dict[str, Figure]) -> Iterator[dict[str, Any]]:
    here = case_of(rule, size, threads)
    if size == "1e5":
        yield from goal(f"{here}: share of the limit in cache", found, "ours", BARE, IN_CACHE[rule])
    if size in ("1e7", "1e8"):
        yield from goal(f"{here}: share of the limit in memory", found, "ours", BARE, IN_MEMORY)
    if rule in NUMPY:
        yield from goal(f"{here}: against NumPy in place", found, "ours", "numpy in place", NUMPY[rule], BARE)
    yield from goal(f"{here}: against Keras' apply", found, "ours", "keras apply", KERAS, BARE)
    yield from goal(f"{here}: against PyTorch fused", found, "ours", "torch fused", FUSED[size], BARE)
    yield from goal(f"{here}: against PyTorch foreach", found, "ours", "torch foreach", FOREACH, BARE)


def applications(settings: Settings, seconds: float) -> Iterator[dict[str, Any]]:
    """One application of each rule, for one thread and for two where memory is the limit."""
    for threads in (1,) if settings.quick else (1, 2):
        sizes = [n for n in SIZES if n <= 1_000_000] if settings.quick else list(SIZES)
        with ExitStack() as stack:
            processes = Processes(stack, threads)
            for rule in RULES:
                processes.check(rule)
                for n in sizes:
                    case = case_of(rule, SIZES[n], threads)
                    if not settings.wants(case) or (threads > 1 and n < 10_000_000):
                        continue
                    rounds = 3 if settings.quick else 5 if n > 10_000_000 else 7
                    results = interleave(processes.blocks(rule, n, seconds), rounds)
                    found = figures("kernels", case, "us", results)
                    yield from (figure.line() for figure in found.values())
                    yield from goals(rule, SIZES[n], threads, found)


def fused_work(settings: Settings, seconds: float) -> Iterator[dict[str, Any]]:
    """More work in the same pass over memory."""
    with Contender("ours pushes", Path(sys.executable), "benchmarks.ours.pushes") as ours:
        ours.ask("check", n=10_007)
        for n, size in SIZES.items():
            for rule in ("SGD", "Adam"):
                case = f"fused work, {rule}, {size}, 1 thread"
                work = [row for row in FUSED_WORK if row[1] == rule and size in row[2]]
                if not work or not settings.wants(case) or (settings.quick and n > 10_000_000):
                    continue
                kinds = dict.fromkeys(kind for row in work for kind in (row[0], row[3]))
                common: dict[str, Any] = {"rule": rule, "n": n, "seconds": seconds, "threads": 1}
                blocks: dict[str, Callable[[], float]] = {
                    kind: partial(block, ours, kind=kind, **common) for kind in kinds
                }
                rounds = 3 if settings.quick else 5 if n > 10_000_000 else 7
                found = figures("kernels", case, "us", interleave(blocks, rounds))
                yield from (figure.line() for figure in found.values())
                for kind, _, _, other, target in work:
                    yield from goal(f"{rule}, {size}: {NAMES.get(kind, kind)}", found, kind, other, target)


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: figures, goals."""
    seconds = 0.05 if settings.quick else 0.2
    yield from applications(settings, seconds)
    yield from fused_work(settings, seconds)
