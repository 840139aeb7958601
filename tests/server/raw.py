"""A client that says exactly what a test wants it to say, message by message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast.transport import Address, Channel
from elephas_fast.wire import PROTOCOL_VERSION, Ack, Frame, Hello, Message, Push, Welcome, decode, encode

WAIT = 20.0


class Raw:
    """One connection; a context manager. ``generation`` is that of the last welcome."""

    def __init__(self, address: Address, transport: str) -> None:
        endpoint = address.endpoint(transport)
        assert endpoint is not None
        self._channel = Channel(endpoint, address.key, encrypted=address.encrypted)
        self._address = address
        self._request = 100
        self.generation = 0

    def hello(self, **changes: Any) -> Message:
        """Say hello, as a client that is no partition unless ``changes`` say so."""
        fields: dict[str, Any] = {
            "protocol": PROTOCOL_VERSION, "key": self._address.key, "partition": -1, "attempt": 0, "rounds": 1,
            "outbox": False, **changes,
        }  # fmt: skip
        reply = self.ask(Hello(**fields))
        if isinstance(reply, Welcome):
            self.generation = reply.generation
        return reply

    def push(self, clock: int, gradient: NDArray[np.float32], **changes: Any) -> Message:
        """Push one update with this clock."""
        push = Push(generation=self.generation, clock=clock, base_version=0, rows=1, outbox=False)
        return self.ask(replace(push, **changes), [gradient.tobytes()])

    def applied(self, clock: int, gradient: NDArray[np.float32], **changes: Any) -> str:
        """The status of a push that is acknowledged."""
        reply = self.push(clock, gradient, **changes)
        assert isinstance(reply, Ack)
        return reply.status

    def ask(self, message: Message, payload: Sequence[Frame] = ()) -> Message:
        """The reply to a message."""
        return self.ask_all(message, payload)[0]

    def ask_all(self, message: Message, payload: Sequence[Frame] = ()) -> tuple[Message, list[Frame]]:
        """The reply to a message, and its payload."""
        self._request += 1
        reply, frames = self._exchange(encode(replace(message, request=self._request), payload))
        assert reply.request == self._request
        return reply, frames

    def ask_frames(self, frames: Sequence[Frame]) -> Message:
        """The reply to arbitrary frames."""
        return self._exchange(frames)[0]

    def _exchange(self, frames: Sequence[Frame]) -> tuple[Message, list[Frame]]:
        assert self._channel.send(frames, WAIT)
        reply = self._channel.receive(WAIT)
        assert reply is not None, "no reply"
        return decode(reply)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self._channel.close()
