"""``ParameterServer``: decode, gate, store, reply. One thread; the arithmetic releases the GIL."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from elephas_fast.config import ServerSettings
from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.server.gate import Gate, Orders
from elephas_fast.server.reports import Reports
from elephas_fast.server.round import Contribution, Mean, last_opaque
from elephas_fast.store import Counter, Mark, ParameterStore
from elephas_fast.transport import Handover, Lifeline, Listener
from elephas_fast.wire import (
    PROTOCOL_VERSION,
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
    Welcome,
    decode,
    encode,
)

_PARK_SECONDS: Final = 0.5
_TICK_SECONDS: Final = 0.25

log = logging.getLogger("elephas_fast.server")


@dataclass
class _Session:
    """A client that has said hello."""

    peer: Any
    line: int
    generation: int
    outbox: int
    is_partition: bool


@dataclass(frozen=True)
class _Parked:
    peer: Any
    pull: Pull
    since: float


class _Refused(Exception):
    """A request that is answered with an ``Error``."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class ParameterServer:
    """Serves one store to the clients of a listener until ``running`` is set to ``False``.

    Args:
        store: the store to serve; the caller closes it.
        settings: see ``ServerSettings``.
        listener: bound sockets; the caller closes them.
        key: what a client must show in its hello.
        handover: gives the store's segment to clients on this host; ``None`` if the store is not shared.
    """

    def __init__(
        self,
        store: ParameterStore,
        settings: ServerSettings,
        listener: Listener,
        key: bytes,
        handover: Handover | None = None,
    ) -> None:
        self.running = True
        self._store = store
        self._settings = settings
        self._listener = listener
        self._key = key
        self._handover = handover
        self._sessions: dict[Any, _Session] = {}
        self._free_outboxes = list(range(store.segment.shape.outboxes - 1, -1, -1))
        self._lifelines: dict[int, Lifeline] = {}
        self._pending: dict[int, Contribution] = {}
        self._parked: list[_Parked] = []
        self._reports = Reports()
        self._gate = Gate(settings.workers, settings.mode == "synchronous", settings.staleness, store.ledger.applied)
        self._mean = Mean(store.layout.size, settings.threads)
        store.ledger.reserve(settings.partitions)
        if handover is not None:
            listener.watch(handover.fileno(), self._hand_over)

    def serve(self, alive: Callable[[], bool] = lambda: True) -> None:
        """Answer requests until ``running`` or ``alive()`` is false; both are looked at four times a second."""
        while self.running and alive():
            for peer, frames in self._listener.poll(_TICK_SECONDS):
                self._answer(peer, frames)
            self._unpark()

    def _answer(self, peer: Any, frames: list[memoryview]) -> None:
        request = 0
        try:
            message, payload = decode(frames)
            request = message.request
            reply, reply_payload = self._handle(peer, message, payload)
        except ProtocolError as error:
            self._store.count(Counter.DAMAGED)
            reply, reply_payload = Error(code="protocol", text=str(error)[:1000]), []
        except _Refused as refused:
            reply, reply_payload = Error(code=refused.code, text=str(refused)[:1000]), []
        except Exception as error:
            log.exception("request failed")
            reply, reply_payload = Error(code="internal", text=f"{type(error).__name__}: {error}"[:1000]), []
        if reply is not None:
            self._reply(peer, replace(reply, request=request), reply_payload)

    def _reply(self, peer: Any, message: Message, payload: list[Frame]) -> None:
        self._listener.send(peer, encode(message, payload))

    def _handle(self, peer: Any, message: Message, payload: list[Frame]) -> tuple[Message | None, list[Frame]]:
        if isinstance(message, Hello):
            return self._hello(peer, message), []
        session = self._sessions.get(peer)
        if session is None:
            raise _Refused("hello", "expected Hello as the first message of a connection")
        match message:
            case Push():
                return self._push(session, message, payload), []
            case Pull():
                return self._pull(session, message)
            case Report():
                return self._report(session, message, payload), []
            case Observe(seen=seen):
                return self._observed(seen)
            case Steer():
                self._gate.orders = Orders(
                    message.released, message.stop_at, message.learning_rate, message.server_learning_rate
                )
                self._store.set_learning_rate(message.server_learning_rate)
                return Ack(status="applied", clock=0, version=self._store.version), []
            case Close():
                self._store.stop_accepting()
                return Ack(status="applied", clock=0, version=self._store.version), []
            case Goodbye():
                self._drop(session)
                return Ack(status="applied", clock=0, version=self._store.version), []
            case _:
                raise ProtocolError(f"{type(message).__name__}: a server does not take this message")

    def _hello(self, peer: Any, hello: Hello) -> Message:
        if hello.protocol != PROTOCOL_VERSION:
            raise _Refused("protocol", f"expected protocol {PROTOCOL_VERSION}, got {hello.protocol}: update the peer")
        if not hmac.compare_digest(hello.key, self._key):
            self._store.count(Counter.DAMAGED)
            raise _Refused("key", "the key does not belong to this fit")
        ledger = self._store.ledger
        old = self._sessions.get(peer)
        is_partition = hello.partition >= 0
        if is_partition:
            if hello.partition >= self._settings.partitions:
                raise _Refused("protocol", f"expected a partition below {self._settings.partitions}")
            line = hello.partition
            admitted = ledger.hello(line, hello.attempt)
            if admitted is None:
                self._store.count(Counter.FENCED)
                raise _Refused("fenced", f"a newer attempt of partition {line} has taken over")
        else:
            opened = old.line if old is not None else ledger.open_line()
            if opened is None:
                raise _Refused("full", "all lines of the ledger are taken, no more clients are admitted")
            line = opened
            admitted = ledger.hello(line, 0)
            assert admitted is not None
        if ledger.abandon(line):
            self._store.count(Counter.PARTIAL)
            admitted = (admitted[0], ledger.applied(line))
        outbox = old.outbox if old is not None else -1
        if hello.outbox and outbox < 0 and self._free_outboxes:
            outbox = self._free_outboxes.pop()
        self._sessions[peer] = _Session(peer, line, admitted[0], outbox, is_partition)
        if hello.rounds or is_partition:
            self._gate.join(line, hello.rounds, newcomer=not is_partition and old is None)
        return Welcome(
            line=line,
            generation=admitted[0],
            clock=admitted[1],
            version=self._store.version,
            outbox=outbox,
            fingerprint=self._store.layout.fingerprint,
            layout=self._store.layout.to_json(),
            settings=self._settings.to_json(),
        )

    def _push(self, session: _Session, push: Push, payload: list[Frame]) -> Message:
        store = self._store
        mark = Mark(session.line, push.generation, push.clock)
        if store.closed:
            store.count(Counter.LATE)
            raise _Refused("closed", "the fit has ended and takes no more updates")
        verdict = store.ledger.check(mark)
        if verdict == "fenced":
            store.count(Counter.FENCED)
            raise _Refused("fenced", f"a newer attempt of partition {session.line} has taken over")
        pending = self._pending.get(session.line)
        if verdict == "duplicate" or (pending is not None and pending.mark.clock == push.clock):
            store.count(Counter.DUPLICATE)
            return Ack(status="duplicate", clock=push.clock, version=store.version)
        if verdict == "gap":
            applied = store.ledger.applied(session.line)
            raise _Refused("gap", f"expected round {applied + 1} of line {session.line}, got {push.clock}")
        gradient, opaque = self._vectors(session, push, payload)
        if self._settings.mode == "synchronous":
            finite = store.admits(gradient)
            self._pending[session.line] = Contribution(mark, push.rows, gradient, opaque, finite)
            self._complete_round()
            return Ack(status="accepted" if finite else "refused", clock=push.clock, version=store.version)
        outcome = store.push(gradient, opaque=opaque, marks=(mark,))
        return Ack(status="applied" if outcome.applied else "refused", clock=push.clock, version=outcome.version)

    def _vectors(self, session: _Session, push: Push, payload: list[Frame]) -> tuple[Float32Array, ByteArray | None]:
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

    def _pull(self, session: _Session, pull: Pull) -> tuple[Message | None, list[Frame]]:
        if pull.purpose not in ("train", "evaluate", "observe"):
            raise ProtocolError(f"Pull.purpose: expected train, evaluate or observe, got {pull.purpose}")
        if pull.purpose != "observe":
            training = pull.purpose == "train"
            if not (training and self._gate.must_stop(session.line, pull.clock)) and self._gate.why_wait(
                session.line, pull.clock, training=training
            ):
                self._parked.append(_Parked(session.peer, pull, time.monotonic()))
                return None, []
        return self._weights(session, pull)

    def _weights(self, session: _Session, pull: Pull) -> tuple[Message, list[Frame]]:
        store, layout = self._store, self._store.layout
        payload: list[Frame] = []
        version = store.version
        if pull.weights:
            if pull.outbox and session.outbox >= 0:
                flat, opaque = store.segment.outbox(session.outbox)
            else:
                flat, opaque = np.empty(layout.size, np.float32), np.empty(layout.opaque_size, np.uint8)
                payload = [flat.view(np.uint8).data]
                if layout.opaque_size:
                    payload.append(opaque.data)
            version = store.read(flat, opaque)
        stop = pull.purpose == "train" and self._gate.must_stop(session.line, pull.clock)
        orders = self._gate.orders
        return Weights(
            version=version,
            stop=stop,
            learning_rate=orders.learning_rate,
            server_learning_rate=orders.server_learning_rate,
        ), payload

    def _unpark(self) -> None:
        if not self._parked:
            return
        parked, self._parked = self._parked, []
        now = time.monotonic()
        for entry in parked:
            session = self._sessions.get(entry.peer)
            if session is None:
                continue
            training = entry.pull.purpose == "train"
            stopped = training and self._gate.must_stop(session.line, entry.pull.clock)
            reason = "" if stopped else self._gate.why_wait(session.line, entry.pull.clock, training=training)
            if not reason:
                reply, payload = self._weights(session, entry.pull)
                self._reply(entry.peer, replace(reply, request=entry.pull.request), payload)
            elif now - entry.since > _PARK_SECONDS:
                self._reply(entry.peer, Wait(request=entry.pull.request, reason=reason), [])
            else:
                self._parked.append(entry)

    def _report(self, session: _Session, report: Report, payload: list[Frame]) -> Message:
        self._reports.add(report, payload)
        if report.kind == "done":
            self._store.ledger.finish(session.line)
            self._gate.leave(session.line)
            self._complete_round()
        return Ack(status="applied", clock=0, version=self._store.version)

    def _observed(self, seen: int) -> tuple[Message, list[Frame]]:
        seen, frames, more = self._reports.after(seen)
        faults = tuple(self._store.counts().values())
        return Observed(seen=seen, more=more, version=self._store.version, faults=faults), frames

    def _drop(self, session: _Session) -> None:
        self._sessions.pop(session.peer, None)
        pending = self._pending.get(session.line)
        if session.outbox >= 0:
            if pending is not None:
                pending.detach()
            self._free_outboxes.append(session.outbox)
        if not session.is_partition:
            self._gate.leave(session.line)
            if pending is None:
                self._store.ledger.close_line(session.line)
            else:
                pending.orphan = True
            self._complete_round()

    def _hand_over(self) -> None:
        assert self._handover is not None
        lifeline = self._handover.accept()
        if lifeline is None:
            self._store.count(Counter.DAMAGED)
            return
        self._lifelines[lifeline.fileno()] = lifeline
        self._listener.watch(lifeline.fileno(), lambda: self._look_after(lifeline))

    def _look_after(self, lifeline: Lifeline) -> None:
        """Drop the session of a local client that has died."""
        if lifeline.still_there():
            return
        self._listener.unwatch(lifeline.fileno())
        del self._lifelines[lifeline.fileno()]
        lifeline.close()
        for session in [s for s in self._sessions.values() if (s.line, s.generation) == lifeline.owner]:
            if self._settings.mode == "hogwild" and self._store.ledger.abandon(session.line):
                self._store.count(Counter.PARTIAL)
            self._drop(session)

    def close(self) -> None:
        """Close the connections this server opened itself. The caller closes listener, handover and store."""
        for fd, lifeline in self._lifelines.items():
            self._listener.unwatch(fd)
            lifeline.close()
        self._lifelines.clear()
