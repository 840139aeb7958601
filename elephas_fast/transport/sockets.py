"""What channels and listeners have in common: schemes, contexts, and how frames are sent."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, Final

import zmq

COPY_BELOW: Final = 512 * 1024  # bytes: sending without a copy costs a call back from another thread
QUEUE: Final = 64
_NOW: Final = int(zmq.NOBLOCK)  # numbers, because the library's flags take microseconds to combine
_MORE_NOW: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_HEARTBEAT_MS: Final = 2500
_HEARTBEAT_TIMEOUT_MS: Final = 5000
_GIVEN_UP_AFTER_MS: Final = 15_000
SCHEMES: Final = ("inproc", "ipc", "tcp")

Frame = bytes | bytearray | memoryview


class TransportError(ConnectionError):
    """An endpoint could not be bound or reached; the message names it."""


class Contexts:
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


contexts = Contexts()


def configure(socket: zmq.Socket[Any]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, QUEUE)
    socket.setsockopt(zmq.RCVHWM, QUEUE)


def send_heartbeats(socket: zmq.Socket[Any]) -> None:
    """Let a client's socket notice a dead connection by itself, and tell its listener after which silence to give the
    connection up. The listener sends none: with a thousand clients those were half of an idle server's work."""
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, _GIVEN_UP_AFTER_MS)


def send(socket: zmq.Socket[Any], frames: Sequence[Frame]) -> None:
    for frame in frames[:-1]:
        socket.send(frame, _MORE_NOW, copy=len(frame) < COPY_BELOW)
    socket.send(frames[-1], _NOW, copy=len(frames[-1]) < COPY_BELOW)


def receive(socket: zmq.Socket[Any], flags: int = _NOW) -> list[memoryview]:
    """The frames of one message, in memory they keep to themselves; raises ``zmq.Again`` if none comes."""
    frame = socket.recv(flags, copy=False)
    frames = [frame.buffer]
    while frame.more:
        frame = socket.recv(_NOW, copy=False)
        frames.append(frame.buffer)
    return frames


def check_scheme(endpoint: str) -> str:
    scheme, mark, _ = endpoint.partition("://")
    if scheme not in SCHEMES or not mark:
        raise ValueError(f"endpoint: expected a scheme of {', '.join(SCHEMES)}, got {endpoint!r}")
    return scheme
