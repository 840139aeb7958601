"""Who talks to the server: a partition's attempts, and the driver. They follow docs/PROTOCOL.md and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from elephas_fast.client import PushRefused
from elephas_fast.client.local import LocalPath
from elephas_fast.server import FOREVER
from elephas_fast.wire import (
    PROTOCOL_VERSION,
    Ack,
    Close,
    Error,
    Frame,
    Goodbye,
    Hello,
    Message,
    Pull,
    Push,
    Report,
    Steer,
    Wait,
    Weights,
    Welcome,
    encode,
)
from tests.protocol.plan import SIZE, WHOLE, Plan, place

if TYPE_CHECKING:
    from tests.protocol.world import World

KEY: Final = b"k" * 32
_RESEND_FIRST: Final = 0.5
_RESEND_MOST: Final = 4.0
_PARKED: Final = 1.0  # seconds between two questions of an attempt that a newer one has fenced


class Asker:
    """One request at a time, sent again while there is no answer."""

    orderly = False
    partition = -1
    rounds = 0

    def __init__(self, world: World, attempt: int) -> None:
        self.world, self.network, self.attempt = world, world.network, attempt
        self.gone = False
        self.welcome: Welcome | None = None
        self._asked: Message | None = None
        self._sent: dict[int, Message] = {}
        self._payload: Sequence[Frame] = ()
        self._request = 0
        self._pause = _RESEND_FIRST
        self._paused_until = 0.0

    def pause(self, seconds: float) -> None:
        """Do nothing for a while, like a process that is stopped."""
        self._paused_until = self.network.now + seconds

    def asked(self, request: int) -> Message:
        """What was asked under this number."""
        return self._sent[request]

    def hello(self) -> None:
        """Come, or come again."""
        now = self.welcome
        held = {} if now is None else {"line": now.line, "generation": now.generation}
        self.ask(
            Hello(
                protocol=PROTOCOL_VERSION,
                key=KEY,
                partition=self.partition,
                attempt=self.attempt,
                rounds=self.rounds,
                outbox=False,
                **held,
            )
        )

    def ask(self, message: Message, payload: Sequence[Frame] = ()) -> None:
        """Ask the server; the answer comes to ``answered``."""
        self._asked, self._payload, self._pause = message, payload, _RESEND_FIRST
        self._send()

    def _send(self) -> None:
        assert self._asked is not None
        self._request += 1
        self._sent[self._request] = self._asked
        self.network.carry(self, encode(self._asked, self._payload, request=self._request))
        self.network.at(self._pause * (0.75 + 0.5 * self.network.random.random()), self._again, self._request)

    def _again(self, request: int) -> None:
        if self.gone or request != self._request or self._asked is None:
            return
        if self.network.now < self._paused_until:
            self.network.at(self._paused_until - self.network.now, self._again, request)
            return
        self._pause = min(_RESEND_MOST, 2 * self._pause)
        self._send()

    def receive(self, reply: Message, frames: Sequence[Frame]) -> None:
        """A reply has come."""
        if self.gone or reply.request != self._request or self._asked is None:
            return
        if self.network.now < self._paused_until:
            self.network.at(self._paused_until - self.network.now, self.receive, reply, frames)
            return
        if isinstance(reply, Wait):
            self._send()
            return
        asked, self._asked = self._asked, None
        if isinstance(reply, Error) and reply.code == "hello" and not isinstance(asked, Goodbye):
            self.hello()
        else:
            self.answered(asked, reply)

    def answered(self, asked: Message, reply: Message) -> None:
        """Go on with the answer to what was asked last."""
        raise NotImplementedError


class Attempt(Asker):
    """One attempt of Spark to run a partition's task.

    ``near``: it has the server's memory and applies its updates itself.
    """

    def __init__(self, world: World, partition: int, attempt: int, near: bool) -> None:
        super().__init__(world, attempt)
        self.partition, self.rounds, self.near = partition, world.plan.rounds[partition], near
        self.lost = False  # Spark has lost sight of it
        self.clock = 0
        self._local: LocalPath | None = None
        self._may_begin = -1

    def answered(self, asked: Message, reply: Message) -> None:
        match reply:
            case Welcome():
                self.welcome, self.clock, self._may_begin = reply, reply.clock, -1
                if self.world.workers_store is not None:
                    self._local = LocalPath(self.world.workers_store, reply.line, reply.generation)
                self._go_on()
            case Error(code="fenced"):
                self.network.at(_PARKED, self._unpark)
            case Error(code="gap"):
                self.hello()
            case Error(code="closed"):
                self.leave()
            case Error(code="finished"):
                self.leave()
                self.world.returned(self)
            case Ack() if isinstance(asked, Push):
                self.clock = reply.clock
                self._go_on()
            case Weights():
                self.clock = self._may_begin = reply.clock
                self._go_on()
            case Ack() if isinstance(asked, Report):
                self.ask(Goodbye())
            case Ack() | Error(code="hello") if isinstance(asked, Goodbye):
                self.leave()
                self.world.returned(self)
            case _:
                self.world.wrong(f"attempt {self.attempt} asked {asked} and was answered {reply}")
                self.leave()

    def leave(self) -> None:
        """Do and hear nothing more."""
        self.gone = True

    def _unpark(self) -> None:
        if not self.gone:
            self.hello()

    def _go_on(self) -> None:
        """Begin the next round, or end."""
        plan, clock = self.world.plan, self.clock
        asks_each_round = plan.mode in ("synchronous", "bounded")
        if clock == plan.last(self.partition):
            if plan.mode == "synchronous" and self._may_begin != clock:
                self.ask(Pull(purpose="evaluate", clock=clock, weights=False))
            else:
                self.ask(done(plan, self.partition, self.attempt))
        elif self._may_begin != clock and (asks_each_round or clock % self.rounds == 0):
            self.ask(Pull(purpose="train", clock=clock, weights=not self.near))
        else:
            self.network.at(0.2 * self.network.random.random(), self._push, self.welcome)

    def _push(self, welcome: Welcome) -> None:
        """The end of a round of training that began with this welcome."""
        if self.gone or welcome is not self.welcome or self._asked is not None:
            return
        if self.network.now < self._paused_until:
            self.network.at(self._paused_until - self.network.now, self._push, welcome)
            return
        clock = self.clock + 1
        vector = update(self.world.plan, self.partition, clock, self.attempt)
        if self._local is not None:
            self._apply(self._local, clock, vector)
            return
        push = Push(
            generation=welcome.generation,
            clock=clock,
            base_version=0,
            rows=1,
            outbox=False,
            pull=clock < self.world.plan.last(self.partition) and self.network.random.random() < 0.5,
        )
        self.ask(push, [vector.tobytes()])

    def _apply(self, local: LocalPath, clock: int, vector: Any) -> None:
        try:
            outcome = local.push(clock, vector)
        except PushRefused as refused:
            self.world.applied_near(self, clock, refused.code)
            self.answered(Push(generation=0, clock=clock, base_version=0, rows=1, outbox=False),
                          Error(code=refused.code, text=str(refused)))  # fmt: skip
            return
        self.world.applied_near(self, clock, "duplicate" if outcome.verdict == "duplicate" else
                                "applied" if outcome.applied else "refused")  # fmt: skip
        self.clock = clock
        self._go_on()


def update(plan: Plan, partition: int, clock: int, attempt: int) -> np.ndarray:
    """All zeros but for the element of this push, and the one that tells whose it is."""
    vector = np.zeros(SIZE, np.float32)
    at = place(partition, clock)
    vector[at] = WHOLE
    vector[at + 1] = WHOLE * attempt
    if (partition, clock) in plan.poisoned:
        vector[at] = np.nan
    return vector


def done(plan: Plan, partition: int, attempt: int) -> Report:
    """The last report of a partition."""
    return Report(
        kind="done", partition=partition, attempt=attempt, epoch=plan.epochs, rows=1, validation_rows=0,
        rounds=plan.rounds[partition], staleness=0, seconds=0.0, loss=0.0, host="h", transport="tcp",
    )  # fmt: skip


class Driver(Asker):
    """The driver: gives its orders and, when told to, closes. Its messages keep their order."""

    orderly = True

    def __init__(self, world: World) -> None:
        super().__init__(world, 0)
        self._then: Callable[[], None] = lambda: None
        self._wanted: Message | None = None

    def tell(self, message: Message, then: Callable[[], None]) -> None:
        """Have the server obey ``message``, then go on with ``then``."""
        if self._wanted is not None:  # one at a time; the one before is answered sooner or later
            self.network.at(0.05, self.tell, message, then)
            return
        self._wanted, self._then = message, then
        if self.welcome is None:
            self.hello()
        else:
            self.ask(message)

    def answered(self, asked: Message, reply: Message) -> None:
        if isinstance(reply, Welcome):
            self.welcome = reply
            assert self._wanted is not None
            self.ask(self._wanted)
        elif isinstance(reply, Ack):
            self._wanted = None
            self._then()
        else:
            self.world.wrong(f"the driver asked {asked} and was answered {reply}")


def release(epochs: int | None) -> Steer:
    """The order that epochs below this may begin; ``None``: all."""
    return Steer(
        released=FOREVER if epochs is None else epochs, stop_at=FOREVER, learning_rate=0.0, server_learning_rate=0.0
    )


CLOSE: Final = Close()
