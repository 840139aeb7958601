"""What this process and this run of the tests hold right now, read from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from tests import ours


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether ``holds()`` became true within ``seconds``; looks 50 times a second."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _stat(pid: int) -> list[str]:
    """State, parent, ... of a process; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether a process runs (one that has ended and not been waited for does not)."""
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def children() -> frozenset[int]:
    """This process's children; one that has ended and not been waited for counts too."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return frozenset(pid for pid in pids if _stat(pid)[1:2] == [str(os.getpid())])


def descriptors() -> frozenset[str]:
    """This process's open files, each with what it leads to."""
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{entry} {os.readlink(f'/proc/self/fd/{entry}')}")
        except OSError:
            continue
    return frozenset(found)


def is_listening(endpoint: str) -> bool:
    """Whether somebody on this machine listens on ``tcp://127.0.0.1:port``, ``ipc://@name`` or ``shm://name``."""
    scheme, _, place = endpoint.partition("://")
    if scheme == "tcp":
        port = int(place.rpartition(":")[2])
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return any(row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port for row in rows)
    return place.lstrip("@") in Path("/proc/net/unix").read_text()


@dataclass(frozen=True)
class Holdings:
    """Things a test must give back."""

    children: frozenset[int]
    threads: frozenset[str]
    descriptors: frozenset[str]
    shared_memory: frozenset[str]
    mappings: frozenset[str]

    @classmethod
    def now(cls) -> Holdings:
        """What is held at this moment."""
        mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:" in line]
        return cls(
            children(),
            frozenset(os.listdir("/proc/self/task")),
            descriptors(),
            frozenset(ours.shared_memory()),
            frozenset(line.split()[0] for line in mapped),
        )

    def beyond(self, before: Holdings) -> dict[str, list[object]]:
        """What is held now and was not before, by kind."""
        more = {f.name: sorted(getattr(self, f.name) - getattr(before, f.name)) for f in fields(self)}
        return {kind: extra for kind, extra in more.items() if extra}
