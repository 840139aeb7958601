"""Run by ``test_checkpoint_file``: a writer of checkpoints is killed (kill -9) before, amid or after each call that it
makes to the operating system. Prints for each the call, the moment, and the epoch of the checkpoint that then loads."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from elephas_fast import checkpoint
from elephas_fast.checkpoint import CheckpointFolder

CALLS = ("open", "write", "fsync", "close", "replace", "unlink")
MOMENTS = ("before", "amid", "after")


def arrays(epoch: int) -> dict[str, Any]:
    return {"weights": np.full(1000, epoch, np.float32), "opaque": np.zeros(3, np.uint8)}


def save(folder: CheckpointFolder, epoch: int) -> None:
    folder.save(epoch, {"epoch": epoch}, arrays(epoch))


class Failpoints:
    """``checkpoint``'s view of ``os``, which kills this process at call ``at`` (counted from 0)."""

    def __init__(self, at: int = -1, moment: str = "") -> None:
        self._at, self._moment = at, moment
        self.made: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._watched(name, real) if name in CALLS else real

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            now = len(self.made)
            self.made.append(name)
            if now == self._at and self._moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            if now == self._at and self._moment == "amid" and name == "write":
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **keywords)
            if now == self._at and self._moment == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call


def loads(path: str) -> int:
    """The epoch of the checkpoint that loads, checked."""
    saved = CheckpointFolder(path).newest()
    assert saved is not None
    assert not saved.refused, saved.refused
    epoch = int(saved.about["epoch"])
    for name, expected in arrays(epoch).items():
        np.testing.assert_array_equal(saved.arrays[name], expected)
    return epoch


def main(root: str) -> None:
    watch = Failpoints()
    folder = CheckpointFolder(os.path.join(root, "counted"))
    for epoch in (1, 2):
        save(folder, epoch)
    checkpoint.os = watch  # type: ignore[assignment]
    save(folder, 3)
    for at, name in enumerate(watch.made):
        for moment in MOMENTS if name == "write" else ("before", "after"):
            checkpoint.os = os  # type: ignore[attr-defined]
            path = os.path.join(root, f"{at}-{moment}")
            folder = CheckpointFolder(path)
            for epoch in (1, 2):
                save(folder, epoch)
            child = os.fork()
            if child == 0:
                checkpoint.os = Failpoints(at, moment)  # type: ignore[assignment]
                save(folder, 3)
                os._exit(3)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status), f"{name} {moment}: the writer ended by itself"
            first = loads(path)
            resumed = CheckpointFolder(path)
            resumed.newest()
            for epoch in (first + 1, first + 2):
                save(resumed, epoch)
            print(name, moment, first, loads(path), len(os.listdir(path)))


main(sys.argv[1])
