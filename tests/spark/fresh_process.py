"""A command in a session of its own, watched until nothing of it is left: processes, sockets, shared memory, files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests import ours

_PATIENCE: Final = 40.0
DAEMON: Final = "spark.python.daemon.module=elephas_fast.spark.daemon"
_SUBMIT: Final = f"--conf spark.ui.enabled=false --conf spark.ui.showConsoleProgress=false --conf {DAEMON}"


def run(command: Sequence[str], folder: Path, *, timeout: float = 240.0) -> str:
    """What ``command`` prints on stdout. Its temporary files go to ``folder``; its Python workers are forked from a
    process that has Keras.

    Raises ``AssertionError`` where it fails, takes longer than ``timeout`` seconds, or leaves something behind.
    """
    environment = {
        **os.environ,
        "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_SUBMIT_ARGS": f"{_SUBMIT} pyspark-shell",
        "TF_CPP_MIN_LOG_LEVEL": "3", "TMPDIR": str(folder), "SPARK_LOCAL_DIRS": str(folder),
    }  # fmt: skip
    before = _named()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        for pid in _session(process.pid):
            os.kill(pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"{command} took more than {timeout} s\n{out}\n{err}") from None
    assert process.returncode == 0, f"{command} ended with {process.returncode}\n{out}\n{err}"
    left = _named() - before
    deadline = time.monotonic() + _PATIENCE
    while (_session(process.pid) or left) and time.monotonic() < deadline:
        time.sleep(0.1)
        left &= _named()
    processes = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in _session(process.pid)}
    assert not processes, f"{command} left processes behind: {processes}"
    assert not left, f"{command} left behind: {left}"
    files = list(folder.rglob("elephas_fast-*"))
    assert not files, f"{command} left files behind: {files}"
    return out


def _session(leader: int) -> set[int]:
    """The live processes of a session."""
    members = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            members.add(int(entry))
    return members


def _named() -> set[str]:
    """Sockets and shared memory of this package, by name."""
    return ours.sockets() | {f"/dev/shm/{name}" for name in ours.shared_memory() if "elephas" in name}
