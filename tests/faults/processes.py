"""What the kernel says about a process, and honest clients that run beside a fault."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from elephas_fast.client import connect
from elephas_fast.transport import Address
from tests.server.crew import integers

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM and not shared, in bytes."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def open_files(pid: int) -> int:
    """How many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


class Watched:
    """The most memory a process has had since this was made, looked at 50 times a second; a context manager."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.before = self.most = resident_bytes(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @property
    def grown(self) -> int:
        """Bytes that have been added at the most."""
        return self.most - self.before

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.most = max(self.most, resident_bytes(self._pid))

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join(10)


def push_until(address: Address, transport: str, worker: int, end: str) -> tuple[int, list[float]]:
    """Push ``integers`` until the file ``end`` exists: the number of pushes, and the seconds that each took."""
    seconds = []
    with connect(address, transport=transport, timeout=60.0) as client:
        while not os.path.exists(end):
            began = time.monotonic()
            receipt = client.push(integers(client.layout.size, worker, len(seconds)))
            seconds.append(time.monotonic() - began)
            assert receipt is not None
            assert receipt.status in ("applied", "duplicate")
    return len(seconds), seconds


def after_integers(size: int, counts: dict[int, int]) -> NDArray[np.float32]:
    """Where a vector of zeros ends after ``counts[worker]`` pushes of ``integers`` by each worker; exact in float32."""
    total = np.zeros(size, np.int64)
    for worker, count in counts.items():
        whole, rest = divmod(count, 5)  # five steps in a row are every number of the pattern once
        total += 10 * whole
        for step in range(rest):
            total += integers(size, worker, step).astype(np.int64)
    assert total.max() < 2**24
    return (-total).astype(np.float32)
