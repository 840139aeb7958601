"""How many tasks can run at once, and who may use them.

Workers of one fit wait for each other, so all its tasks must run at the same time. Spark gives no such promise without
barrier mode, which in turn refuses dynamic allocation and waits long when slots are missing. So a fit starts only as
many tasks as there are slots, and fits of the same driver that run at once take their slots here first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from elephas_fast.spark.surroundings import Surroundings

_REGISTERING_SECONDS: Final = 10.0


def task_slots(surroundings: Surroundings, wanted: int) -> int:
    """Tasks that the cluster can run at once, at least 1.

    Executors of a young application are still registering: the first time, waits up to 10 s for ``wanted`` slots.
    """
    if surroundings.is_local or surroundings.application in _settled:
        return surroundings.slots(wanted)
    deadline = time.monotonic() + _REGISTERING_SECONDS
    while surroundings.slots(wanted) < wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    _settled.add(surroundings.application)
    return surroundings.slots(wanted)


class SlotPool:
    """The slots of one Spark application, shared by the fits of this driver. Thread-safe."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._taken = 0

    @contextmanager
    def take(self, tasks: int, slots: int, timeout: float) -> Iterator[None]:
        """Hold ``tasks`` of ``slots`` slots. Raises ``TimeoutError`` if others keep them for ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        with self._free:
            while self._taken and self._taken + tasks > slots:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(
                        f"num_workers: {tasks} tasks are needed, but other fits of this driver have held "
                        f"{self._taken} of {slots} slots for {timeout:.0f} s"
                    )
                self._free.wait(min(left, 1.0))
            self._taken += tasks
        try:
            yield
        finally:
            with self._free:
                self._taken -= tasks
                self._free.notify_all()


_settled: set[str] = set()
_pools: dict[str, SlotPool] = {}
_lock = threading.Lock()


def pool_of(application: str) -> SlotPool:
    """The pool of a Spark application."""
    with _lock:
        return _pools.setdefault(application, SlotPool())
