"""How long does one step of a worker take: pull, gradient, push, with `frequency='batch'` and batches of 32?

Against Keras' own `train_on_batch`, everything with one thread. Ours is the real worker loop with a server process.
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

NETWORKS = {"0.118 M": [128, 128], "9.8 M": [2048, 2048, 1950]}
KINDS: dict[str, dict[str, Any]] = {
    "shm hogwild gradient": {"transport": "shm", "mode": "hogwild", "update": "gradient"},
    "shm hogwild delta": {"transport": "shm", "mode": "hogwild", "update": "delta"},
    "shm asynchronous gradient": {"transport": "shm", "mode": "asynchronous", "update": "gradient"},
    "tcp asynchronous gradient": {"transport": "tcp", "mode": "asynchronous", "update": "gradient"},
}
BARE = "gradient and kernel alone"
PREFETCH = "tcp asynchronous gradient, prefetch"
PEERS = {
    "keras train_on_batch": "train_on_batch",
    "elephas step, no transport": "elephas",
    "keras gradient tf.function": "gradient",
}
AGAINST_KERAS = {"0.118 M": 1 / 0.45, "9.8 M": 1 / 0.95}


def block(who: Contender, **arguments: Any) -> float:
    return float(statistics.median(who.ask("measure", **arguments)["seconds"]))


def bare(who: Contender, **arguments: Any) -> float:
    return float(statistics.median(who.ask("bare", **arguments)["seconds"]))


def check(ours: Contender, keras: Contender, units: list[int]) -> None:
    """One worker in order equals Keras. Raises AssertionError."""
    expected = keras.ask("after", units=units, batches=8)["weights"]
    for name, options in KINDS.items():
        got = ours.ask("after", units=units, batches=8, **options)["weights"]
        furthest = max(abs(a - b) for a, b in zip(got, expected, strict=True))
        if furthest > 1e-5:
            raise AssertionError(f"{name}: expected the weights of train_on_batch, they differ by {furthest}")


def goals(size: str, found: dict[str, Figure]) -> Iterator[dict[str, Any]]:
    for name in ("shm hogwild gradient", "shm hogwild delta"):
        yield from goal(f"{name}, {size}: against Keras", found, name, "keras train_on_batch", AGAINST_KERAS[size])
    shm = "shm hogwild gradient"
    yield from goal(f"{shm}, {size}: within 1.15x of gradient and kernel", found, shm, BARE, 1 / 1.15)
    if size == "0.118 M":
        yield from goal(f"{PREFETCH}, {size}: within 1.3x of shared memory", found, PREFETCH, shm, 1 / 1.3)


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: figures, goals."""
    rounds = 3 if settings.quick else 7
    with ExitStack() as stack:
        here = Path(sys.executable)
        ours = stack.enter_context(Contender("ours step", here, "benchmarks.ours.step"))
        keras = stack.enter_context(Contender("keras step", here, "benchmarks.peers.keras_step"))
        check(ours, keras, NETWORKS["0.118 M"])
        for size, units in NETWORKS.items():
            large = size != "0.118 M"
            if not settings.wants(size) or (settings.quick and large):
                continue
            blocks: dict[str, Callable[[], float]] = {
                name: partial(block, ours, units=units, batches=24 if large else 800, **options)
                for name, options in KINDS.items()
            }
            remote = {"transport": "tcp", "mode": "asynchronous", "update": "gradient", "prefetch": 1}
            blocks[PREFETCH] = partial(block, ours, units=units, batches=24 if large else 800, **remote)
            blocks[BARE] = partial(bare, ours, units=units, seconds=1.5 if large else 0.5)
            for name, kind in PEERS.items():
                blocks[name] = partial(block, keras, units=units, kind=kind, seconds=1.5 if large else 0.5)
            found = figures("step", size, "ms", interleave(blocks, rounds))
            yield from (figure.line() for figure in found.values())
            yield from goals(size, found)
