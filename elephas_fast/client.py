"""A worker's side of the parameter server: push, pull, wait.

``connect`` chooses the nearest way in: the shared segment where the server is on this host, else ipc or tcp. On the
shared path a hogwild client applies its updates itself, in place; an asynchronous or synchronous one hands its vector
over in its outbox, so that an application is never half done if this process is killed.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elephas_fast import _core
from elephas_fast.config import TRANSPORTS, ServerSettings, whole
from elephas_fast.layout import ByteArray, Float32Array, Layout
from elephas_fast.store import Mark, ParameterStore, Segment
from elephas_fast.transport import Address, Channel, Lifeline, TransportError, receive
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
    pack_arrays,
    unpack_arrays,
)

_RESEND_FIRST: Final = 2.0
_RESEND_MOST: Final = 20.0


class ServerUnreachable(ConnectionError):
    """The server has not answered within the deadline; the message names its address and the last applied round."""


class PushRefused(RuntimeError):
    """The server refused a request; ``code`` says why: 'fenced', 'gap', 'closed', 'key', 'protocol', 'internal'."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Receipt:
    """What became of a push. ``status``: 'applied', 'accepted', 'duplicate' or 'refused' (not finite)."""

    status: str
    version: int


@dataclass(frozen=True)
class Turn:
    """The beginning of a round: the weights' version, and the driver's orders."""

    version: int
    stop: bool
    learning_rate: float


def connect(
    address: Address,
    *,
    transport: str = "auto",
    partition: int = -1,
    attempt: int = 0,
    rounds: int | None = None,
    timeout: float = 120.0,
    patience: float = 1800.0,
    while_silent: Callable[[], None] | None = None,
) -> Client:
    """Connect to a parameter server.

    Args:
        address: ``ParameterCluster.address``.
        transport: ``'auto'`` takes the first that works of shm, ipc, tcp, inproc; a name takes that one.
        partition, attempt: of a Spark task (``TaskContext.partitionId()``, ``taskAttemptId()``); -1 for other clients.
        rounds: rounds of one epoch of this partition; ``None`` for clients that count none.
        timeout: seconds without any sign of the server after which it counts as lost.
        patience: seconds to wait at a gate for other workers.
        while_silent: called now and then while the server does not answer; may raise to end the waiting.

    Raises ``ServerUnreachable``, ``PushRefused`` (a wrong key, a newer attempt of the partition), or ``ValueError``
    for a transport the address does not offer. Close the client, or use it as a context manager.
    """
    if transport not in TRANSPORTS:
        raise ValueError(f"transport: expected one of {', '.join(map(repr, TRANSPORTS))}, got {transport!r}")
    return Client(address, transport, partition, attempt, rounds, timeout, patience, while_silent)


class Client:
    """A connection to one server. Not thread-safe; one per thread. Made by ``connect``.

    ``layout``: of the flat vector; ``clock``: rounds of this client that have been applied; ``version``: the last
    version seen; ``transport``: the way taken.
    """

    def __init__(
        self,
        address: Address,
        transport: str,
        partition: int,
        attempt: int,
        rounds: int | None,
        timeout: float,
        patience: float,
        while_silent: Callable[[], None] | None = None,
    ) -> None:
        self._address = address
        self._partition, self._attempt, self._rounds = partition, attempt, rounds
        self._timeout, self._patience = timeout, patience
        self._while_silent = while_silent
        self._next_request = random.getrandbits(32)
        self._in_flight: tuple[Push, list[Frame], int] | None = None
        self._round_open = False
        self._lifeline: Lifeline | None = None
        self._segment: Segment | None = None
        self._store: ParameterStore | None = None
        self._channel: Channel | None = None
        self.version = 0
        self.clock = 0
        try:
            self.transport, endpoint = self._choose(transport)
            self._channel = Channel(endpoint)
            self._hello()
            self._join_segment()
        except BaseException:
            self.close()
            raise

    def _choose(self, transport: str) -> tuple[str, str]:
        order = ("shm", "ipc", "tcp", "inproc") if transport == "auto" else (transport,)
        for scheme in order:
            endpoint = self._address.endpoint(scheme)
            if endpoint is None:
                continue
            if scheme == "shm":
                try:
                    given = receive(endpoint, self._address.key)
                except PermissionError as error:
                    raise PushRefused("key", str(error)) from None
                if given is None:
                    continue
                self._segment = Segment.attach(given[0])
                self._lifeline = given[1]
                endpoint = self._address.endpoint("ipc")
                assert endpoint is not None
            elif scheme == "ipc" and transport == "auto" and self._address.endpoint("shm"):
                continue  # on the server's host shm would have worked; elsewhere an abstract name leads nowhere
            return scheme, endpoint
        offered = ", ".join(e.partition("://")[0] for e in self._address.endpoints)
        raise TransportError(f"transport: {transport!r} does not lead to the server (it offers {offered})")

    def _hello(self) -> None:
        hello = Hello(
            protocol=PROTOCOL_VERSION,
            key=self._address.key,
            partition=self._partition,
            attempt=self._attempt,
            rounds=1 if self._rounds is None and self._partition < 0 else int(self._rounds or 0),
            outbox=self._segment is not None,
        )
        welcome = self._request(hello, expect=Welcome, rehello=False)
        self._line, self._generation = welcome.line, welcome.generation
        self.clock, self.version = welcome.clock, welcome.version
        self._outbox_index = welcome.outbox
        self.layout = Layout.from_json(welcome.layout)
        self.settings = ServerSettings.from_json(welcome.settings)

    def _join_segment(self) -> None:
        layout = self.layout
        self._applies_itself = self._segment is not None and self.settings.mode == "hogwild"
        self._outbox: tuple[Float32Array, ByteArray] | None = None
        if self._segment is not None:
            assert self._lifeline is not None
            self._lifeline.introduce(self._line, self._generation)
            self._store = ParameterStore.attach(
                self._segment,
                self.settings.optimizer,
                layout,
                access=self.settings.store_access,
                on_nonfinite=self.settings.on_nonfinite,
                state_rate=self.settings.state_rate,
            )
            if self._outbox_index >= 0 and not self._applies_itself:
                self._outbox = self._segment.outbox(self._outbox_index)
        if self._outbox is not None:
            self._vector = self._outbox
        else:
            self._vector = (np.zeros(layout.size, np.float32), np.zeros(layout.opaque_size, np.uint8))

    @property
    def vector(self) -> tuple[Float32Array, ByteArray]:
        """The buffers whose contents the cheapest push sends: float32[size] and uint8[opaque]; owned by the client.

        Fill them and pass them to ``push``; leave them alone until that push has been waited for, in synchronous mode
        until its round is complete: until the next ``pull`` or ``begin_round`` has returned.
        """
        return self._vector

    def push(
        self,
        gradient: Float32Array,
        *,
        opaque: ByteArray | None = None,
        rows: int = 1,
        base_version: int | None = None,
        wait: bool = True,
    ) -> Receipt | None:
        """Send one update: float32[n], a gradient or pseudo-gradient (before - after).

        Returns when it has been applied (in synchronous mode: accepted for its round). With ``wait=False`` returns
        ``None`` at once; ``gradient`` must then stay unchanged until ``wait``. ``opaque`` replaces the server's opaque
        bytes; ``None`` leaves them. ``rows`` weighs it in a synchronous mean; ``base_version``: the version it was
        computed on. One push is in flight at a time; in synchronous mode the round of the last one is waited for.
        """
        layout = self.layout
        if not isinstance(gradient, np.ndarray) or gradient.dtype != np.float32 or gradient.shape != (layout.size,):
            got = f"{gradient.dtype}{list(gradient.shape)}" if isinstance(gradient, np.ndarray) else repr(gradient)
            raise ValueError(f"gradient: expected float32[{layout.size}], got {got}")
        if opaque is not None and (opaque.dtype != np.uint8 or opaque.shape != (layout.opaque_size,)):
            raise ValueError(f"opaque: expected uint8[{layout.opaque_size}], got {opaque.dtype}{list(opaque.shape)}")
        rows = whole("rows", rows, 0)
        self._check_open()
        self.wait()
        if self._round_open:
            self._exchange(Pull(purpose="evaluate", clock=self.clock, outbox=False, weights=False), Weights)
            self._round_open = False
        gradient = np.ascontiguousarray(gradient)
        mark = Mark(self._line, self._generation, self.clock + 1)
        if self._applies_itself:
            receipt = self._apply(gradient, opaque, mark)
            return receipt if wait else None
        payload: list[Frame] = []
        if self._outbox is not None:
            _fill(self._outbox, gradient, opaque)
        else:
            payload = [gradient.view(np.uint8).data]
            if opaque is not None and layout.opaque_size:
                payload.append(np.ascontiguousarray(opaque).data)
        push = Push(
            generation=mark.generation,
            clock=mark.clock,
            base_version=self.version if base_version is None else base_version,
            rows=rows,
            outbox=self._outbox is not None,
            opaque=opaque is not None and layout.opaque_size > 0,
        )
        self._in_flight = (push, payload, self._send(push, payload))
        return self.wait() if wait else None

    def _apply(self, gradient: Float32Array, opaque: ByteArray | None, mark: Mark) -> Receipt:
        assert self._store is not None
        verdict = self._store.ledger.check(mark)
        if verdict == "fenced":
            raise PushRefused("fenced", f"a newer attempt of partition {self._partition} has taken over")
        try:
            outcome = self._store.push(gradient, opaque=opaque, marks=(mark,))
        except RuntimeError as error:
            raise PushRefused("closed", str(error)) from None
        self.clock += 1
        self.version = outcome.version
        return Receipt("applied" if outcome.applied else "refused", outcome.version)

    def wait(self) -> Receipt | None:
        """Wait for the push in flight; ``None`` if there is none."""
        if self._in_flight is None:
            return None
        push, payload, request = self._in_flight
        try:
            ack = self._await(push, payload, request, Ack)
        except PushRefused:
            self._in_flight = None
            raise
        self._in_flight = None
        self._round_open = self.settings.mode == "synchronous"
        self.clock = push.clock
        self.version = ack.version
        return Receipt(ack.status, ack.version)

    def pull(self, out: Float32Array | None = None, opaque: ByteArray | None = None) -> Float32Array:
        """The current weights, float32[n], into ``out`` or a new array.

        In synchronous mode those of the round this client has pushed last, which it waits for.
        """
        self.wait()
        if out is None:
            out = np.empty(self.layout.size, np.float32)
        purpose = "evaluate" if self.settings.mode == "synchronous" else "observe"
        self._take(purpose, out, opaque)
        return out

    def begin_round(self, out: Float32Array, opaque: ByteArray, *, new_epoch: bool) -> Turn:
        """Wait for this client's turn to begin round ``clock + 1`` and take the weights for it.

        ``new_epoch``: asks the driver's orders even where the mode would not need to ask each round.
        """
        self.wait()
        return self._take("train", out, opaque, ask=new_epoch or self.settings.gated_each_round)

    def end_epoch(self, out: Float32Array, opaque: ByteArray) -> int:
        """Take the weights that contain all rounds this client has pushed (in synchronous mode: everybody's)."""
        self.wait()
        return self._take("evaluate", out, opaque, ask=self.settings.mode == "synchronous").version

    def _take(self, purpose: str, out: Float32Array, opaque: ByteArray | None, *, ask: bool = True) -> Turn:
        self._check_open()
        local = self._store is not None
        turn = Turn(self.version, False, 0.0)
        if local and purpose == "observe":
            ask = False
        if ask or not local:
            pull = Pull(purpose=purpose, clock=self.clock, outbox=False, weights=not local)
            reply, payload = self._exchange(pull, Weights)
            self._round_open = False
            turn = Turn(reply.version, reply.stop, reply.learning_rate)
            if self._store is not None:
                self._store.set_learning_rate(reply.server_learning_rate)
            if not local:
                self._unpack(payload, out, opaque)
        if local:
            assert self._store is not None
            version = self._store.read(out, opaque, timeout=self._timeout)
            turn = replace(turn, version=version)
        self.version = turn.version
        return turn

    def _unpack(self, payload: Sequence[Frame], out: Float32Array, opaque: ByteArray | None) -> None:
        layout = self.layout
        expected = [4 * layout.size] + ([layout.opaque_size] if layout.opaque_size else [])
        if [len(frame) for frame in payload] != expected:
            raise PushRefused("protocol", f"expected weights of {expected} bytes, got {[len(f) for f in payload]}")
        received = np.frombuffer(payload[0], np.float32)
        _core.copy(received if received.flags.aligned else received.copy(), out)
        if opaque is not None and layout.opaque_size:
            opaque[:] = np.frombuffer(payload[1], np.uint8)

    def report(self, report: Report, *metric_states: Sequence[NDArray[Any]]) -> None:
        """Tell the driver what this partition has done, for 'epoch' with the states of its metrics."""
        self.wait()
        self._request(report, [pack_arrays(state) for state in metric_states], expect=Ack)

    def observe(self, seen: int) -> tuple[Observed, Report | None, list[list[NDArray[Any]]]]:
        """The first report after ``seen`` and its metric states, or ``None``; the reply says whether there are more."""
        reply, payload = self._exchange(Observe(seen=seen), Observed)
        if not payload:
            return reply, None, []
        report, _ = decode([payload[0]])
        assert isinstance(report, Report)
        return reply, report, [unpack_arrays(frame) for frame in payload[1:]]

    def steer(
        self, *, released: int, stop_at: int, learning_rate: float = 0.0, server_learning_rate: float = 0.0
    ) -> None:
        """Give server and workers the driver's orders; see ``wire.Steer``."""
        orders = Steer(
            released=released,
            stop_at=stop_at,
            learning_rate=learning_rate,
            server_learning_rate=server_learning_rate,
        )
        self._request(orders, expect=Ack)

    def stop_accepting(self) -> None:
        """End the fit: from the return of this call on the server applies no push."""
        self._request(Close(), expect=Ack)

    def close(self) -> None:
        """Leave. What is in flight is not waited for. Safe to call twice."""
        if self._channel is not None:
            self._take_leave(self._channel)
            self._channel.close()
            self._channel = None
        if hasattr(self, "_vector"):
            del self._vector, self._outbox
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None

    def _take_leave(self, channel: Channel) -> None:
        """Say goodbye and see it answered, within half a second: what is unsent when a channel closes is dropped."""
        goodbye = Goodbye(request=self._next_request + 1)
        channel.send(encode(goodbye), 0.1)
        deadline = time.monotonic() + 0.5
        while frames := channel.receive(deadline - time.monotonic()):
            with contextlib.suppress(ProtocolError):
                if decode(frames)[0].request == goodbye.request:
                    return

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_open(self) -> Channel:
        if self._channel is None:
            raise RuntimeError("the client is closed")
        return self._channel

    def _send(self, message: Message, payload: Sequence[Frame]) -> int:
        self._next_request += 1
        self._check_open().send(encode(replace(message, request=self._next_request), payload), self._timeout)
        return self._next_request

    def _request(self, message: Message, payload: Sequence[Frame] = (), *, expect: type, rehello: bool = True) -> Any:
        return self._await(message, payload, self._send(message, payload), expect, rehello=rehello)

    def _exchange(self, message: Message, expect: type) -> tuple[Any, list[Frame]]:
        payload: list[Frame] = []
        reply = self._await(message, (), self._send(message, ()), expect, into=payload.extend)
        return reply, payload

    def _await(
        self,
        message: Message,
        payload: Sequence[Frame],
        request: int,
        expect: type,
        *,
        rehello: bool = True,
        into: Callable[[list[Frame]], None] | None = None,
    ) -> Any:
        """The reply to ``request``; sends again, with growing pauses, while the server is silent."""
        assert self._channel is not None
        lost_at = time.monotonic() + self._timeout
        late_at = time.monotonic() + self._patience
        pause = _RESEND_FIRST
        reason = "no answer"
        while True:
            now = time.monotonic()
            if now > lost_at or now > late_at:
                what = "does not answer" if now > lost_at else f"keeps this worker waiting ({reason})"
                seconds = self._timeout if now > lost_at else self._patience
                raise ServerUnreachable(
                    f"the parameter server at {self._address} {what} for {seconds:.0f} s; "
                    f"last applied round of partition {self._partition}: {self.clock}"
                )
            frames = self._channel.receive(min(pause, lost_at - now, late_at - now))
            if frames is None:
                if self._while_silent is not None:
                    self._while_silent()
                pause = min(_RESEND_MOST, pause * 2) * random.uniform(0.75, 1.0)
                request = self._send(message, payload)
                continue
            reply, reply_payload = decode(frames)
            if reply.request != request:
                continue
            lost_at = time.monotonic() + self._timeout
            if isinstance(reply, Wait):
                reason = reply.reason
                request = self._send(message, payload)
            elif isinstance(reply, Error):
                if reply.code != "hello" or not rehello:
                    raise PushRefused(reply.code, reply.text)
                message = self._greet_again(message)
                if isinstance(message, Push) and message.clock <= self.clock:
                    return Ack(status="duplicate", clock=message.clock, version=self.version)
                request = self._send(message, payload)
            elif isinstance(reply, expect):
                if into is not None:
                    into(reply_payload)
                return reply
            else:
                raise PushRefused("protocol", f"expected {expect.__name__}, got {type(reply).__name__}")

    def _greet_again(self, message: Message) -> Message:
        """The server does not know this connection (it was cut): say hello and renew the message's generation."""
        self._hello()
        return replace(message, generation=self._generation) if isinstance(message, Push) else message


def _fill(outbox: tuple[Float32Array, ByteArray], gradient: Float32Array, opaque: ByteArray | None) -> None:
    if gradient.__array_interface__["data"][0] != outbox[0].__array_interface__["data"][0]:
        _core.copy(gradient, outbox[0])
    if opaque is not None and opaque is not outbox[1]:
        outbox[1][:] = opaque
