"""The driver's end: starts a contender's process, asks it with a deadline, and leaves no process behind."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers.install import folder

ROOT = Path(__file__).resolve().parent.parent


class ContenderError(RuntimeError):
    """A contender failed, ended or did not answer before its deadline; the text names its log."""


class Contender:
    """A process that runs `python -m module` and answers JSON lines. Not thread-safe.

    python: interpreter of the contender's environment; variables: added to its environment variables.
    Its stderr goes to `<peers folder>/logs/<name>.log`.
    """

    def __init__(self, name: str, python: Path, module: str, variables: Mapping[str, str] | None = None):
        self.name = name
        logs = folder() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"{name.replace(' ', '-')}.log"
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2",
            "PYSPARK_PYTHON": str(python), "PYSPARK_DRIVER_PYTHON": str(python), **(variables or {}),
        }  # fmt: skip
        environment.pop("SPARK_HOME", None)
        with self.log.open("wb") as errors:
            self._process = subprocess.Popen(
                [str(python), "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                env=environment, start_new_session=True, bufsize=0,
            )  # fmt: skip
        self._selector = selectors.DefaultSelector()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._selector.register(self._replies, selectors.EVENT_READ)
        self._buffer = bytearray()

    def ask(self, call: str, *, deadline: float = 300.0, **arguments: Any) -> dict[str, Any]:
        """The result of one call; `deadline` in seconds. Raises ContenderError."""
        try:
            self._requests.write(json.dumps({"call": call, **arguments}).encode() + b"\n")
        except BrokenPipeError:
            raise ContenderError(f"{self.name} has ended; see {self.log}") from None
        reply = json.loads(self._line(time.monotonic() + deadline, call))
        if "error" in reply:
            raise ContenderError(f"{self.name} failed in {call!r}; see {self.log}:\n{reply['error'][:4000]}")
        result: dict[str, Any] = reply["result"]
        return result

    def _line(self, until: float, call: str) -> bytes:
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                raise ContenderError(f"{self.name} did not answer {call!r} in time; see {self.log}")
            chunk = os.read(self._replies.fileno(), 1 << 16)
            if not chunk:
                raise ContenderError(f"{self.name} ended during {call!r}; see {self.log}")
            self._buffer += chunk
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line

    def close(self) -> None:
        """Ends the process: by closing its stdin, then by signals to its own process group."""
        self._selector.close()
        self._requests.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._signal(signal.SIGKILL)
        self._process.wait(5)
        self._replies.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def __enter__(self) -> Contender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
