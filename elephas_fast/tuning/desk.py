"""The driver's desk: takes what trials on workers report, says whether they go on, and hands out the objective."""

from __future__ import annotations

import hmac
import logging
import secrets
import threading
from collections.abc import Sequence
from typing import Any, Final, Protocol

from elephas_fast.transport import Address, Listener, TransportError, resolve_bind_host
from elephas_fast.wire import Fetch, Fetched, Frame, ProtocolError, TrialAnswer, TrialBegin, TrialReport, decode, encode

_MOST_BYTES: Final = 64 * 1024
_STARTING_SECONDS: Final = 10.0
log = logging.getLogger("elephas_fast")


class Listening(Protocol):
    """Who is told. Called from the desk's thread."""

    def begun(self, trial: int, attempt: int, worker: str) -> bool:
        """A trial has begun; whether it is to end at once."""

    def reported(self, trial: int, attempt: int, epoch: int, loss: float) -> bool:
        """A trial has a loss; whether it is to end."""


class Desk:
    """Listens on a free TCP port of ``host`` in a thread of its own, from ``start`` to ``stop``.

    ``parcel``: what ``Fetch`` is answered with. Who does not know the key of ``address`` gets no answer.
    """

    def __init__(self, host: str, told: Listening, parcel: bytes = b"") -> None:
        self._host = resolve_bind_host(host)
        self._told = told
        self._parcel = parcel
        self._key = secrets.token_bytes(32)
        self._ready = threading.Event()
        self._ending = threading.Event()
        self._endpoint = ""
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="elephas_fast-desk", daemon=True)

    def start(self) -> Desk:
        """Listen. Raises ``TransportError`` where that cannot be."""
        self._thread.start()
        if not self._ready.wait(_STARTING_SECONDS):
            raise TransportError(f"host: the driver could not listen on {self._host} within {_STARTING_SECONDS:.0f} s")
        if self._problem is not None:
            raise self._problem
        return self

    @property
    def address(self) -> Address:
        """Where it listens, with the key."""
        return Address((self._endpoint,), self._key)

    def stop(self) -> None:
        """Give the port back. Safe to call twice."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(_STARTING_SECONDS)

    def _run(self) -> None:
        try:
            listener = Listener([f"tcp://{self._host}:*"], _MOST_BYTES, self._key)
        except BaseException as error:
            self._problem = error
            self._ready.set()
            return
        try:
            self._endpoint = listener.endpoints[0]
            self._ready.set()
            while not self._ending.is_set():
                for peer, frames in listener.messages(0.1):
                    answer = self._answer(frames)
                    if answer is not None:
                        listener.send(peer, answer)
        finally:
            listener.close()

    def _answer(self, frames: Sequence[Frame]) -> list[Frame] | None:
        try:
            message, _ = decode(frames)
        except ProtocolError:
            return None
        key: Any = getattr(message, "key", b"")
        if not hmac.compare_digest(key, self._key):
            return None
        try:
            match message:
                case TrialBegin():
                    stop = self._told.begun(message.trial, message.attempt, message.worker)
                case TrialReport():
                    stop = self._told.reported(message.trial, message.attempt, message.epoch, message.loss)
                case Fetch():
                    return encode(Fetched(), [self._parcel], request=message.request)
                case _:
                    return None
        except Exception:  # a rule of the user's own must not end the desk
            log.warning("a rule that stops trials failed; the trial goes on", exc_info=True)
            stop = False
        return encode(TrialAnswer(stop=stop), request=message.request)
