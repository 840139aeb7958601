"""One history: Spark's attempts, the driver and the real server on a simulated network."""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest

from elephas_fast.config import ServerSettings
from elephas_fast.layout import Layout
from elephas_fast.optimizers import SGD
from elephas_fast.server import ParameterServer, server, sessions
from elephas_fast.store import ParameterStore, Segment
from elephas_fast.store.header import VERSION
from elephas_fast.wire import Ack, Message
from tests.protocol import events, network
from tests.protocol.events import Event
from tests.protocol.network import Network
from tests.protocol.people import CLOSE, KEY, Attempt, Driver, release
from tests.protocol.plan import MAX_CLOCK, MAX_PARTITIONS, SIZE, Plan
from tests.protocol.real_clients import RealAttempt, simulate

_LINES: Final = MAX_PARTITIONS + 5
_ATTEMPTS: Final = 4  # of a partition, after which Spark meets with no more faults
_TIME: Final = 600.0  # simulated seconds, after which a history counts as stuck
_SUBTRACT: Final = SGD(learning_rate=1.0)
_LAYOUT: Final = Layout.vector(SIZE)


class Ground:
    """Shared memory for one history after another, of one kind of access."""

    def __init__(self, access: str) -> None:
        self._access = access
        with ParameterStore(np.zeros(SIZE, np.float32), access=access, lines=_LINES, shared=True) as store:
            assert store.segment.fd is not None
            self._fd = os.dup(store.segment.fd)
        self._memory = mmap.mmap(self._fd, 0)
        self._pristine = bytes(self._memory)
        self._seen = Segment.attach(os.dup(self._fd))

    def renew(self) -> None:
        """Put everything back to its beginning."""
        self._memory[:] = self._pristine

    def attach(self) -> ParameterStore:
        """A store on this memory, as each process has its own."""
        return ParameterStore.attach(Segment.attach(os.dup(self._fd)), _SUBTRACT, _LAYOUT, access=self._access)

    @property
    def weights(self) -> np.ndarray:
        """The memory that holds the weights now."""
        arrays = self._seen.weights
        return arrays[int(self._seen.header[VERSION]) & 1 if len(arrays) == 2 else 0]

    def close(self) -> None:
        """Give the memory back."""
        self._seen.close()
        self._memory.close()
        os.close(self._fd)


class World:
    """Runs one plan. ``history``: what has happened."""

    def __init__(self, plan: Plan, ground: Ground, kind: type[Attempt] | type[RealAttempt] = Attempt) -> None:
        self.plan, self._ground, self._kind = plan, ground, kind
        ground.renew()
        self.network = Network(plan.seed, self._replied)
        self.history: list[Event] = []
        self.settings = ServerSettings(
            mode="asynchronous" if plan.mode == "bounded" else plan.mode,
            access="stripes",
            optimizer=_SUBTRACT.to_config(),
            staleness=plan.staleness,
            workers=len(plan.rounds),
            partitions=len(plan.rounds),
        )
        self.workers_store = ground.attach() if plan.near else None
        self._driver = Driver(self)
        self._attempts: list[list[Attempt | RealAttempt]] = [[] for _ in plan.rounds]
        self._launched = 0
        self._complete: set[int] = set()
        self._ending = False
        self._seen = np.zeros(SIZE, np.float32)
        self._seen_bytes = self._seen.tobytes()
        self._result = b""

    def run(self) -> list[Event]:
        """The history, to its end."""
        net = self.network
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "time", net)
            patch.setattr(sessions, "time", net)
            simulate(patch, net)
            self._begin()
            while True:
                store = self._ground.attach()
                try:
                    ParameterServer(store, self.settings, net, KEY).serve(self._goes_on)  # type: ignore[arg-type]
                    break
                except network.Killed:
                    self.history.append(events.Killed(net.now))
                    net.freeze(2.0 * net.random.random())
                finally:
                    faults = store.counts()
                    store.close()
        if self.workers_store is not None:
            self.workers_store.close()
        if not net.idle:
            self.wrong(f"not finished after {_TIME:.0f} s")
        self.history.append(events.Ended(net.now, self._result, self._ground.weights.tobytes(), faults))
        return self.history

    def wrong(self, what: str) -> None:
        """Note what must not happen."""
        self.history.append(events.Wrong(self.network.now, what))

    def returned(self, attempt: Attempt | RealAttempt) -> None:
        """An attempt has returned from its task."""
        partition = attempt.partition
        self.history.append(events.Returned(self.network.now, partition, attempt.attempt))
        self._complete.add(partition)
        for other in self._attempts[partition]:
            self._later(4.0, other.leave)
        if len(self._complete) == len(self.plan.rounds):
            self._end()

    def applied_near(self, attempt: Attempt, clock: int, outcome: str) -> None:
        """A worker on the server's host has tried to apply a push."""
        self._look()
        self.history.append(events.Near(self.network.now, attempt.partition, attempt.attempt, clock, outcome))

    def _goes_on(self) -> bool:
        return not self.network.idle and self.network.now < _TIME

    def _later(self, most: float, act: Any, *arguments: Any) -> None:
        """Within ``most`` seconds."""
        self.network.at(most * self.network.random.random(), act, *arguments)

    def _begin(self) -> None:
        draw = self.network.random
        if self.plan.held:
            self._driver.tell(release(1), self._start)
        else:
            self._start()
        if self.plan.interrupted:
            self._later(4.0, self._end)
        for _ in range(self.plan.crashes):
            self._later(3.0, self._kill_server)
        if draw.random() < 0.3:
            self._later(3.0, self.network.freeze, 5.0 * draw.random())

    def _start(self) -> None:
        for partition in range(len(self.plan.rounds)):
            self._later(0.3, self._launch, partition)
        if self.plan.held:
            self._later(6.0, self._release)

    def _release(self) -> None:
        self.history.append(events.Released(self.network.now))
        self._driver.tell(release(None), lambda: None)

    def _launch(self, partition: int) -> None:
        """Spark starts an attempt, and something may happen to it."""
        if partition in self._complete or self._ending:
            return
        self._launched += 1
        attempt = self._kind(self, partition, self._launched, self.plan.near)
        self._attempts[partition].append(attempt)
        self.history.append(events.Launched(self.network.now, partition, attempt.attempt))
        attempt.hello()
        if len(self._attempts[partition]) >= _ATTEMPTS:
            return
        chance = self.network.random.random()
        if chance < 0.15:
            self._later(2.0, self._kill, attempt)
        elif chance < 0.27:
            self._later(2.0, self._lose, attempt)
        elif chance < 0.4:
            self._later(2.0, self._launch, partition)
        elif chance < 0.5:
            self._later(2.0, attempt.pause, 6.0 * self.network.random.random())

    def _kill(self, attempt: Attempt | RealAttempt) -> None:
        """An attempt dies; Spark starts another if none runs."""
        if attempt.gone:
            return
        attempt.leave()
        if all(other.gone or other.lost for other in self._attempts[attempt.partition]):
            self._later(0.5, self._launch, attempt.partition)

    def _lose(self, attempt: Attempt | RealAttempt) -> None:
        """Spark loses sight of an attempt, which goes on for a while beside the one that Spark starts instead."""
        if attempt.gone:
            return
        attempt.lost = True
        self._launch(attempt.partition)
        self._later(10.0, attempt.leave)

    def _kill_server(self) -> None:
        """Now, or after what it does next, before its reply is out."""
        if self.network.random.random() < 0.5:
            raise network.Killed
        self.network.kill_at_reply = True

    def _end(self) -> None:
        """The driver ends the fit."""
        if not self._ending:
            self._ending = True
            self._driver.tell(CLOSE, self._take_home)

    def _take_home(self) -> None:
        self._result = self._ground.weights.tobytes()
        for attempts in self._attempts:
            for attempt in attempts:
                self._later(6.0, attempt.leave)

    def _replied(self, peer: Any, reply: Message) -> None:
        self._look()
        net = self.network
        asked = peer.asked(reply.request)
        self.history.append(events.Replied(net.now, peer.partition, peer.attempt, asked, reply))
        if asked is CLOSE and isinstance(reply, Ack):
            self.history.append(events.Closed(net.now))

    def _look(self) -> None:
        """Write down what has changed in memory."""
        now = self._ground.weights
        data = now.tobytes()
        if data == self._seen_bytes:
            return
        seen, self._seen, self._seen_bytes = self._seen, now.copy(), data
        for at in sorted({int(index) // 2 for index in np.flatnonzero(seen != now)}):
            value, by = float(now[2 * at]), float(now[2 * at + 1])
            partition, before = at // MAX_CLOCK, float(seen[2 * at])
            self.history.append(
                events.Applied(
                    self.network.now, partition, at % MAX_CLOCK + 1, by / value if value else by, before, value
                )
            )


class Grounds:
    """Memory for histories of both kinds of access; a context manager."""

    def __init__(self) -> None:
        self._of: dict[str, Ground] = {}

    def history(self, seed: int, *, real: bool = False) -> tuple[Plan, list[Event], Network]:
        """Run the history of a seed, by the package's own clients if they are to be ``real``."""
        plan = Plan.of(seed)
        if real:
            plan = replace(plan, near=False)
        access = "stripes" if plan.mode == "hogwild" else "atomic"
        ground = self._of.get(access) or self._of.setdefault(access, Ground(access))
        world = World(plan, ground, RealAttempt if real else Attempt)
        return plan, world.run(), world.network

    def __enter__(self) -> Grounds:
        return self

    def __exit__(self, *exc: object) -> None:
        for ground in self._of.values():
            ground.close()
