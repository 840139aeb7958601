"""The server process: ``python -m elephas_fast.server``, started by ``elephas_fast.cluster`` and by nothing else.

Standard input brings one JSON line (never the command line or the environment, which others can read) and then stays
open as a lifeline: when it ends, because the driver stopped this server or died in any way, the process ends too.
Standard output carries one JSON line back: the endpoints, or what went wrong.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from dataclasses import replace
from typing import Any, Final

from elephas_fast import _core
from elephas_fast.config import ServerSettings
from elephas_fast.layout import Layout
from elephas_fast.server.server import ParameterServer
from elephas_fast.store import ParameterStore, Segment
from elephas_fast.transport import Address, Handover, Listener, Notice, here

_MESSAGES_KEPT: Final = 64  # freed ones whose memory is used again


def main() -> int:
    """Run one server until the lifeline ends. The exit status is 0 unless it could not start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each client takes one or two
    try:
        task = json.loads(sys.stdin.readline())
        run(task)
    except Exception as error:
        _answer({"error": f"{type(error).__name__}: {error}"})
        return 1
    return 0


def run(task: dict[str, Any]) -> None:
    """Serve the segment of ``task`` (see ``cluster``) until standard input ends or the parent changes."""
    settings = ServerSettings.from_json(task["settings"])
    _core.keep_blocks(task["max_message_bytes"], _MESSAGES_KEPT * task["max_message_bytes"], one_arena=True)
    store = ParameterStore.attach(
        Segment.attach(task["segment_fd"]),
        settings.optimizer,
        Layout.from_json(task["layout"]),
        access=settings.store_access,
        threads=settings.threads,
        on_nonfinite=settings.on_nonfinite,
        state_rate=settings.state_rate,
    )
    key = bytes.fromhex(task["key"])
    sockets = [e for e in task["endpoints"] if not e.startswith("shm://")]
    shared = [e for e in task["endpoints"] if e.startswith("shm://")]
    address = Address(tuple(task["endpoints"]), key, task["security"], here())
    listener = Listener(sockets, task["max_message_bytes"], key, encrypted=address.encrypted)
    segment_fd = store.segment.fd
    assert segment_fd is not None
    handover = Handover(shared[0], segment_fd, key) if shared else None
    endpoints = listener.endpoints + shared
    notice = Notice(replace(address, endpoints=tuple(endpoints))) if task["published"] else None
    server = ParameterServer(store, settings, listener, key, handover, task["journal_fd"])
    parent = os.getppid()

    def lifeline() -> None:
        if not os.read(0, 4096):
            server.running = False

    listener.watch(0, lifeline)
    _answer({"endpoints": endpoints})
    try:
        server.serve(alive=lambda: os.getppid() == parent)
    finally:
        if notice is not None:
            notice.remove()
        server.close()
        listener.close()
        if handover is not None:
            handover.close()
        store.close()


def _answer(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    sys.exit(main())
