"""A real server within the test's own thread, connections to it that come and go, and what each side should know."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from elephas_fast.config import ServerSettings
from elephas_fast.optimizers import SGD
from elephas_fast.server import FOREVER, ParameterServer
from elephas_fast.store import ParameterStore
from elephas_fast.transport import Address, Listener
from elephas_fast.wire import Ack, Error, Frame, Goodbye, Message, Welcome, decode
from tests.server.raw import WAIT, Raw

SIZE = 4
PARTITIONS = 2
EPOCH = 3  # rounds
numbers = st.integers(0, 2**20)
rarely = st.sampled_from([False] * 5 + [True])


class Served:
    """A real server on a listener within this process, which answers in this very thread."""

    def __init__(self, mode: str, workers: int = 1) -> None:
        self._settings = config = ServerSettings(
            mode=mode,
            access="stripes",
            optimizer=SGD(learning_rate=1.0).to_config(),
            workers=workers,
            partitions=PARTITIONS,
        )
        self.store = ParameterStore(
            np.zeros(SIZE, np.float32), config.optimizer, access=config.store_access, lines=PARTITIONS
        )
        self._listener = Listener([f"inproc://{secrets.token_hex(8)}"], 2**16)
        self.address = Address(tuple(self._listener.endpoints), secrets.token_bytes(32))
        self.follow()

    def follow(self) -> None:
        """Have another server go on in the place of the one before, as after its death."""
        self._server = ParameterServer(self.store, self._settings, self._listener, self.address.key)

    def answer(self) -> None:
        """Wait for a message and answer it."""
        turns = iter([True])
        self._server.serve(lambda: next(turns, False))

    def close(self) -> None:
        self._server.close()
        self._listener.close()
        self.store.close()


class Speaker(Raw):
    """A connection to a ``Served``."""

    def __init__(self, served: Served) -> None:
        super().__init__(served.address, "inproc")
        self._served = served

    def _exchange(self, frames: Sequence[Frame]) -> tuple[Message, list[Frame]]:
        assert self._channel.send(frames, WAIT)
        self._served.answer()
        reply = self._channel.receive(WAIT)
        assert reply is not None, "no reply"
        return decode(reply)


@dataclass
class Connection:
    """One connection, and what its owner knows. ``generation`` 0: the server does not know it."""

    raw: Speaker
    partition: int
    attempt: int
    generation: int = 0
    tried: int = 0  # the generation it would push with, whether or not the server knows it


@dataclass
class Line:
    """What the ledger should say of a partition."""

    attempt: int = -1
    generation: int = 0
    applied: int = 0
    finished: bool = False


class Comings(RuleBasedStateMachine):
    """One server, and connections of two partitions' attempts that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[Connection] = []
        self.lines = [Line() for _ in range(PARTITIONS)]
        self.weights = np.zeros(SIZE, np.float32)
        self.version = 0
        self.closed = False
        self.stop_at = FOREVER
        self.reports: list[int] = []
        self.reported = 0
        self.faults: dict[str, int] = {}
        self.hellos_refused: set[tuple[int, int]] = set()

    @initialize(mode=st.sampled_from(["asynchronous", "hogwild"]))
    def begin(self, mode: str) -> None:
        self.served = Served(mode)
        self.faults = dict.fromkeys(self.served.store.counts(), 0)

    def teardown(self) -> None:
        for connection in self.connections:
            connection.raw.__exit__()
        if hasattr(self, "served"):
            self.served.close()

    def some(self, number: int) -> Connection:
        return self.connections[number % len(self.connections)]

    def expect_error(self, reply: Message, code: str, counter: str = "") -> None:
        assert isinstance(reply, Error), reply
        assert reply.code == code, reply
        if counter:
            self.faults[counter] += 1

    def known(self, connection: Connection, reply: Message) -> bool:
        """Whether the server knows this connection; if not, the reply must say so."""
        if connection.generation == 0:
            self.expect_error(reply, "hello")
        return connection.generation != 0

    # Coming and going

    @rule(partition=st.integers(0, PARTITIONS - 1), attempt=st.integers(0, 3), silent=rarely)
    def connect(self, partition: int, attempt: int, silent: bool) -> None:
        if len(self.connections) == 4:
            self.connections.pop(0).raw.__exit__()
        connection = Connection(Speaker(self.served), partition, attempt)
        self.connections.append(connection)
        if not silent:
            self.hello(len(self.connections) - 1)

    @precondition(lambda self: self.connections)
    @rule(number=numbers)
    def hello(self, number: int) -> None:
        connection = self.some(number)
        line = self.lines[connection.partition]
        reply = connection.raw.hello(partition=connection.partition, attempt=connection.attempt, rounds=EPOCH)
        if self.closed:
            self.expect_error(reply, "closed")
            return
        if connection.attempt < line.attempt:
            who = (connection.partition, connection.attempt)
            new = who not in self.hellos_refused
            self.hellos_refused.add(who)
            self.expect_error(reply, "finished" if line.finished else "fenced", "fenced" if new else "")
            return
        self.faults["retried"] += 0 <= line.attempt < connection.attempt
        holds_it = connection.generation > 0 and connection.generation == line.generation
        line.attempt = connection.attempt
        line.generation += not holds_it
        line.finished = False
        assert isinstance(reply, Welcome), reply
        assert (reply.line, reply.generation, reply.clock, reply.version) == (
            connection.partition, line.generation, line.applied, self.version,
        )  # fmt: skip
        connection.generation = connection.tried = line.generation

    @precondition(lambda self: self.connections)
    @rule(number=numbers, wrong=st.sampled_from([
        ({"key": b"x" * 32}, "key", "damaged"), ({"key": b""}, "key", "damaged"), ({"protocol": 1}, "protocol", ""),
        ({"partition": PARTITIONS}, "protocol", ""),
    ]))  # fmt: skip
    def hello_that_is_refused(self, number: int, wrong: tuple[dict[str, Any], str, str]) -> None:
        connection = self.some(number)
        fields = {"partition": connection.partition, "attempt": connection.attempt, **wrong[0]}
        self.expect_error(connection.raw.hello(**fields), *wrong[1:])

    @precondition(lambda self: self.connections)
    @rule(number=numbers, sure=rarely)
    def goodbye(self, number: int, sure: bool) -> None:
        if not sure:
            return
        connection = self.some(number)
        reply = connection.raw.ask(Goodbye())
        if self.known(connection, reply):
            assert isinstance(reply, Ack)
            connection.generation = 0

    @invariant()
    def the_server_holds_what_the_model_says(self) -> None:
        if hasattr(self, "served"):
            store = self.served.store
            assert store.pull().tobytes() == self.weights.tobytes()
            assert store.version == self.version
            assert store.counts() == self.faults
