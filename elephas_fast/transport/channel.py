"""A client's side of the frames: one connection to one listener."""

from __future__ import annotations

import os
import secrets
import struct
import time
from collections.abc import Sequence
from typing import Any, Final

import zmq

from elephas_fast.transport.admission import as_client
from elephas_fast.transport.sealing import ClientSeal
from elephas_fast.transport.sockets import (
    Frame,
    TransportError,
    check_scheme,
    configure,
    contexts,
    receive,
    send,
    send_heartbeats,
)

_EVENT: Final = struct.Struct("=Hi")  # what a monitor sends first (zmq_socket_monitor(3))
_SEVERAL: Final = 4
_GLANCE_MS: Final = 50  # from one look at the connection to the next while waiting for a message
_MONITORED: Final = int(
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
)


class Channel:
    """A client's connection to one listener. What was in flight when it is cut is lost: ``renew`` and send again.

    It names itself with 128 random bits, so that the listener knows it as the same peer after a reconnection. ``key``:
    the listener's; between processes all is then ``encrypted``, unless the listener does not. It is of use only to the
    process that made it: after a fork the child has to make its own.
    """

    def __init__(self, endpoint: str, key: bytes | None = None, *, encrypted: bool = True) -> None:
        self._local = check_scheme(endpoint) == "inproc"
        self.endpoint = endpoint
        self._key, self._encrypted = key, encrypted
        self._seal = ClientSeal(key) if key is not None and encrypted and not self._local else None
        self._name = b"c" + secrets.token_bytes(16)
        self._pid = os.getpid()
        self._refusals, self._admitted, self._lost, self._back = 0, False, False, False
        self._monitor: zmq.Socket[Any] | None = None
        self._socket: zmq.Socket[Any] | None = None
        self._context: zmq.Context[Any] | None = contexts.acquire()
        try:
            self._open()
        except zmq.ZMQError as error:
            self.close()
            raise TransportError(f"cannot connect to {endpoint}: {error.strerror}") from error

    def _open(self) -> None:
        assert self._context is not None
        self._socket = socket = self._context.socket(zmq.DEALER)
        configure(socket)
        send_heartbeats(socket)
        socket.setsockopt(zmq.IDENTITY, self._name)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        if not self._local:
            if self._key is not None:
                as_client(socket, self._key, encrypted=self._encrypted)
            self._monitor = socket.get_monitor_socket(_MONITORED)
        self._waits = -1
        socket.connect(self.endpoint)

    def _shut(self) -> None:
        if self._monitor is not None:
            assert self._socket is not None
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._monitor = None
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def renew(self) -> None:
        """Connect anew where the connection has been lost, at once and with an empty queue.

        ZeroMQ comes back by itself after a connection that was cut, but not after one on which something came that is
        not its protocol (a changed byte, another program's words on the server's port).
        """
        self._own()
        self._look()
        if self._lost:
            self._lost = self._back = False
            self._shut()
            self._open()

    def _look(self) -> None:
        """Take note of what has happened to the connection."""
        while self._monitor is not None and self._monitor.poll(0):
            event, _ = _EVENT.unpack(self._monitor.recv_multipart()[0])
            self._lost = event != zmq.EVENT_HANDSHAKE_SUCCEEDED
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._admitted, self._back = True, self._admitted
            elif event != zmq.EVENT_DISCONNECTED:
                self._refusals += _SEVERAL if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH else 1

    @property
    def refused(self) -> bool:
        """Whether a listener has only ever turned this channel away: its key is another. It may say so; where it
        merely hangs up, once may be a connection that was cut, and several times is not."""
        self._look()
        return self._refusals >= _SEVERAL and not self._admitted

    def send(self, frames: Sequence[Frame], timeout: float) -> bool:
        """Queue one message; ``False`` if there was no room within ``timeout`` seconds.

        Frames of 512 KiB and more are sent without a copy: keep them unchanged until the peer has answered.
        """
        socket = self._own()
        deadline = time.monotonic() + timeout
        if self._seal is not None:
            frames = self._seal.seal(frames)
        while True:
            try:
                send(socket, frames)
                return True
            except zmq.Again:
                left = deadline - time.monotonic()
                if left <= 0 or not socket.poll(max(1, int(left * 1000)), zmq.POLLOUT):
                    return False

    def receive(self, timeout: float) -> list[memoryview] | None:
        """The next message's frames, or ``None`` after ``timeout`` seconds, or sooner where the connection was lost and
        is back, or there is another listener, so that what was in flight may be sent again at once.
        """
        socket = self._own()
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            self._wait_at_most(socket, min(_GLANCE_MS, max(0, int(left * 1000))))
            try:
                frames = receive(socket, 0)
            except zmq.Again:
                self._look()
                if self._back or left <= 0:
                    self._back = False
                    return None
                continue
            if self._seal is None:
                return frames
            opened = self._seal.open(frames)
            if opened is not None or self._seal.meets_another(frames) or left <= 0:
                return opened

    def _wait_at_most(self, socket: zmq.Socket[Any], milliseconds: int) -> None:
        if milliseconds != self._waits:
            socket.setsockopt(zmq.RCVTIMEO, milliseconds)
            self._waits = milliseconds

    @property
    def inherited(self) -> bool:
        """Whether this process is a fork of the one that made the channel."""
        return self._pid != os.getpid()

    def _own(self) -> zmq.Socket[Any]:
        if self.inherited:
            raise RuntimeError(
                f"{self.endpoint}: expected to be used in process {self._pid}, which connected, got process "
                f"{os.getpid()}, a fork of it; connect again there"
            )
        assert self._socket is not None
        return self._socket

    def close(self) -> None:
        """Drop the connection and what is queued; in a fork, nothing. Safe to call twice."""
        if self._context is None or self.inherited:
            return
        self._shut()
        contexts.release()
        self._context = None
