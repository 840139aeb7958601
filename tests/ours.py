"""Which processes, sockets and shared memory this run of the tests answers for: all of the machine's, or, where
several run beside each other, workers of pytest-xdist or files of the soak, those of this one.

What it starts inherits its environment, so that an orphan is known by it too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SOAK_FILE: Final = "ELEPHAS_FAST_SOAK_FILE"
_MARKS: Final = ("PYTEST_XDIST_TESTRUNUID", "PYTEST_XDIST_WORKER", SOAK_FILE)


def processes() -> frozenset[int]:
    """The live processes this run answers for."""
    everybody = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}
    marks = _marks()
    if not marks:
        return frozenset(everybody)
    return frozenset(pid for pid in everybody if pid == os.getpid() or marks <= _environment(pid))


def sockets() -> set[str]:
    """Names of this package's Unix sockets that ``processes`` hold."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines() if "elephas_fast" in line]
    if rows and _marks():
        held = _opened(processes())
        rows = [row for row in rows if f"socket:[{row[6]}]" in held]
    return {row[-1] for row in rows}


def shared_memory() -> set[str]:
    """Names in ``/dev/shm``, without those that only other workers use; one that nobody uses any more counts."""
    names = set(os.listdir("/dev/shm"))
    if names and _marks():
        ours = processes()
        others = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()} - ours
        names -= _shared_by(others) - _shared_by(ours)
    return names


def _marks() -> set[bytes]:
    """What tells this run's processes from those of others beside it, in their environments."""
    return {f"{name}={os.environ[name]}".encode() for name in _MARKS if name in os.environ}


def _environment(pid: int) -> set[bytes]:
    """What a process was started with; a forked one has its parent's. Empty where it has ended."""
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def _opened(pids: Iterable[int]) -> set[str]:
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for entry in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):  # closed meanwhile
                    found.add(os.readlink(f"/proc/{pid}/fd/{entry}"))
    return found


def _shared_by(pids: set[int]) -> set[str]:
    prefix = "/dev/shm/"
    found = {path.removeprefix(prefix) for path in _opened(pids) if path.startswith(prefix)}
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        except OSError:
            continue
        found |= {line.partition(prefix)[2] for line in lines if prefix in line}
    return found
