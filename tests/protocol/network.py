"""The simulated network and clock: messages are lost, doubled, late and out of order, as a seed chooses.

To the server it is its listener. Everybody else lives in its events: ``Network.messages``, which the server calls to
wait for a message, runs them until there is one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, Final, Protocol

from elephas_fast.wire import Frame, Message, decode

LOST: Final = 0.15
DOUBLED: Final = 0.20
LATE: Final = 0.02
TICK: Final = 0.5  # seconds; the server would look more often than anything can happen here


class Killed(Exception):
    """The server has been killed."""


class Peer(Protocol):
    """Somebody to whom the server replies. ``orderly``: by a connection that may lose, but keeps the order."""

    orderly: bool

    def receive(self, reply: Message, frames: Sequence[Frame]) -> None:
        """A reply has come, which is what ``frames`` say."""


class Network:
    """Events in the order of their simulated time.

    ``replied`` is told each reply when the server sends it, before it may get lost.
    """

    def __init__(self, seed: int, replied: Callable[[Peer, Message], None]) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.endpoints = ["simulated"]
        self.injected = {"lost": 0, "doubled": 0, "late": 0}
        self.kill_at_reply = False
        self._replied = replied
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._arrived: deque[tuple[Peer, list[Frame]]] = deque()
        self._frozen_until = 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing can happen any more."""
        return not self._events and not self._arrived

    def monotonic(self) -> float:
        """The clock, for those who ask ``time``."""
        return self.now

    def at(self, delay: float, act: Callable[..., None], *arguments: Any) -> None:
        """Have something happen ``delay`` seconds from now."""
        self._scheduled += 1
        heappush(self._events, (self.now + delay, self._scheduled, act, arguments))

    def freeze(self, seconds: float) -> None:
        """The server takes nothing for a while; what is sent meanwhile waits for it."""
        self._frozen_until = max(self._frozen_until, self.now + seconds)

    def carry(self, peer: Peer, frames: list[Frame]) -> None:
        """Carry a request to the server, or not."""
        for delay in self._fate(peer):
            self.at(delay, self._arrive, peer, frames)

    def _arrive(self, peer: Peer, frames: list[Frame]) -> None:
        if self.now < self._frozen_until:
            self.at(self._frozen_until - self.now, self._arrive, peer, frames)
        else:
            self._arrived.append((peer, frames))

    def _fate(self, peer: Peer) -> tuple[float, ...]:
        """When the copies of a message arrive."""
        draw = self.random.random
        chance = draw()
        if chance < LOST:
            self.injected["lost"] += 1
            return ()
        if peer.orderly:
            return (0.001,)
        delay = draw() ** 4
        if chance < LOST + DOUBLED:
            self.injected["doubled"] += 1
            return delay, 3.0 * draw() ** 2
        if chance > 1.0 - LATE:
            self.injected["late"] += 1
            return (20.0 * draw(),)
        return (delay,)

    # What a server expects of its listener.

    def messages(self, timeout: float) -> Iterator[tuple[Peer, list[memoryview]]]:
        """Let time pass until a message has come, or for ``timeout`` seconds."""
        until = max(self.now + max(timeout, TICK), self._frozen_until)
        while not self._arrived:
            if not self._events or self._events[0][0] > until:
                self.now = until
                return
            self.now, _, act, arguments = heappop(self._events)
            act(*arguments)
        peer, frames = self._arrived.popleft()
        yield peer, [memoryview(frame) for frame in frames]

    def send(self, peer: Peer, frames: Sequence[Frame]) -> bool:
        """Carry a reply to its peer, or not."""
        reply, _ = decode(frames)
        self._replied(peer, reply)
        if self.kill_at_reply:
            self.kill_at_reply = False
            raise Killed
        for delay in self._fate(peer):
            self.at(delay, peer.receive, reply, frames)
        return True

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """No descriptors are watched here."""
        raise AssertionError("a simulated server has no descriptors")

    unwatch = watch
