"""One request, one reply, over a channel on which either may get lost."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from elephas_fast import _core
from elephas_fast.layout import Float32Array
from elephas_fast.transport import Address, Channel
from elephas_fast.wire import Error, Frame, Goodbye, Message, Part, ProtocolError, Wait, Weights, decode, encode

_RESEND_FIRST: Final = 2.0
_RESEND_MOST: Final = 20.0
_LEAVE_SECONDS: Final = 0.5
_SLOW_LINK: Final = 10e6  # bytes per second that a large request is given before it is sent again

Expected = type[Message] | tuple[type[Message], ...]


class ServerUnreachable(ConnectionError):
    """The server has not answered within the deadline; the message names its address and the last applied round."""


class PushRefused(RuntimeError):
    """The server refused a request; ``code`` says why: 'fenced', 'gap', 'closed', 'key', 'protocol', 'internal'."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Conversation:
    """Requests to one server, each sent again, with growing pauses, while the server is silent.

    Args:
        address: of the server, for error messages; ``endpoint``: the way to it.
        greet: called when the server does not know this connection (it was cut), with the request it refused: says
            hello again and returns the request as it is to be repeated, or the reply if there is nothing to repeat.
        standing: how far this client has come, in words, for error messages.
        timeout: seconds without any sign of the server; ``patience``: seconds of being told to wait.
        while_silent: called before each resend; may raise.

    Not thread-safe.
    """

    def __init__(
        self,
        address: Address,
        endpoint: str,
        *,
        greet: Callable[[Message], Message],
        standing: Callable[[], str],
        timeout: float,
        patience: float,
        while_silent: Callable[[], None] | None = None,
    ) -> None:
        self.timeout = timeout
        self._address = address
        self._greet = greet
        self._standing = standing
        self._patience = patience
        self._while_silent = while_silent
        self._last_request = random.getrandbits(32)
        self._channel = Channel(endpoint, address.key, encrypted=address.encrypted)

    def send(self, message: Message, payload: Sequence[Frame] = ()) -> int:
        """Send a request and return its number. ``payload`` must stay unchanged until the reply has come.

        What cannot be sent, because the connection is lost, is as lost as what was on its way.
        """
        self._last_request += 1
        self._channel.send(encode(message, payload, request=self._last_request), min(self.timeout, _RESEND_FIRST))
        return self._last_request

    def ask(
        self, message: Message, payload: Sequence[Frame] = (), *, expect: Expected, into: Float32Array | None = None
    ) -> tuple[Any, list[Frame]]:
        """Send a request and wait for its reply and the reply's payload; see ``wait_for``."""
        return self.wait_for(message, payload, self.send(message, payload), expect, into)

    def wait_for(
        self,
        message: Message,
        payload: Sequence[Frame],
        request: int,
        expect: Expected,
        into: Float32Array | None = None,
    ) -> tuple[Any, list[Frame]]:
        """The reply, of type ``expect``, to a request sent before: the first good one, however often it was sent again.

        ``into``: takes a vector that comes in parts, which are copied as they come. Raises ``ServerUnreachable`` after
        the deadline and ``PushRefused`` for an error reply.
        """
        lost_at = time.monotonic() + self.timeout
        late_at = time.monotonic() + self._patience
        pause = _RESEND_FIRST + sum(map(len, payload)) / _SLOW_LINK
        reason = damage = ""
        first = request
        while True:
            now = time.monotonic()
            if now > lost_at:
                raise self._unreachable(f"does not answer for {self.timeout:.0f} s{damage}")
            if now > late_at:
                raise self._unreachable(f"keeps this worker waiting ({reason}) for {self._patience:.0f} s")
            frames = self._channel.receive(min(pause, lost_at - now, late_at - now))
            if frames is None:
                if self._channel.refused:
                    raise PushRefused("key", f"the key does not belong to the fit of the server at {self._address}")
                if self._while_silent is not None:
                    self._while_silent()
                pause = min(_RESEND_MOST, pause * 2) * random.uniform(0.75, 1.0)
                self._channel.renew()
                request = self.send(message, payload)
                continue
            try:
                reply, reply_payload = decode(frames)
            except ProtocolError as error:  # as good as lost: the request is sent again
                damage = f" with what can be read ({error})"
                continue
            earlier = first <= reply.request < request and not isinstance(reply, Error)
            if reply.request != request and not earlier:
                continue
            if isinstance(reply, Part):  # of a vector that was given up
                lost_at = time.monotonic() + self.timeout
                continue
            parted = isinstance(reply, Weights) and reply.in_parts
            complete = not parted or self._collect(reply.request, into, pause)
            lost_at = time.monotonic() + self.timeout
            if not complete:
                pause = min(_RESEND_MOST, pause * 2)
                self._channel.renew()
                request = self.send(message, payload)
                continue
            if isinstance(reply, expect):
                return reply, reply_payload
            if isinstance(reply, Wait):
                reason = reply.reason
                if earlier:
                    continue
            elif isinstance(reply, Error) and reply.code == "hello":
                message = self._greet(message)
                if isinstance(message, expect):
                    return message, []
                first = self._last_request + 1
            elif isinstance(reply, Error):
                raise PushRefused(reply.code, reply.text)
            else:
                raise PushRefused("protocol", f"expected {_names(expect)}, got {type(reply).__name__}")
            request = self.send(message, payload)

    def _collect(self, request: int, into: Float32Array | None, pause: float) -> bool:
        """Copy the parts of a vector as they come; ``False`` if one is lost, damaged, or does not come for ``pause``
        seconds."""
        if into is None:
            raise PushRefused("protocol", "expected no weights, got a vector in parts")
        at = 0
        while at < len(into):
            frames = self._channel.receive(pause)
            if frames is None:
                return False
            try:
                part, payload = decode(frames)
            except ProtocolError:
                return False
            if part.request != request:
                continue
            count = len(payload[0]) // 4 if payload else 0
            if not isinstance(part, Part) or part.offset != at or not 0 < count <= len(into) - at:
                return False  # the connection was cut, and some are lost
            copy_floats(payload[0], into[at : at + count])
            at += count
        return True

    @property
    def inherited(self) -> bool:
        """Whether this process is a fork of the one that connected."""
        return self._channel.inherited

    def close(self) -> None:
        """Say goodbye and see it answered, within half a second: what is unsent when a channel closes is dropped. In a
        fork of the process that connected nothing is said."""
        if self.inherited:
            self._channel.close()
            return
        goodbye = Goodbye(request=self._last_request + 1)
        self._channel.send(encode(goodbye), 0.1)
        deadline = time.monotonic() + _LEAVE_SECONDS
        while frames := self._channel.receive(deadline - time.monotonic()):
            with contextlib.suppress(ProtocolError):
                if decode(frames)[0].request == goodbye.request:
                    break
        self._channel.close()

    def _unreachable(self, what: str) -> ServerUnreachable:
        return ServerUnreachable(f"the parameter server at {self._address} {what}; {self._standing()}")


def copy_floats(frame: Frame, out: Float32Array) -> None:
    """Copy a frame of as many float32 numbers as ``out`` has."""
    received = np.frombuffer(frame, np.float32)
    _core.copy(received if received.flags.aligned else received.copy(), out)


def _names(expect: Expected) -> str:
    return " or ".join(kind.__name__ for kind in (expect if isinstance(expect, tuple) else (expect,)))
