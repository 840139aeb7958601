"""The server's process, seen from the driver: started, watched, and started again where it is killed.

The state a server serves is in a segment that the driver holds too, so the process that follows another goes on with
it, under the same addresses.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0
_ATTEMPTS: Final = 3  # starts in a row that fail, after which the server is lost
_PAUSE_SECONDS: Final = 0.2
PROGRAM: tuple[str, ...] = ("-m", "elephas_fast.server")


class ServerLost(ConnectionError):
    """The server process ended and could not be started again, or never started; the message names its address."""


class ServerProcess:
    """One server process after another, for one segment.

    Args:
        task: what ``elephas_fast.server.__main__.run`` is told; its ``endpoints`` are bound.
        fds: descriptors that the process inherits.
        restarted: called, in the supervisor's thread, each time another process has taken over.

    ``launch`` and ``ready`` start it; ``stop`` ends it. Thread-safe after ``ready``.
    """

    def __init__(self, task: dict[str, Any], fds: list[int], restarted: Callable[[], None]) -> None:
        self.endpoints: list[str] = []
        self._task, self._fds, self._restarted = task, fds, restarted
        self._process: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()
        self._driver = os.getpid()
        self._lost: ServerLost | None = None
        self._supervisor: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """The process id; ``None`` before ``launch`` and after ``stop``."""
        return None if self._process is None else self._process.pid

    def launch(self) -> None:
        """Begin to start the process; ``ready`` waits for it."""
        process = subprocess.Popen(
            [sys.executable, *PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=self._fds,
            text=True,
            env=_environment(),
            start_new_session=True,
        )
        self._process = process
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # a process that has ended says why on its standard output
            process.stdin.write(json.dumps(self._task) + "\n")
            process.stdin.flush()

    def ready(self) -> None:
        """Wait until the server listens, and watch over it from now on. Raises ``ServerLost`` with its own words."""
        self._task["endpoints"] = self.endpoints = self._answer()
        self._supervisor = threading.Thread(target=self._supervise, name="elephas_fast-supervisor", daemon=True)
        self._supervisor.start()

    def check(self) -> None:
        """Raise ``ServerLost`` if the server has ended for good."""
        if self._lost is not None:
            raise self._lost

    def stop(self) -> None:
        """End the process. Safe to call twice; does nothing in a fork of the driver, whose server it is not."""
        if os.getpid() != self._driver:
            return
        self._stopping.set()
        process = self._process
        if process is not None:
            _hang_up(process)
        if self._supervisor is not None:
            self._supervisor.join(_STOP_SECONDS)
            if self._supervisor.is_alive() and self._process is not None:
                self._process.kill()
                self._supervisor.join(_STOP_SECONDS)
            self._supervisor = None
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _supervise(self) -> None:
        """Wait for the process's end, and start another, until told to stop or until that fails."""
        while True:
            assert self._process is not None
            status = self._process.wait()
            if self._stopping.is_set():
                return
            ended = f"ended with status {status}"
            try:
                self._follow()
            except (ServerLost, OSError) as error:
                if not self._stopping.is_set():
                    self._lost = ServerLost(f"{ended} and could not be started again: {error}")
                return
            self._restarted()

    def _follow(self) -> None:
        """Start another process on the same segment and the same endpoints."""
        for attempt in range(_ATTEMPTS):
            assert self._process is not None
            _end(self._process)
            try:
                self.launch()
                if self._stopping.is_set():  # `stop` may have seen the process before this one
                    _hang_up(self._process)
                self._answer()
                return
            except (ServerLost, OSError):
                if attempt == _ATTEMPTS - 1 or self._stopping.is_set():
                    raise
            time.sleep(_PAUSE_SECONDS)

    def _answer(self) -> list[str]:
        """The endpoints that the process has bound."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            ready, _, _ = select.select([self._process.stdout], [], [], _START_SECONDS)
            line = self._process.stdout.readline() if ready else ""
        except OSError as error:
            ready, line = [], json.dumps({"error": str(error)})
        silence = "its process ended" if ready else f"no answer within {_START_SECONDS:.0f} s"
        answer: dict[str, Any] = json.loads(line) if line else {"error": silence}
        if "error" in answer:
            raise ServerLost(f"the parameter server could not start: {answer['error']}")
        endpoints: list[str] = answer["endpoints"]
        return endpoints


def _hang_up(process: subprocess.Popen[str]) -> None:
    """Close the standard input that keeps a server running."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()


def _end(process: subprocess.Popen[str]) -> None:
    """Wait for a process that has been told to end, and give its pipes back."""
    _hang_up(process)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_SECONDS)
    assert process.stdout is not None
    process.stdout.close()


def _environment() -> dict[str, str]:
    """The server's environment: this one, with this package importable, and one BLAS thread (it uses none)."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    environment["OPENBLAS_NUM_THREADS"] = "1"
    return environment
