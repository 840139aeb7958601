"""A TCP proxy that can cut its connections, to see what a bad network does."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Proxy:
    """Forwards ``127.0.0.1:port`` to ``target`` (``tcp://host:port``) until closed; use as a context manager."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.passed = bytearray()
        self._cut = threading.Event()
        self._half = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def cut(self, *, half: bool = False) -> None:
        """Close every connection there is now; with ``half`` the target is not told."""
        self._half = half
        self._cut.set()

    def close(self) -> None:
        """Stop forwarding and give the port back."""
        self._closed.set()
        self._thread.join(10)
        self._listener.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._listener, selectors.EVENT_READ)
        ends: dict[socket.socket, socket.socket] = {}
        far_ends: set[socket.socket] = set()
        forgotten: list[socket.socket] = []

        def drop(end: socket.socket, half: bool = False) -> None:
            for one in (end, ends[end]):
                del ends[one]
                selector.unregister(one)
                if half and one in far_ends:
                    forgotten.append(one)
                else:
                    one.close()

        while not self._closed.is_set():
            for key, _ in selector.select(0.005):
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._listener:
                    near, _ = self._listener.accept()
                    far = socket.create_connection(self._target, 5)
                    ends[near], ends[far] = far, near
                    selector.register(near, selectors.EVENT_READ)
                    selector.register(far, selectors.EVENT_READ)
                    far_ends.add(far)
                    self.connections += 1
                elif source in ends:
                    data = b""
                    with contextlib.suppress(OSError):
                        data = source.recv(1 << 16)
                        self.passed += data[: max(0, (1 << 20) - len(self.passed))]  # the beginning is enough
                        ends[source].sendall(data)
                    if not data:
                        drop(source)
            if self._cut.is_set():
                while ends:
                    drop(next(iter(ends)), self._half)
                self._cut.clear()
        while ends:
            drop(next(iter(ends)))
        for end in forgotten:
            end.close()
        selector.close()
