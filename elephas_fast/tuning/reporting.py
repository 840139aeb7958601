"""What an objective calls to say how it gets on: ``report(epoch, loss)``."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Final

from elephas_fast.transport import Address, Channel, TransportError
from elephas_fast.wire import (
    Fetch,
    Fetched,
    Frame,
    Message,
    ProtocolError,
    TrialAnswer,
    TrialBegin,
    TrialReport,
    decode,
    encode,
)

ANSWER_SECONDS: Final = 5.0
FETCH_SECONDS: Final = 120.0

Send = Callable[[int, float], bool]
_current: ContextVar[Send | None] = ContextVar("elephas_fast_trial", default=None)
_open: list[Send] = []
_lock = threading.Lock()


class TrialStopped(BaseException):
    """Raised by ``report`` in a trial that is not worth going on with. Not an ``Exception``, so that an objective that
    catches those ends all the same; ``finally`` works as ever."""


def report(epoch: int, loss: float) -> None:
    """Say that the trial under way has reached ``loss`` after ``epoch`` (any whole number that grows: epochs, batches,
    folds).

    Raises ``TrialStopped`` where the search's ``stop`` rule finds the trial hopeless. Outside a search nothing happens,
    so that an objective can be tried by hand. Thread-safe.
    """
    send = _current.get()
    if send is None and len(_open) == 1:  # a thread that the objective has started
        send = _open[0]
    if send is not None and send(int(epoch), float(loss)):
        raise TrialStopped(f"stopped after epoch {epoch} at a loss of {loss}")


@contextlib.contextmanager
def trial(send: Send) -> Iterator[None]:
    """Within it ``report`` of this thread calls ``send``."""
    token = _current.set(send)
    with _lock:
        _open.append(send)
    try:
        yield
    finally:
        with _lock:
            _open.remove(send)
        _current.reset(token)


class DeskClient:
    """A worker's line to the desk. Thread-safe, one request at a time. What is not answered in time counts as "go on":
    a driver that is busy must not cost a trial."""

    def __init__(self, address: Address, number: int, attempt: int) -> None:
        self._address, self._number, self._attempt = address, number, attempt
        self._lock = threading.Lock()
        self._requests = 0
        self._channel = Channel(str(address), address.key, encrypted=address.encrypted)

    def begin(self, worker: str) -> bool:
        """Say that the trial begins here; whether it is to end at once."""
        message = TrialBegin(key=self._address.key, trial=self._number, attempt=self._attempt, worker=worker[:256])
        return self._stops(self._ask(message, ANSWER_SECONDS))

    def report(self, epoch: int, loss: float) -> bool:
        """Say a loss; whether the trial is to end."""
        message = TrialReport(key=self._address.key, trial=self._number, attempt=self._attempt, epoch=epoch, loss=loss)
        return self._stops(self._ask(message, ANSWER_SECONDS))

    def fetch(self) -> bytes:
        """The objective. Raises ``TransportError`` where the driver does not answer."""
        answer = self._ask(Fetch(key=self._address.key), FETCH_SECONDS)
        if answer is None or not isinstance(answer[0], Fetched):
            raise TransportError(f"the driver at {self._address} did not send the objective in {FETCH_SECONDS:.0f} s")
        return bytes(answer[1][0])

    def close(self) -> None:
        """Leave. Safe to call twice."""
        self._channel.close()

    def _ask(self, message: Message, timeout: float) -> tuple[Message, list[Frame]] | None:
        with self._lock:
            self._requests += 1
            deadline = time.monotonic() + timeout
            if not self._channel.send(encode(message, request=self._requests), timeout):
                return None
            while (left := deadline - time.monotonic()) > 0:
                frames = self._channel.receive(left)
                if frames is None:
                    break
                with contextlib.suppress(ProtocolError):
                    answer = decode(frames)
                    if answer[0].request == self._requests:
                        return answer
            return None

    @staticmethod
    def _stops(answer: tuple[Message, list[Frame]] | None) -> bool:
        return answer is not None and isinstance(answer[0], TrialAnswer) and answer[0].stop
