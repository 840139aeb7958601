"""A listener that says everything back, for tests of frames between sockets."""

from __future__ import annotations

import queue
import secrets
import threading

from elephas_fast.transport import Channel, Listener

SCHEMES = ("inproc", "ipc", "tcp")
ENCRYPTED = ("ipc encrypted", "tcp encrypted")
KEY = bytes(range(32))
LIMIT = 6_000_000
WAIT = 20.0


def key_of(scheme: str) -> bytes | None:
    return KEY if scheme in ENCRYPTED else None


def fresh(scheme: str) -> str:
    return {
        "inproc": f"inproc://test-{secrets.token_hex(8)}",
        "ipc": f"ipc://@elephas_fast-test-{secrets.token_hex(8)}",
        "tcp": "tcp://127.0.0.1:*",
    }[scheme.partition(" ")[0]]


class Echo:
    """Sends every message back to its peer, from a thread of its own; a context manager."""

    def __init__(self, scheme: str) -> None:
        self._wanted, self.key = fresh(scheme), key_of(scheme)
        self._bound: queue.Queue[str] = queue.Queue()
        self._stop = threading.Event()
        self.peers: set[object] = set()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        listener = Listener([self._wanted], LIMIT, self.key)
        self._bound.put(listener.endpoints[0])
        while not self._stop.is_set():
            for peer, frames in listener.messages(0.02):
                self.peers.add(peer)
                listener.send(peer, [bytes(frame) for frame in frames])
        listener.close()
        listener.close()

    def __enter__(self) -> Echo:
        self._thread.start()
        self.endpoint = self._bound.get(timeout=WAIT)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()


def ask(channel: Channel, frames: list[bytes | bytearray | memoryview]) -> list[bytes]:
    assert channel.send(frames, WAIT)
    reply = channel.receive(WAIT)
    assert reply is not None
    return [bytes(frame) for frame in reply]
