"""Writers of one vector in shared memory: the kernel alone with each kind of access, and whole pushes of clients."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.conversation import serve
from benchmarks.loops import clients_at_once
from elephas_fast import _core
from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.optimizers import SGD, Adam, Optimizer

RULES: dict[str, Callable[[], Optimizer]] = {
    "SGD": lambda: SGD(learning_rate=1.0),
    "Adam": lambda: Adam(learning_rate=0.001),
}
PAGE = 4096


class Board:
    """Memory that forked writers share: weights, locks, and two words: writers so far, pushes so far."""

    def __init__(self, n: int, stripe: int) -> None:
        locks = _core.Stripes.count_of(n, stripe) if stripe else 0
        vector_bytes = -(-4 * n // PAGE) * PAGE
        memory = mmap.mmap(-1, PAGE + vector_bytes + 64 * locks)
        self.words = _core.Words(np.frombuffer(memory, np.uint64, 2))
        self.weights = np.frombuffer(memory, np.float32, n, PAGE)
        self.stripes: _core.Stripes | None = None
        if stripe:
            room = np.frombuffer(memory, np.uint64, 8 * locks, PAGE + vector_bytes)
            self.stripes = _core.Stripes(room, np.frombuffer(memory, np.uint64, 1, 64), n, stripe)
            self.stripes.create()


def make_kernel_writer(board: Board, access: str) -> Callable[[], object]:
    number = board.words.add(0, 1)
    ones = np.ones(len(board.weights), np.float32)
    bound = _core.Kernel("sgd", access).bind(board.weights, (), stripes=board.stripes)

    def push() -> None:
        bound.apply((1.0,), ones, start=number)
        board.words.add(1, 1)

    return push


def kernel(n: int, writers: int, seconds: float, access: str, stripe: int) -> dict[str, Any]:
    """Pushes per second of each of `writers` processes that only run the kernel, and the share of updates lost.

    stripe: elements under one lock, 0 for no locks.
    """
    board = Board(n, stripe)
    rates = clients_at_once(make_kernel_writer, (board, access), writers, seconds, method="fork")
    seen = -float(np.mean(board.weights, dtype=np.float64))
    return {"rates": rates, "lost": 1.0 - seen / board.words.load(1)}


def make_client(n: int, address: Any) -> Callable[[], object]:
    client, ones = connect(address, transport="shm"), np.ones(n, np.float32)
    return lambda: client.push(ones)


def pushes(n: int, writers: int, seconds: float, access: str, optimizer: str) -> dict[str, Any]:
    """Pushes per second of each of `writers` hogwild clients, and for SGD the share of updates lost."""
    zeros, rule = np.zeros(n, np.float32), RULES[optimizer]()
    with ParameterCluster(zeros, optimizer=rule, mode="hogwild", transport="shm", access=access) as server:
        rates = clients_at_once(make_client, (n, server.address), writers, seconds, method="spawn")
        if optimizer != "SGD":
            return {"rates": rates, "lost": None}
        return {"rates": rates, "lost": 1.0 + float(np.mean(server.pull(), dtype=np.float64)) / server.version}


if __name__ == "__main__":
    serve({"kernel": kernel, "pushes": pushes})
