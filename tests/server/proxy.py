"""A TCP proxy that does to its connections what a bad network does, at a byte that the test chooses."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_RESET: Final = struct.pack("ii", 1, 0)
_KEPT: Final = 1 << 20


@dataclass(frozen=True)
class Fault:
    """What happens to a connection once ``after`` more bytes have passed in one direction.

    ``what``: ``'cut'`` closes both ends, ``'reset'`` resets both; ``'silence'`` swallows what comes from then on in
    this direction and tells nobody; ``'stall'`` reads no more of it; ``'flip'`` turns over bit ``bit`` of the next
    byte. ``back``: the direction from the target to the client.
    """

    what: str
    after: int
    back: bool = False
    bit: int = 0


@dataclass
class _Link:
    """One connection. ``faults`` that wait, with the bytes that still pass before each."""

    near: socket.socket
    far: socket.socket
    faults: list[tuple[Fault, int]] = field(default_factory=list)
    silent: set[bool] = field(default_factory=set)


class Proxy:
    """Forwards ``127.0.0.1:port`` to ``target`` (``tcp://host:port``) until closed; use as a context manager.

    Args:
        plan: called with the number of each connection, from 0; the fault that waits for it, if any.
        rate: bytes per second of both directions together; 0: as fast as they come.

    ``there`` and ``back`` are the first bytes that passed, ``passed_there`` and ``passed_back`` how many did;
    ``fired`` counts faults that have happened.
    """

    def __init__(
        self, target: str, *, plan: Callable[[int], Fault | None] = lambda number: None, rate: float = 0.0
    ) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._plan, self._rate = plan, rate
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = self.fired = 0
        self.there, self.back = bytearray(), bytearray()
        self.passed_there = self.passed_back = 0
        self._links: dict[socket.socket, _Link] = {}
        self._forgotten: list[socket.socket] = []
        self._injected: Fault | None = None
        self._cut = threading.Event()
        self._half = False
        self._closed = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def inject(self, fault: Fault | None) -> None:
        """Have ``fault`` happen to the connection that next sends in its direction, counted from now; ``None`` takes
        one back that has not begun to count."""
        self._injected = fault

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
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._closed.is_set():
            for key, _ in self._selector.select(0.005):
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._listener:
                    self._accept()
                elif source in self._links:
                    self._pass_on(self._links[source], source)
            if self._cut.is_set():
                for link in self._all():
                    self._drop(link, half=self._half)
                self._cut.clear()
        for link in self._all():
            self._drop(link)
        for end in self._forgotten:
            end.close()
        self._selector.close()

    def _all(self) -> list[_Link]:
        return [link for end, link in self._links.items() if end is link.near]

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(self._target, 5)
        except OSError:
            near.close()
            return
        link = _Link(near, far)
        planned = self._plan(self.connections)
        if planned is not None:
            link.faults.append((planned, planned.after))
        for end in (near, far):
            end.settimeout(10)
            self._links[end] = link
            self._selector.register(end, selectors.EVENT_READ)
        self.connections += 1

    def _pass_on(self, link: _Link, source: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = source.recv(min(1 << 16, max(1, int(self._rate * 0.02))) if self._rate else 1 << 16)
        if not data:
            self._drop(link)
            return
        back = source is link.far
        if self._injected is not None and self._injected.back == back:
            link.faults.append((self._injected, self._injected.after))
            self._injected = None
        data, end = self._disturb(link, data, back)
        if back not in link.silent and data:
            self._count(data, back)
            with contextlib.suppress(OSError):
                (link.near if back else link.far).sendall(data)
        if end == "silence":
            link.silent.add(back)
        elif end == "stall":
            self._selector.unregister(source)
        elif end:
            self._drop(link, reset=end == "reset")
        if self._rate:
            time.sleep(len(data) / self._rate)

    def _disturb(self, link: _Link, data: bytes, back: bool) -> tuple[bytes, str]:
        """What of ``data`` passes, and what happens to the connection then."""
        end = ""
        for fault, left in list(link.faults):
            if fault.back != back:
                continue
            link.faults.remove((fault, left))
            if left > len(data) or (left == len(data) and fault.what == "flip"):
                link.faults.append((fault, left - len(data)))
            elif fault.what == "flip":
                data = data[:left] + bytes([data[left] ^ (1 << fault.bit)]) + data[left + 1 :]
                self.fired += 1
            else:
                data, end = data[:left], fault.what
                self.fired += 1
        return data, end

    def _count(self, data: bytes, back: bool) -> None:
        kept = self.back if back else self.there
        kept += data[: max(0, _KEPT - len(kept))]
        if back:
            self.passed_back += len(data)
        else:
            self.passed_there += len(data)

    def _drop(self, link: _Link, *, half: bool = False, reset: bool = False) -> None:
        for end in (link.near, link.far):
            del self._links[end]
            with contextlib.suppress(KeyError):  # one that is stalled is not registered
                self._selector.unregister(end)
            if half and end is link.far:
                self._forgotten.append(end)
                continue
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()
