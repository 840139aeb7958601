"""``ParameterServer``: decode, gate, store, reply. One thread; the arithmetic releases the GIL."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from elephas_fast.config import ServerSettings
from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.server.gate import Gate, Orders
from elephas_fast.server.outgoing import Outgoing
from elephas_fast.server.reports import Reports
from elephas_fast.server.round import Contribution, Mean, last_opaque
from elephas_fast.server.sessions import Refused, Session, Sessions
from elephas_fast.store import Counter, Mark, ParameterStore
from elephas_fast.transport import Handover, Listener
from elephas_fast.wire import (
    Ack,
    Close,
    Error,
    Frame,
    Goodbye,
    Hello,
    Message,
    Observe,
    Observed,
    ProtocolError,
    Pull,
    Push,
    Report,
    Steer,
    Wait,
    Weights,
    decode,
    encode,
)

_PARK_SECONDS: Final = 0.5
_TICK_SECONDS: Final = 0.25
_PARKED_TICK_SECONDS: Final = 0.002

log = logging.getLogger("elephas_fast.server")


Replies = Iterable[tuple[Message, list[Frame]]]


@dataclass(frozen=True)
class _Parked:
    peer: Any
    pull: Pull
    since: float


class ParameterServer:
    """Serves one store to the clients of a listener until ``running`` is set to ``False``.

    Args:
        store: the store to serve; the caller closes it.
        settings: see ``ServerSettings``.
        listener: bound sockets; the caller closes them.
        key: what a client must show in its hello.
        handover: gives the store's segment to clients on this host; ``None`` if the store is not shared.
        journal: an open file for reports that a server which follows this one has to know; see ``Reports``.

    On a segment that another server has served before, it goes on where that one was when it was killed.
    """

    def __init__(
        self,
        store: ParameterStore,
        settings: ServerSettings,
        listener: Listener,
        key: bytes,
        handover: Handover | None = None,
        journal: int | None = None,
    ) -> None:
        self.running = True
        self._store = store
        self._settings = settings
        self._listener = listener
        self._pending: dict[int, Contribution] = {}
        self._parked: list[_Parked] = []
        self._reports = Reports(store.header, journal)
        self._gate = Gate(settings.workers, settings.mode == "synchronous", settings.staleness, store.ledger.applied)
        self._gate.restore(store.ledger.members())
        self._obey(store.header.kept_orders())
        self._mean = Mean(store.layout.size, settings.threads)
        self._sessions = Sessions(store, settings, self._gate, listener, key, handover, self._drop)

    def serve(self, alive: Callable[[], bool] = lambda: True) -> None:
        """Answer requests until ``running`` or ``alive()`` is false; both are looked at four times a second."""
        while self.running and alive():
            for peer, frames in self._listener.messages(self._pause()):
                self._answer(peer, frames)
            self._unpark()
            for line in self._sessions.lost():
                self._leave(line)
                self._store.ledger.close_line(line)

    def _pause(self) -> float:
        """Seconds to wait for a message. Workers on this host apply their rounds themselves and send none, so whether a
        parked one may go on is looked at often.
        """
        return _PARKED_TICK_SECONDS if self._parked and self._settings.mode != "synchronous" else _TICK_SECONDS

    def _answer(self, peer: Any, frames: list[memoryview]) -> None:
        request = 0
        try:
            message, payload = decode(frames)
            request = message.request
            replies = self._handle(peer, message, payload)
        except ProtocolError as error:
            self._store.count(Counter.DAMAGED)
            replies = _alone(Error(code="protocol", text=str(error)[:1000]))
        except Refused as refused:
            replies = _alone(Error(code=refused.code, text=str(refused)[:1000]))
        except Exception as error:
            log.exception("request failed")
            replies = _alone(Error(code="internal", text=f"{type(error).__name__}: {error}"[:1000]))
        self._reply(peer, request, replies)

    def _reply(self, peer: Any, request: int, replies: Replies) -> None:
        for message, payload in replies:
            if not self._listener.send(peer, encode(message, payload, request=request)):
                return

    def _handle(self, peer: Any, message: Message, payload: list[Frame]) -> Replies:
        if isinstance(message, Hello):
            return _alone(self._sessions.hello(peer, message))
        session = self._sessions.find(peer)
        if session is None:
            raise Refused("hello", "expected Hello as the first message of a connection")
        self._sessions.heard(session)
        match message:
            case Push():
                return self._push(session, message, payload)
            case Pull():
                return self._pull(session, message)
            case Report():
                self._report(session, message, payload)
            case Observe(seen=seen):
                return self._observed(seen)
            case Steer():
                orders = (message.released, message.stop_at, message.learning_rate, message.server_learning_rate)
                self._store.header.keep_orders(*orders)
                self._obey(orders)
            case Close():
                self._store.stop_accepting()
            case Goodbye():
                self._drop(session)
            case _:
                raise ProtocolError(f"{type(message).__name__}: a server does not take this message")
        return _alone(Ack(status="applied", clock=0, version=self._store.version))

    def _push(self, session: Session, push: Push, payload: list[Frame]) -> Replies:
        store = self._store
        mark = Mark(session.line, push.generation, push.clock)
        if store.closed:
            store.count(Counter.LATE)
            raise Refused("closed", "the fit has ended and takes no more updates")
        verdict = store.ledger.check(mark)
        if verdict == "fenced":
            raise self._fenced(session)
        pending = self._pending.get(session.line)
        if verdict == "duplicate" or (pending is not None and pending.mark.clock == push.clock):
            store.count(Counter.DUPLICATE)
            return self._pushed(session, push, "duplicate", store.version)
        if verdict == "gap":
            applied = store.ledger.applied(session.line)
            raise Refused("gap", f"expected round {applied + 1} of line {session.line}, got {push.clock}")
        gradient, opaque = self._vectors(session, push, payload)
        if self._settings.mode == "synchronous":
            finite = store.admits(gradient)
            self._pending[session.line] = Contribution(mark, push.rows, gradient, opaque, finite)
            self._complete_round()
            return self._pushed(session, push, "accepted" if finite else "refused", store.version)
        vectors = (
            Outgoing(store.layout) if push.pull and not push.outbox and self._may_begin(session, push.clock) else None
        )
        pull = None if vectors is None else (vectors.flat, vectors.opaque)
        outcome = store.push(gradient, opaque=opaque, marks=(mark,), pull=pull)
        status = "applied" if outcome.applied else "refused"
        if vectors is None:
            return self._pushed(session, push, status, outcome.version)
        return vectors.messages(
            self._weights(session, push.clock, outcome.version, status=status, pushed=outcome.version)
        )

    def _pushed(self, session: Session, push: Push, status: str, version: int) -> Replies:
        """The reply to a push that has been dealt with."""
        if not push.pull or not self._may_begin(session, push.clock):
            return _alone(Ack(status=status, clock=push.clock, version=version))
        return self._current(session, push.clock, wanted=not push.outbox, status=status, pushed=version)

    def _may_begin(self, session: Session, clock: int) -> bool:
        """Whether the round after ``clock`` may begin now, or never will."""
        if self._gate.must_stop(session.line, clock):
            return True
        return not self._gate.why_wait(session.line, clock, training=True)

    def _vectors(self, session: Session, push: Push, payload: list[Frame]) -> tuple[Float32Array, ByteArray | None]:
        layout = self._store.layout
        if push.outbox:
            if session.outbox < 0 or payload:
                raise ProtocolError("Push: expected an outbox or payload frames, got neither or both")
            flat, opaque = self._store.segment.outbox(session.outbox)
            return flat, opaque if push.opaque else None
        expected = [4 * layout.size] + ([layout.opaque_size] if push.opaque else [])
        got = [len(frame) for frame in payload]
        if got != expected:
            raise ProtocolError(f"Push: expected payload frames of {expected} bytes, got {got}")
        flat = np.frombuffer(payload[0], np.float32)
        if not flat.flags.aligned:
            flat = flat.copy()
        return flat, np.frombuffer(payload[1], np.uint8) if push.opaque else None

    def _complete_round(self) -> None:
        if self._store.closed or not self._gate.round_complete(self._pending):
            return
        given = [self._pending[line] for line in sorted(self._pending)]
        self._pending.clear()
        marks = [p.mark for p in given]
        finite = [p for p in given if p.finite]
        if finite:
            self._store.push(self._mean.of(finite), opaque=last_opaque(finite), marks=marks)
        else:
            self._store.skip(marks)
        self._gate.advance()
        for pending in given:
            if pending.orphan:
                self._store.ledger.close_line(pending.mark.line)

    def _pull(self, session: Session, pull: Pull) -> Replies:
        if pull.purpose not in ("train", "evaluate", "observe"):
            raise ProtocolError(f"Pull.purpose: expected train, evaluate or observe, got {pull.purpose}")
        if pull.purpose != "observe" and self._lost(session, pull.clock):
            raise Refused("hello", f"round {pull.clock} was lost with another server: say hello and push it again")
        if self._why_wait(session, pull):
            self._parked.append(_Parked(session.peer, pull, time.monotonic()))
            return ()
        return self._current(session, pull.clock, training=pull.purpose == "train", wanted=pull.weights)

    def _lost(self, session: Session, clock: int) -> bool:
        """Whether a round was accepted by a server before this one and lost with it: only a hello tells its sender."""
        synchronous, line = self._settings.mode == "synchronous", session.line
        return synchronous and line not in self._pending and clock > self._store.ledger.applied(line)

    def _why_wait(self, session: Session, pull: Pull) -> str:
        training = pull.purpose == "train"
        if pull.purpose == "observe" or (training and self._gate.must_stop(session.line, pull.clock)):
            return ""
        return self._gate.why_wait(session.line, pull.clock, training=training)

    def _current(
        self, session: Session, clock: int, *, wanted: bool, training: bool = True, status: str = "", pushed: int = 0
    ) -> Replies:
        """The weights as they are, with the vectors if they are ``wanted``."""
        vectors = Outgoing(self._store.layout) if wanted else None
        version = self._store.version if vectors is None else self._store.read(vectors.flat, vectors.opaque)
        weights = self._weights(session, clock, version, training=training, status=status, pushed=pushed)
        return _alone(weights) if vectors is None else vectors.messages(weights)

    def _weights(
        self, session: Session, clock: int, version: int, *, training: bool = True, status: str = "", pushed: int = 0
    ) -> Weights:
        orders = self._gate.orders
        return Weights(
            version=version,
            stop=training and self._gate.must_stop(session.line, clock),
            learning_rate=orders.learning_rate,
            server_learning_rate=orders.server_learning_rate,
            status=status,
            clock=clock,
            pushed=pushed,
        )

    def _unpark(self) -> None:
        if not self._parked:
            return
        parked, self._parked = self._parked, []
        now = time.monotonic()
        for entry in parked:
            session, pull = self._sessions.find(entry.peer), entry.pull
            if session is None:
                continue
            reason = self._why_wait(session, pull)
            if not reason:
                replies = self._current(session, pull.clock, training=pull.purpose == "train", wanted=pull.weights)
                self._reply(entry.peer, pull.request, replies)
            elif now - entry.since > _PARK_SECONDS:
                self._reply(entry.peer, pull.request, _alone(Wait(reason=reason)))
            else:
                self._parked.append(entry)

    def _obey(self, orders: tuple[int, int, float, float] | None) -> None:
        """Take the driver's orders."""
        if orders is not None:
            self._gate.orders = Orders(*orders)
            self._store.set_learning_rate(self._gate.orders.server_learning_rate)

    def _report(self, session: Session, report: Report, payload: list[Frame]) -> None:
        if session.generation != self._store.ledger.generation(session.line):
            raise self._fenced(session)
        self._reports.add(report, payload)
        if report.kind == "done":
            self._leave(session.line)

    def _leave(self, line: int) -> None:
        """Nobody waits for this member any more."""
        self._store.ledger.finish(line)
        self._gate.leave(line)
        self._complete_round()

    def _fenced(self, session: Session) -> Refused:
        self._store.count(Counter.FENCED)
        return Refused("fenced", f"a newer attempt of partition {session.line} has taken over")

    def _observed(self, seen: int) -> Replies:
        seen, frames, more = self._reports.after(seen)
        faults = tuple(self._store.counts().values())
        return _alone(Observed(seen=seen, more=more, version=self._store.version, faults=faults), frames)

    def _drop(self, session: Session) -> None:
        pending = self._pending.get(session.line)
        if session.outbox >= 0 and pending is not None:
            pending.detach()
        self._sessions.drop(session)
        if not session.is_partition:
            if pending is None:
                self._store.ledger.close_line(session.line)
            else:
                pending.orphan = True
            self._leave(session.line)

    def close(self) -> None:
        """Close the connections this server opened itself. The caller closes listener, handover and store."""
        self._sessions.close()


def _alone(message: Message, payload: Sequence[Frame] = ()) -> Replies:
    """A reply of one message."""
    return [(message, [*payload])]
