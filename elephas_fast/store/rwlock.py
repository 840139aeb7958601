"""Many readers or one writer."""

from __future__ import annotations

import threading


class RWLock:
    """A lock that several threads may hold to read, or one to write.

    A waiting writer goes before readers that come later, so that writers never starve. ``timeout``, where it is given,
    is in seconds, and ``TimeoutError`` is raised when it is over; without it the call waits. Not re-entrant: who
    holds the lock does not acquire it again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0

    def acquire_read(self, timeout: float | None = None) -> None:
        """Hold the lock to read."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._writing and not self._writers_waiting, timeout):
                raise TimeoutError(f"acquire_read: a writer held the lock or waited for it for {timeout} s")
            self._readers += 1

    def acquire_write(self, timeout: float | None = None) -> None:
        """Hold the lock alone."""
        with self._changed:
            self._writers_waiting += 1
            try:
                if not self._changed.wait_for(lambda: not self._writing and not self._readers, timeout):
                    raise TimeoutError(f"acquire_write: others held the lock for {timeout} s")
                self._writing = True
            finally:
                self._writers_waiting -= 1
                if not self._writing:
                    self._changed.notify_all()

    def release(self) -> None:
        """Give back what was acquired, to read or to write. Raises ``RuntimeError`` where nobody holds the lock."""
        with self._changed:
            if self._writing:
                self._writing = False
            elif self._readers:
                self._readers -= 1
            else:
                raise RuntimeError("release: expected a lock that is held, got one that nobody has acquired")
            self._changed.notify_all()
