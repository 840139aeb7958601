"""Attempts that are the package's own ``Client``, each in a thread that runs only while it is its turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from elephas_fast.client import Client, PushRefused, conversation
from elephas_fast.transport import Address
from elephas_fast.wire import Frame, Message, decode
from tests.protocol.people import KEY, done, update
from tests.protocol.plan import SIZE, place

if TYPE_CHECKING:
    from tests.protocol.network import Network
    from tests.protocol.world import World

_ADDRESS: Final = Address(("inproc://simulated",), KEY)
_NOTHING: Final = np.empty(0, np.uint8)
_PARKED: Final = 1.0
_SECONDS: Final = 60.0  # real ones, for a thread to give up its turn


class Gone(BaseException):
    """The process that this thread plays has been killed."""


class RealAttempt:
    """One attempt of Spark to run a partition's task, by a real client. See ``people.Attempt``."""

    orderly = False
    _now: RealAttempt  # whose turn it is

    def __init__(self, world: World, partition: int, attempt: int, near: bool) -> None:
        self.world, self.network = world, world.network
        self.partition, self.attempt = partition, attempt
        self.gone = self.lost = False
        self._sent: dict[int, Message] = {}
        self._arrived: deque[list[memoryview]] = deque()
        self._waits = 0
        self._paused_until = 0.0
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)

    # What the world does with it, in the world's thread.

    def hello(self) -> None:
        """Begin."""
        self._thread.start()
        self._take_turn()

    def pause(self, seconds: float) -> None:
        """Do nothing for a while, like a process that is stopped."""
        self._paused_until = self.network.now + seconds

    def leave(self) -> None:
        """Be killed."""
        if not self.gone:
            self.gone = True
            self._take_turn()

    def asked(self, request: int) -> Message:
        """What was asked under this number."""
        return self._sent[request]

    def receive(self, reply: Message, frames: Sequence[Frame]) -> None:
        """A reply has come."""
        if not self.gone:
            self._arrived.append([memoryview(frame) for frame in frames])
            self._wake(self._waits)

    def _wake(self, wait: int) -> None:
        if self.gone or wait != self._waits:
            return
        if self.network.now < self._paused_until:
            self.network.at(self._paused_until - self.network.now, self._wake, wait)
        else:
            self._take_turn()

    def _take_turn(self) -> None:
        """Let the thread run until it waits for something again."""
        RealAttempt._now = self
        self._mine.release()
        if not self._theirs.acquire(timeout=_SECONDS):
            raise AssertionError(f"attempt {self.attempt} has been busy for {_SECONDS} s")
        if not self._thread.is_alive():
            self._thread.join()

    # What the thread does.

    def wait(self, seconds: float) -> None:
        """Let others go on, until a message comes or for ``seconds``."""
        self._waits += 1
        self.network.at(max(0.0, seconds), self._wake, self._waits)
        self._theirs.release()
        self._mine.acquire()
        self._waits += 1
        if self.gone:
            raise Gone

    def _run(self) -> None:
        self._mine.acquire()
        try:
            self._attempt()
        except Gone:
            pass
        except Exception as error:
            self.world.wrong(f"attempt {self.attempt} ended with {type(error).__name__}: {error}")
        finally:
            self.gone = True
            self._theirs.release()

    def _attempt(self) -> None:
        while True:
            try:
                self._train()
                self.world.returned(self)
                return
            except PushRefused as refused:
                if refused.code == "finished":
                    self.world.returned(self)
                if refused.code in ("closed", "finished"):
                    return
                if refused.code != "fenced":
                    raise
            self.sleep(_PARKED)

    def sleep(self, seconds: float) -> None:
        """Do nothing for a while; what comes waits."""
        until = self.network.now + seconds
        while self.network.now < until:
            self.wait(until - self.network.now)

    def _train(self) -> None:
        plan, draw = self.world.plan, self.network.random
        rounds, last = plan.rounds[self.partition], plan.last(self.partition)
        with Client(_ADDRESS, "inproc", self.partition, self.attempt, rounds, 120.0, 600.0) as client:
            out, turn = np.empty(SIZE, np.float32), None
            while client.clock < last:
                if turn is None:
                    turn = client.begin_round(out, _NOTHING, new_epoch=client.clock % rounds == 0)
                self._must_see(out, client.clock)
                self.sleep(0.2 * draw.random())
                clock = client.clock + 1
                vector = update(plan, self.partition, clock, self.attempt)
                if clock % rounds and draw.random() < 0.7:
                    _, turn = client.exchange(vector, out, _NOTHING)
                else:
                    client.push(vector)
                    turn = None
            client.report(done(plan, self.partition, self.attempt))

    def _must_see(self, weights: np.ndarray, clock: int) -> None:
        """The weights for a round hold all that this partition has pushed before."""
        plan = self.world.plan
        for number in range(1, clock + 1):
            seen = weights[place(self.partition, number)] != 0.0
            if not seen and (self.partition, number) not in plan.poisoned:
                self.world.wrong(f"attempt {self.attempt} began round {clock + 1} without its push {number}")


class _Channel:
    """What a conversation has for a channel."""

    refused = inherited = False

    def __init__(self, endpoint: str, key: bytes | None, *, encrypted: bool) -> None:
        self._owner = RealAttempt._now

    def send(self, frames: Sequence[Frame], timeout: float) -> bool:
        owner = self._owner
        if not owner.gone:
            copies: list[Frame] = [bytes(frame) for frame in frames]
            message, _ = decode(copies)
            owner._sent[message.request] = message
            owner.network.carry(owner, copies)
        return True

    def receive(self, timeout: float) -> list[memoryview] | None:
        owner = self._owner
        if owner.gone:
            return None
        if not owner._arrived:
            owner.wait(timeout)
        return owner._arrived.popleft() if owner._arrived else None

    def renew(self) -> None:
        """No connection is lost."""

    def close(self) -> None:
        self._owner._arrived.clear()


class _Clock:
    """``time`` for the clients' threads."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def monotonic(self) -> float:
        return self._network.now

    def sleep(self, seconds: float) -> None:
        RealAttempt._now.sleep(seconds)


def simulate(patch: pytest.MonkeyPatch, network: Network) -> None:
    """Have the clients' channels, clock and chance be the network's."""
    patch.setattr(conversation, "Channel", _Channel)
    patch.setattr(conversation, "time", _Clock(network))
    patch.setattr(conversation, "random", network.random)
