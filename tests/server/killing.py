"""Writers of one shared store, in processes of their own, some of which are killed at moments that a seed chooses.

A function that a crew runs is a process without threads, which forks its writers.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Collection
from typing import Any, NoReturn

import numpy as np

from elephas_fast import _core
from elephas_fast.client.local import LocalPath
from elephas_fast.layout import Layout
from elephas_fast.optimizers import Optimizer
from elephas_fast.store import ParameterStore, Segment


def place_of(store: ParameterStore) -> str:
    """A file by which any process of this user can attach to the store's segment."""
    return f"/proc/{os.getpid()}/fd/{store.segment.fd}"


def attach(place: str, optimizer: dict[str, Any], size: int, access: str) -> ParameterStore:
    """The store at ``place``, of one bare vector."""
    segment = Segment.attach(os.open(place, os.O_RDWR | os.O_CLOEXEC))
    return ParameterStore.attach(segment, optimizer, Layout.vector(size), access=access)


def push_ones(
    place: str, optimizer: dict[str, Any], size: int, access: str, line: int, generation: int, rounds: int
) -> int:
    """Push vectors of ones as rounds 1 .. ``rounds``; the last version."""
    ones = np.ones(size, np.float32)
    with attach(place, optimizer, size, access) as store:
        path = LocalPath(store, line, generation)
        return [path.push(clock, ones).version for clock in range(1, rounds + 1)][-1]


def forked(function: Callable[..., object], *arguments: Any) -> int:
    """A child of this process that runs ``function`` and ends with status 0 if nothing was raised."""
    pid = os.fork()
    if pid == 0:
        _end_after(function, arguments)
    return pid


def _end_after(function: Callable[..., object], arguments: tuple[Any, ...]) -> NoReturn:
    status = 1
    try:
        function(*arguments)
        status = 0
    finally:
        os._exit(status)


def push_among_the_killed(
    place: str, optimizer: dict[str, Any], size: int, access: str, kills: int, rounds: int, seed: int
) -> None:
    """Two writers on lines 0 and 1 push ``rounds`` each; on each further line one pushes until it is killed."""
    moments = random.Random(seed)
    honest = [forked(push_ones, place, optimizer, size, access, line, 1, rounds) for line in (0, 1)]
    for line in range(2, 2 + kills):
        victim = forked(push_ones, place, optimizer, size, access, line, 1, 10**9)
        time.sleep(0.01 + 0.02 * moments.random())
        os.kill(victim, signal.SIGKILL)
        assert os.waitpid(victim, 0)[1] == signal.SIGKILL
    for pid in honest:
        assert os.waitpid(pid, 0)[1] == 0


def die_holding(place: str, size: int, ready: str) -> None:
    """Take all locks over the weights, say so, and wait to be killed."""
    with Segment.attach(os.open(place, os.O_RDWR | os.O_CLOEXEC)) as segment:
        stripes = _core.Stripes(segment.stripes, np.zeros(1, np.uint64), size)
        with stripes.hold():
            with open(ready, "wb") as said:
                said.write(b"!")
            time.sleep(60)


def alone(optimizer: Optimizer, counts: Collection[int]) -> list[dict[str, np.float32]]:
    """The one weight ('weights') and its slots after each of ``counts`` pushes of a one by a single writer."""
    found = []
    one = np.ones(1, np.float32)
    with ParameterStore(np.zeros(1, np.float32), optimizer, access="racy") as store:
        for count in range(max(counts) + 1):
            if count in counts:
                found.append({"weights": store.pull()[0], **{name: slot[0] for name, slot in store.slots.items()}})
            store.push(one)
    return found
