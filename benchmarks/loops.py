"""Timing loops used inside contenders: one client, or several processes at once. Standard library only."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

Operation = Callable[[], object]


def loop(operation: Operation, seconds: float, least: int = 5) -> list[float]:
    """Seconds of each call of `operation`: at least `least` calls, then until `seconds` have passed."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        begin = time.perf_counter()
        operation()
        times.append(time.perf_counter() - begin)
    return times


def _work(make: Callable[..., Operation], arguments: tuple[Any, ...], start: Any, seconds: float, line: Any) -> None:
    operation = make(*arguments)
    operation()
    start.wait(120)
    begin = time.perf_counter()
    count = 0
    while time.perf_counter() - begin < seconds:
        operation()
        count += 1
    line.send(count / (time.perf_counter() - begin))


def clients_at_once(
    make: Callable[..., Operation], arguments: tuple[Any, ...], clients: int, seconds: float, method: str
) -> list[float]:
    """Operations per second of each of `clients` processes, all looping for the same `seconds`.

    make(*arguments) runs in each process and returns the operation; `method` is 'fork' or 'spawn'.
    """
    context: Any = multiprocessing.get_context(method)
    start = context.Barrier(clients)
    lines = [context.Pipe(duplex=False) for _ in range(clients)]
    processes = [context.Process(target=_work, args=(make, arguments, start, seconds, sender)) for _, sender in lines]
    try:
        for process in processes:
            process.start()
        until = time.monotonic() + seconds + 150
        return [receiver.recv() if receiver.poll(max(0.0, until - time.monotonic())) else 0.0 for receiver, _ in lines]
    finally:
        for process in processes:
            process.join(5)
            process.kill()
            process.join()
