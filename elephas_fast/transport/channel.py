"""Frames over ZeroMQ: ``connect`` gives a client's channel, ``listen`` a server's listener.

The scheme of an endpoint chooses the way: ``inproc://name`` within a process, ``ipc://@name`` on one host (abstract
Unix socket, nothing on disk), ``tcp://host:port``. This room knows no message. Channels and listeners belong to the
thread that made them. Nothing blocks without a time limit and nothing lingers on close.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from elephas_fast.transport.curve import OVERHEAD, Admission, as_client, as_server

_COPY_BELOW: Final = 512 * 1024  # bytes: sending without a copy costs a call back from another thread
_QUEUE: Final = 64
_AT_ONCE: Final = 64
_NOW: Final = int(zmq.NOBLOCK)  # numbers, because the library's flags take microseconds to combine
_MORE_NOW: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _IN = int(zmq.EVENTS), int(zmq.POLLIN)
_HEARTBEAT_MS: Final = 1000
_HEARTBEAT_TIMEOUT_MS: Final = 5000
_SEVERAL: Final = 4
_HANDSHAKES: Final = int(
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
SCHEMES: Final = ("inproc", "ipc", "tcp")

Frame = bytes | bytearray | memoryview


class TransportError(ConnectionError):
    """An endpoint could not be bound or reached; the message names it."""


class _Contexts:
    """One ZeroMQ context per process, kept while somebody uses it, so that its threads end with the last socket.

    A context does not survive a fork: a child that inherits one makes its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: zmq.Context[Any] | None = None
        self._pid = 0
        self._users = 0

    def acquire(self) -> zmq.Context[Any]:
        with self._lock:
            if self._pid != os.getpid():
                self._context, self._pid, self._users = None, os.getpid(), 0
            if self._context is None:
                self._context = zmq.Context()
            self._users += 1
            return self._context

    def release(self) -> None:
        with self._lock:
            if self._pid != os.getpid():
                return
            self._users -= 1
            if self._users == 0 and self._context is not None:
                self._context.term()
                self._context = None


_contexts = _Contexts()


class Channel:
    """A client's connection to one listener. Reconnects by itself; what was in flight then is lost.

    It names itself with 128 random bits, so that the listener knows it as the same peer after a reconnection. ``key``:
    the listener's; between processes all is then encrypted.
    """

    def __init__(self, endpoint: str, key: bytes | None = None) -> None:
        guarded = _check_scheme(endpoint) != "inproc" and key is not None
        self.endpoint = endpoint
        self._socket: zmq.Socket[Any] | None = _contexts.acquire().socket(zmq.DEALER)
        self._pid = os.getpid()
        _configure(self._socket)
        self._socket.setsockopt(zmq.IDENTITY, b"c" + secrets.token_bytes(16))
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._monitor: zmq.Socket[Any] | None = None
        self._refusals, self._admitted = 0, False
        try:
            if guarded:
                assert key is not None
                as_client(self._socket, key)
                self._monitor = self._socket.get_monitor_socket(_HANDSHAKES)
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise TransportError(f"cannot connect to {endpoint}: {error.strerror}") from error

    @property
    def refused(self) -> bool:
        """Whether a listener has only ever turned this channel away, and several times: its key is another. One
        refusal may be a connection that was cut."""
        while self._monitor is not None and self._monitor.poll(0):
            if recv_monitor_message(self._monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._admitted = True
            else:
                self._refusals += 1
        return self._refusals >= _SEVERAL and not self._admitted

    def send(self, frames: Sequence[Frame], timeout: float) -> bool:
        """Queue one message; ``False`` if there was no room within ``timeout`` seconds.

        Frames of 512 KiB and more are sent without a copy: keep them unchanged until the peer has answered.
        """
        assert self._socket is not None
        deadline = time.monotonic() + timeout
        while True:
            try:
                _send(self._socket, frames)
                return True
            except zmq.Again:
                left = deadline - time.monotonic()
                if left <= 0 or not self._socket.poll(max(1, int(left * 1000)), zmq.POLLOUT):
                    return False

    def receive(self, timeout: float) -> list[memoryview] | None:
        """The next message's frames, or ``None`` after ``timeout`` seconds."""
        assert self._socket is not None
        if not self._poller.poll(max(0, int(timeout * 1000))):
            return None
        return [frame.buffer for frame in self._socket.recv_multipart(copy=False)]

    def close(self) -> None:
        """Drop the connection and what is queued. Safe to call twice."""
        if self._socket is None:
            return
        if self._pid == os.getpid():
            if self._monitor is not None:
                self._socket.disable_monitor()
                self._monitor.close(linger=0)
            self._socket.close(linger=0)
            _contexts.release()
        self._socket = self._monitor = None


class Listener:
    """A server's sockets, all read together. ``endpoints`` are what was bound, ports filled in.

    A frame of more than ``max_message_bytes`` ends its connection; replies that hold as much, and some more, may wait
    for a peer that does not read. With a ``key`` only channels that have it get in from other processes, and nothing
    that anybody else sends is seen here.
    """

    def __init__(self, endpoints: Sequence[str], max_message_bytes: int, key: bytes | None = None) -> None:
        self.endpoints: list[str] = []
        self._context: zmq.Context[Any] | None = None
        self._admission: Admission | None = None
        self._sockets: list[zmq.Socket[Any]] = []
        self._poller = zmq.Poller()
        self._watched: dict[int, Callable[[], None]] = {}
        schemes = {_check_scheme(endpoint) for endpoint in endpoints}
        if key is not None and schemes - {"inproc"}:
            self._context = zmq.Context()
            self._admission = Admission(self._context, key)
            self._poller.register(self._admission.socket, zmq.POLLIN)
        for endpoint in endpoints:
            shared = self._context is None or _check_scheme(endpoint) == "inproc"
            socket = (_contexts.acquire() if shared else self._context).socket(zmq.ROUTER)  # type: ignore[union-attr]
            self._sockets.append(socket)
            _configure(socket)
            socket.setsockopt(zmq.SNDHWM, _QUEUE + max_message_bytes // _COPY_BELOW)
            socket.setsockopt(zmq.MAXMSGSIZE, max_message_bytes + (0 if shared else OVERHEAD))
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
            socket.setsockopt(zmq.HANDSHAKE_IVL, 2000)
            if not shared and key is not None:
                as_server(socket, key)
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
                identity, *frames = source.recv_multipart(_NOW, copy=False)
                yield (index, identity.bytes), [frame.buffer for frame in frames]
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

    def send(self, peer: Any, frames: Sequence[Frame]) -> bool:
        """Send to a peer; ``False`` if it has gone or does not read. Large frames must stay unchanged afterwards."""
        index, identity = peer
        try:
            _send(self._sockets[index], [identity, *frames])
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
                _contexts.release()
        if self._admission is not None:
            self._admission.socket.close(linger=0)
            self._admission = None
        if self._context is not None:
            self._context.term()
            self._context = None


def _configure(socket: zmq.Socket[Any]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, _QUEUE)
    socket.setsockopt(zmq.RCVHWM, _QUEUE)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)


def _send(socket: zmq.Socket[Any], frames: Sequence[Frame]) -> None:
    for frame in frames[:-1]:
        socket.send(frame, _MORE_NOW, copy=len(frame) < _COPY_BELOW)
    socket.send(frames[-1], _NOW, copy=len(frames[-1]) < _COPY_BELOW)


def _check_scheme(endpoint: str) -> str:
    scheme, mark, _ = endpoint.partition("://")
    if scheme not in SCHEMES or not mark:
        raise ValueError(f"endpoint: expected a scheme of {', '.join(SCHEMES)}, got {endpoint!r}")
    return scheme
