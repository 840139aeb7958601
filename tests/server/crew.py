"""Processes that run one function after another for the tests, and the functions they run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast.client import connect
from elephas_fast.transport import Address

_context = multiprocessing.get_context("spawn")


class Crew:
    """``count`` spawned processes. Not thread-safe."""

    def __init__(self, count: int) -> None:
        self._members = [_Member() for _ in range(count)]

    def start(self, index: int, function: Callable[..., Any], *arguments: Any) -> None:
        """Have one member begin to run ``function``."""
        self._members[index].connection.send((function, arguments))

    def result(self, index: int, seconds: float) -> Any:
        """What the function that was begun last by a member returned; an exception in it is raised here."""
        return self._members[index].result(seconds)

    @property
    def pids(self) -> list[int]:
        """The members' process ids."""
        return [member.process.pid or 0 for member in self._members]

    def run(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], seconds: float) -> list[Any]:
        """The results of ``function`` for each tuple of ``arguments``, one member each, at the same time.

        An exception in one of them is raised here.
        """
        for index, given in enumerate(arguments):
            self.start(index, function, *given)
        return [member.result(seconds) for member in self._members[: len(arguments)]]

    def kill(self, index: int) -> None:
        """Kill -9 a member, which is then gone for good."""
        self._members[index].kill()

    def close(self) -> None:
        """End all members."""
        for member in self._members:
            member.kill()


class _Member:
    def __init__(self) -> None:
        self.connection, theirs = _context.Pipe()
        self.process = _context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def result(self, seconds: float) -> Any:
        if not self.connection.poll(seconds):
            raise TimeoutError(f"no result within {seconds} s")
        good, value = self.connection.recv()
        if not good:
            raise AssertionError(f"in a process of the crew:\n{value}")
        return value

    def kill(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(10)
        self.process.close()
        self.connection.close()


def _serve(connection: Connection) -> None:
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send((True, function(*arguments)))
        except BaseException:
            connection.send((False, traceback.format_exc()))


def in_threads(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], seconds: float) -> list[Any]:
    """The results of ``function`` for each tuple of ``arguments``, in threads at the same time."""
    results: dict[int, Any] = {}
    problems: list[str] = []

    def run(index: int, given: tuple[Any, ...]) -> None:
        try:
            results[index] = function(*given)
        except BaseException:
            problems.append(traceback.format_exc())

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(arguments)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    assert problems == []
    assert len(results) == len(threads), f"not finished within {seconds} s"
    return [results[index] for index in range(len(threads))]


def integers(size: int, worker: int, step: int) -> NDArray[np.float32]:
    """An update of small whole numbers, different for each worker and step; float32[size]."""
    return ((np.arange(size) + 3 * worker + step) % 5).astype(np.float32)


def noise(size: int, worker: int, step: int) -> NDArray[np.float32]:
    """An update of arbitrary numbers, different for each worker and step; float32[size]."""
    return np.random.default_rng([worker, step]).standard_normal(size).astype(np.float32)


def push_integers(address: Address, transport: str, worker: int, count: int) -> int:
    """Push ``integers`` ``count`` times; the version after the last."""
    with connect(address, transport=transport, timeout=60.0) as client:
        assert client.transport == transport
        for step in range(count):
            receipt = client.push(integers(client.layout.size, worker, step))
            assert receipt is not None
            assert receipt.status == "applied"
        return client.version


def push_rounds(address: Address, transport: str, worker: int, rounds: int) -> list[NDArray[np.float32]]:
    """Synchronous rounds of ``noise`` that weighs ``worker + 1`` rows; the weights after each round."""
    seen = []
    with connect(address, transport=transport, timeout=60.0) as client:
        for step in range(rounds):
            receipt = client.push(noise(client.layout.size, worker, step), rows=worker + 1)
            assert receipt is not None
            assert receipt.status == "accepted"
            seen.append(client.pull())
    return seen


def push_for_ever(address: Address, transport: str, started: str) -> None:
    """Push ones until killed; writes one byte to the file ``started`` after the first."""
    with open(started, "wb", buffering=0) as file, connect(address, transport=transport, timeout=60.0) as client:
        gradient = np.ones(client.layout.size, np.float32)
        client.push(gradient)
        file.write(b"x")
        while True:
            client.push(gradient)
