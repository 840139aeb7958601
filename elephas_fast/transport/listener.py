"""A server's side of the frames: all its sockets, read together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import zmq

from elephas_fast.transport.admission import Admission, as_server
from elephas_fast.transport.sealing import CHUNK, MAX_HEAD, OVERHEAD, ServerSeal
from elephas_fast.transport.sockets import (
    COPY_BELOW,
    QUEUE,
    Frame,
    TransportError,
    check_scheme,
    configure,
    contexts,
    receive,
    send,
)

_AT_ONCE: Final = 64
_WAITING: Final = 1024  # connections that have not been looked at yet; the kernel forgets those beyond it
_NOW: Final = int(zmq.NOBLOCK)  # numbers, because the library's flags take microseconds to combine
_EVENTS, _IN = int(zmq.EVENTS), int(zmq.POLLIN)


class Listener:
    """A server's sockets, all read together. ``endpoints`` are what was bound, ports filled in.

    A frame of more than ``max_message_bytes`` ends its connection, or is not heard where messages are encrypted;
    replies that hold as much, and some more, may wait for a peer that does not read. With a ``key`` only channels that
    have it get in from other processes, and nothing that anybody else sends is seen here; unless told otherwise what
    they say is ``encrypted``.

    How many frames a message may have is not limited, since ZeroMQ gathers them all before it hands any out: somebody
    who has got in can fill this process's memory.
    """

    def __init__(
        self, endpoints: Sequence[str], max_message_bytes: int, key: bytes | None = None, *, encrypted: bool = True
    ) -> None:
        self.endpoints: list[str] = []
        self._context: zmq.Context[Any] | None = None
        self._admission: Admission | None = None
        self._seal: ServerSeal | None = None
        self._sockets: list[zmq.Socket[Any]] = []
        self._poller = zmq.Poller()
        self._watched: dict[int, Callable[[], None]] = {}
        schemes = {check_scheme(endpoint) for endpoint in endpoints}
        if key is not None and schemes - {"inproc"}:
            self._context = zmq.Context()
            self._admission = Admission(self._context, key, encrypted=encrypted)
            self._seal = ServerSeal(key, max_message_bytes) if encrypted else None
            self._poller.register(self._admission.socket, zmq.POLLIN)
        for endpoint in endpoints:
            shared = self._context is None or check_scheme(endpoint) == "inproc"
            socket = (contexts.acquire() if shared else self._context).socket(zmq.ROUTER)  # type: ignore[union-attr]
            self._sockets.append(socket)
            configure(socket)
            socket.setsockopt(zmq.SNDHWM, QUEUE + max_message_bytes // COPY_BELOW)
            sealed = self._seal is not None and not shared
            longest = max(MAX_HEAD, min(CHUNK, max_message_bytes) + OVERHEAD) if sealed else max_message_bytes
            socket.setsockopt(zmq.MAXMSGSIZE, longest)
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
            socket.setsockopt(zmq.HANDSHAKE_IVL, 2000)
            socket.setsockopt(zmq.BACKLOG, _WAITING)
            if not shared:
                as_server(socket)
            try:
                socket.bind(endpoint)
            except zmq.ZMQError as error:
                self.close()
                raise TransportError(f"cannot listen on {endpoint}: {error.strerror}") from error
            self.endpoints.append(socket.getsockopt_string(zmq.LAST_ENDPOINT) or endpoint)
            self._poller.register(socket, zmq.POLLIN)

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call ``ready()`` from ``messages`` whenever the descriptor can be read."""
        self._watched[fd] = ready
        self._poller.register(fd, zmq.POLLIN)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor."""
        if self._watched.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def messages(self, timeout: float) -> Iterator[tuple[Any, list[memoryview]]]:
        """Messages that have come, ``(peer, frames)``, after waiting up to ``timeout`` for the first. Peers
        that have sent several take turns."""
        for source in self._ready(timeout):
            if isinstance(source, int):
                ready = self._watched.get(source)
                if ready is not None:
                    ready()
                continue
            index = self._sockets.index(source)
            for _ in range(_AT_ONCE):
                identity = source.recv(_NOW)
                yield from self._heard(index, identity, receive(source))
                if source.closed or not source.getsockopt(_EVENTS) & _IN:
                    break

    def _ready(self, timeout: float) -> list[Any]:
        """What can be read within ``timeout`` seconds, after those who wait for admission have their answer."""
        if self._admission is None:
            return [source for source, _ in self._poller.poll(max(0, int(timeout * 1000)))]
        deadline = time.monotonic() + timeout
        while True:
            sources = [source for source, _ in self._poller.poll(max(0, int((deadline - time.monotonic()) * 1000)))]
            if self._admission.socket not in sources:
                return sources
            self._admission.answer()
            sources.remove(self._admission.socket)
            if sources:
                return sources

    def _heard(self, index: int, identity: bytes, frames: list[memoryview]) -> Iterator[tuple[Any, list[memoryview]]]:
        """The message that somebody has sent, if it can be read and has not been heard before."""
        if self._seal is None or self._sockets[index].context is not self._context:
            yield (index, identity, None), frames
            return
        found = self._seal.open(frames)
        if found is None:
            with contextlib.suppress(zmq.ZMQError):
                send(self._sockets[index], [identity, self._seal.unreadable])
        elif found[1] is not None:
            yield (index, identity, found[0]), found[1]

    def send(self, peer: Any, frames: Sequence[Frame]) -> bool:
        """Send to a peer; ``False`` if it has gone or does not read. Large frames must stay unchanged afterwards."""
        index, identity, hearer = peer
        if self._seal is not None and hearer is not None:
            frames = self._seal.seal(hearer, frames)
        try:
            send(self._sockets[index], [identity, *frames])
        except zmq.ZMQError:
            return False
        return True

    def close(self) -> None:
        """Give ports and names back. Safe to call twice."""
        while self._sockets:
            socket = self._sockets.pop()
            shared = socket.context is not self._context
            socket.close(linger=0)
            if shared:
                contexts.release()
        if self._admission is not None:
            self._admission.socket.close(linger=0)
            self._admission = None
        if self._context is not None:
            self._context.term()
            self._context = None
