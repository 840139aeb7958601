"""``Client``: push, pull, wait.

On the shared path an asynchronous or hogwild client applies its updates itself; a synchronous one hands its vector over
in its outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray

from elephas_fast import _core
from elephas_fast.client.conversation import PushRefused, copy_floats
from elephas_fast.client.local import LocalPath
from elephas_fast.client.membership import Membership
from elephas_fast.client.vectors import Gradient, PushOptions, PushRequest, Vectors
from elephas_fast.config import TRANSPORTS, whole
from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.store import ParameterStore, Segment
from elephas_fast.transport import Address
from elephas_fast.wire import (
    Ack,
    Close,
    Frame,
    Observe,
    Observed,
    Pull,
    Push,
    Report,
    Steer,
    Weights,
    decode,
    pack_arrays,
    unpack_arrays,
)

# Bytes. Pieces of a vector come and go in blocks of half as much, which malloc is to use again.
_KEPT_BLOCK: Final = 2 * 2**20
_KEPT_AT_LEAST: Final = 128 * 2**20


class Receipt(NamedTuple):
    """What became of a push. ``status``: 'applied', 'accepted', 'duplicate' or 'refused' (not finite)."""

    status: str
    version: int


class Turn(NamedTuple):
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

    ``layout``: of the flat vector; ``settings``: the server's; ``transport``: the way taken.
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
        self._in_flight: tuple[Push, list[Frame], int] | None = None
        self._accepted: tuple[Push, list[Frame]] | None = None
        self._done: Receipt | None = None
        self._store: ParameterStore | None = None
        self._local: LocalPath | None = None
        self._member = Membership(
            address, transport, partition, attempt, rounds, timeout, patience, while_silent, self._resume
        )
        self.transport = self._member.transport
        self.layout, self.settings = self._member.layout, self._member.settings
        try:
            self._vectors = Vectors(
                self.layout, self._join_segment(self._member.segment), 1 if self._local is not None else 2
            )
        except BaseException:
            self.close()
            raise

    @property
    def clock(self) -> int:
        """Rounds of this client that have been applied."""
        return self._member.clock

    @property
    def version(self) -> int:
        """The last version of the weights seen."""
        return self._member.version

    def _join_segment(self, segment: Segment | None) -> tuple[Float32Array, ByteArray] | None:
        """Open the store where its memory is near; the outbox in it, if this client has one."""
        layout, settings, member = self.layout, self.settings, self._member
        if segment is None:
            if self.transport != "inproc":
                two_updates = 8 * layout.size  # encrypted in pieces, and what else is freed meanwhile
                _core.keep_blocks(_KEPT_BLOCK, max(_KEPT_AT_LEAST, two_updates))
            return None
        self._store = ParameterStore.attach(
            segment,
            settings.optimizer,
            layout,
            access=settings.store_access,
            on_nonfinite=settings.on_nonfinite,
            state_rate=settings.state_rate,
        )
        if settings.mode != "synchronous":
            self._local = LocalPath(self._store, member.line, member.generation)
            return None
        return segment.outbox(member.outbox) if member.outbox >= 0 else None

    def _resume(self) -> None:
        """After another hello: renew the generation, and send once more what had been accepted for a synchronous round
        that was lost with its server."""
        member = self._member
        if self._local is not None:
            self._local.generation = member.generation
        if self._accepted is None:
            return
        push, payload = self._accepted
        if member.clock < push.clock:
            push = replace(push, generation=member.generation, pull=False)
            self._member.talk().ask(push, payload, expect=Ack)
            member.clock = push.clock

    @property
    def shared_weights(self) -> tuple[Float32Array, ByteArray] | None:
        """The live weights in the server's memory, float32[size] and uint8[opaque], for hogwild on its host; others
        change them at any time, and they are not to be written. ``None`` on any other way. Valid until ``close``."""
        return None if self._local is None else self._local.weights

    @property
    def vector(self) -> tuple[Float32Array, ByteArray]:
        """The buffers whose contents the cheapest push sends: float32[size] and uint8[opaque]; owned by the client.

        Fill them and pass them to ``push`` or ``send_round``, after which this gives others, so that a push may be
        under way while the next is computed. In synchronous mode on the server's host they stay the same: leave them
        alone until the next ``pull`` or ``begin_round`` has returned.
        """
        return self._vectors.free

    def push(
        self,
        gradient: Gradient,
        *,
        state: Float32Array | None = None,
        scale: float = 1.0,
        opaque: ByteArray | None = None,
        rows: int = 1,
        base_version: int | None = None,
        finite: bool = False,
        wait: bool = True,
    ) -> Receipt | None:
        """Send one update: float32[n], a gradient or pseudo-gradient (before - after).

        ``gradient`` may also be a list of float32 arrays, one for each trainable tensor in the layout's order, with the
        values of the rest in ``state``. Its trainable part is multiplied by ``scale``. Returns when it has been applied
        (in synchronous mode: accepted for its round). With ``wait=False`` returns ``None`` at once; what was given must
        then stay unchanged until ``wait``. ``opaque`` replaces the server's opaque bytes; ``None`` leaves them.
        ``rows`` weighs it in a synchronous mean; ``base_version``: the version it was computed on; ``finite``: the
        caller knows that its trainable part is, which saves the shared path a look at it. One push is in flight at a
        time; in synchronous mode the round of the last one is waited for.
        """
        request = PushRequest(gradient, state, scale, opaque, rows, base_version, finite)
        self._check(request)
        self.wait()
        if self._local is not None:
            receipt = self._apply(self._local, request)
            return receipt if wait else None
        self._send(request, pull=False)
        return self.wait() if wait else None

    def send_round(self, gradient: Gradient, **options: Unpack[PushOptions]) -> None:
        """``push`` whose reply ``finish_round`` takes, together with the weights of the next round, before anything
        else is asked.

        A push to another host is under way meanwhile; on the server's host it has been applied on return.
        """
        request = PushRequest(gradient, **options)
        self._check(request)
        self.wait()
        if self._local is not None:
            self._done = self._apply(self._local, request)
        else:
            self._send(request, pull=True)

    def _check(self, request: PushRequest) -> None:
        self._member.talk()
        self._vectors.check(request.gradient, request.opaque)
        whole("rows", request.rows, 0)

    def _send(self, request: PushRequest, *, pull: bool) -> None:
        talk = self._member.talk()
        self._await_round()
        payload = self._vectors.frames(request)
        push = Push(
            generation=self._member.generation,
            clock=self.clock + 1,
            base_version=self.version if request.base_version is None else request.base_version,
            rows=int(request.rows),
            outbox=self._vectors.outbox is not None,
            opaque=request.opaque is not None and self.layout.opaque_size > 0,
            pull=pull,
        )
        self._in_flight = (push, payload, talk.send(push, payload))

    def _await_round(self) -> None:
        """Wait until the synchronous round of the last push has been applied."""
        if self._accepted is not None:
            self._member.talk().ask(Pull(purpose="evaluate", clock=self.clock, weights=False), expect=Weights)
            self._accepted = None

    def _apply(
        self, local: LocalPath, request: PushRequest, pull: tuple[Float32Array, ByteArray] | None = None
    ) -> Receipt:
        member = self._member
        clock = member.clock + 1
        outcome = local.push(
            clock,
            request.gradient,
            state=request.state,
            scale=request.scale,
            opaque=request.opaque,
            finite=request.finite,
            pull=pull,
        )
        member.clock, member.version = clock, outcome.version
        if outcome.verdict == "duplicate":
            return Receipt("duplicate", outcome.version)
        return Receipt("applied" if outcome.applied else "refused", outcome.version)

    def exchange(
        self, gradient: Gradient, out: Float32Array | None, opaque_out: ByteArray, **options: Unpack[PushOptions]
    ) -> tuple[Receipt, Turn]:
        """``send_round`` and ``finish_round(out, opaque_out)`` in one, which an asynchronous or hogwild client on the
        server's host does in one pass over memory.
        """
        if self._local is None or out is None or self.settings.gated_each_round:
            self.send_round(gradient, **options)
            return self.finish_round(out, opaque_out)
        request = PushRequest(gradient, **options)
        self._check(request)
        receipt = self._apply(self._local, request, (out, opaque_out))
        return receipt, Turn(receipt.version, False, 0.0)

    def finish_round(self, out: Float32Array | None, opaque: ByteArray) -> tuple[Receipt, Turn]:
        """What became of the round sent last, and the turn to begin the next, as ``begin_round`` gives it."""
        turn: Turn | None = None
        receipt, self._done = self._done, None
        if self._in_flight is not None:
            receipt, turn = self._land(out, opaque)
        if receipt is None:
            raise RuntimeError("finish_round: expected a round sent by send_round before")
        return receipt, turn or self.begin_round(out, opaque, new_epoch=False)

    def wait(self) -> Receipt | None:
        """Wait for the push in flight; ``None`` if there is none."""
        if self._in_flight is None:
            return None
        if self._in_flight[0].pull:
            raise RuntimeError("a round is in flight: call finish_round first")
        return self._land(None, None)[0]

    def _land(self, out: Float32Array | None, opaque: ByteArray | None) -> tuple[Receipt, Turn | None]:
        """The reply to the push in flight: its receipt and, where it brought them, the weights for the next round."""
        assert self._in_flight is not None
        push, payload, request = self._in_flight
        try:
            reply, frames = self._member.talk().wait_for(push, payload, request, (Ack, Weights), out)
        except PushRefused:
            self._in_flight = None
            raise
        self._in_flight = None
        self._member.clock = push.clock
        if isinstance(reply, Ack):
            self._accepted = (push, payload) if self.settings.mode == "synchronous" else None
            self._member.version = reply.version
            return Receipt(reply.status, reply.version), None
        return Receipt(reply.status, reply.pushed), self._turn(reply, frames, out, opaque)

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

    def begin_round(self, out: Float32Array | None, opaque: ByteArray, *, new_epoch: bool) -> Turn:
        """Wait for this client's turn to begin round ``clock + 1`` and take the weights for it.

        ``out`` ``None``: the weights are not wanted, because the model's variables are the server's own memory.
        ``new_epoch``: asks the driver's orders even where the mode would not need to ask each round.
        """
        self.wait()
        return self._take("train", out, opaque, ask=new_epoch or self.settings.gated_each_round)

    def end_epoch(self, out: Float32Array | None, opaque: ByteArray) -> int:
        """Take the weights that contain all rounds this client has pushed (in synchronous mode: everybody's)."""
        self.wait()
        return self._take("evaluate", out, opaque, ask=self.settings.mode == "synchronous").version

    def _take(self, purpose: str, out: Float32Array | None, opaque: ByteArray | None, *, ask: bool = True) -> Turn:
        mapped = self._store is not None
        if mapped and purpose == "observe":
            ask = False
        if not ask and self._store is not None:
            self._member.version = self._read(self._store, out, opaque)
            return Turn(self.version, False, 0.0)
        pull = Pull(purpose=purpose, clock=self.clock, weights=not mapped)
        reply, frames = self._member.talk().ask(pull, expect=Weights, into=out)
        return self._turn(reply, frames, out, opaque)

    def _turn(
        self, reply: Weights, frames: Sequence[Frame], out: Float32Array | None, opaque: ByteArray | None
    ) -> Turn:
        """The turn a reply gives, with the weights in ``out`` and ``opaque``."""
        self._accepted = None
        self._member.version = reply.version
        if self._store is not None:
            self._store.set_learning_rate(reply.server_learning_rate)
            self._member.version = self._read(self._store, out, opaque)
        elif out is not None:
            self._unpack(reply, frames, out, opaque)
        return Turn(self.version, reply.stop, reply.learning_rate)

    def _read(self, store: ParameterStore, out: Float32Array | None, opaque: ByteArray | None) -> int:
        return store.version if out is None else store.read(out, opaque, timeout=self._member.talk().timeout)

    def _unpack(self, reply: Weights, frames: Sequence[Frame], out: Float32Array, opaque: ByteArray | None) -> None:
        layout = self.layout
        expected = ([] if reply.in_parts else [4 * layout.size]) + ([layout.opaque_size] if layout.opaque_size else [])
        if [len(frame) for frame in frames] != expected:
            raise PushRefused("protocol", f"expected weights of {expected} bytes, got {[len(f) for f in frames]}")
        if not reply.in_parts:
            copy_floats(frames[0], out)
        if opaque is not None and layout.opaque_size:
            opaque[:] = np.frombuffer(frames[-1], np.uint8)

    def report(self, report: Report, *metric_states: Sequence[NDArray[Any]]) -> None:
        """Tell the driver what this partition has done, for 'epoch' with the states of its metrics.

        In synchronous mode the round of the last push is waited for, so that what is reported has been applied.
        """
        self.wait()
        self._await_round()
        self._member.talk().ask(report, [pack_arrays(state) for state in metric_states], expect=Ack)

    def observe(self, seen: int) -> tuple[Observed, Report | None, list[list[NDArray[Any]]]]:
        """The first report after ``seen`` and its metric states, or ``None``; the reply says whether there are more."""
        reply, payload = self._member.talk().ask(Observe(seen=seen), expect=Observed)
        if not payload:
            return reply, None, []
        report, states = decode(payload)
        assert isinstance(report, Report)
        return reply, report, [unpack_arrays(frame) for frame in states]

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
        self._member.talk().ask(orders, expect=Ack)

    def stop_accepting(self) -> None:
        """End the fit: from the return of this call on the server applies no push."""
        self._member.talk().ask(Close(), expect=Ack)

    def close(self) -> None:
        """Leave. What is in flight is not waited for. Safe to call twice."""
        self._local = None
        if hasattr(self, "_vectors"):
            del self._vectors
        if self._store is not None:
            self._store.close()
            self._store = None
        self._member.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
