"""Dialogues with a real server, of any messages in any order, each answer foretold by a small model of the protocol."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from elephas_fast.server import FOREVER
from elephas_fast.wire import (
    Ack,
    Close,
    Error,
    Message,
    Observe,
    Observed,
    Pull,
    Report,
    Steer,
    Weights,
)
from tests.faults.speaking import EPOCH, SIZE, Comings, Connection, numbers, rarely

values = st.integers(-3, 3)


class Dialogue(Comings):
    """Pushes and everything else, on connections that come and go."""

    # Pushes

    @precondition(lambda self: self.connections)
    @rule(number=numbers, value=values)
    def push_that_is_new(self, number: int, value: int) -> None:
        self.push(number, value, 1)

    @precondition(lambda self: any(line.applied for line in self.lines))
    @rule(number=numbers, value=values, behind=st.integers(0, 3))
    def push_that_comes_again(self, number: int, value: int, behind: int) -> None:
        self.push(number, value, -behind)

    @precondition(lambda self: self.connections)
    @rule(number=numbers, value=values, ahead=st.integers(2, 4))
    def push_after_a_gap(self, number: int, value: int, ahead: int) -> None:
        self.push(number, value, ahead)

    def push(self, number: int, value: int, ahead: int) -> None:
        """The push that comes so many rounds after the last one applied."""
        connection = self.some(number)
        line = self.lines[connection.partition]
        clock = max(1, line.applied + ahead)
        gradient = np.full(SIZE, value, np.float32)
        reply = connection.raw.push(clock, gradient, generation=connection.tried)
        verdict = self.verdict(connection, reply, clock)
        if verdict == "new":
            self.weights -= gradient
            self.accept(connection, reply, "applied", clock)

    def verdict(self, connection: Connection, reply: Message, clock: int) -> str:
        """What is to be done with a well-formed push; where it is not to be applied, the reply is checked."""
        line = self.lines[connection.partition]
        if not self.known(connection, reply):
            return "unknown"
        if self.closed:
            self.expect_error(reply, "closed", "late")
        elif connection.generation != line.generation:
            self.expect_error(reply, "fenced", "fenced")
        elif clock > line.applied + 1:
            self.expect_error(reply, "gap")
        elif clock <= line.applied:
            self.faults["duplicate"] += 1
            assert isinstance(reply, Ack), reply
            assert (reply.status, reply.clock, reply.version) == ("duplicate", clock, self.version)
        else:
            return "new"
        return "old"

    def accept(self, connection: Connection, reply: Message, status: str, clock: int) -> None:
        line = self.lines[connection.partition]
        line.applied = clock
        self.version += status == "applied"
        assert isinstance(reply, Ack), reply
        assert (reply.status, reply.clock, reply.version) == (status, clock, self.version)

    @precondition(lambda self: self.connections)
    @rule(number=numbers, value=st.sampled_from([math.nan, math.inf, -math.inf]), at=st.integers(0, SIZE - 1))
    def push_that_is_not_finite(self, number: int, value: float, at: int) -> None:
        connection = self.some(number)
        gradient = np.ones(SIZE, np.float32)
        gradient[at] = value
        clock = self.lines[connection.partition].applied + 1
        reply = connection.raw.push(clock, gradient, generation=connection.tried)
        if self.verdict(connection, reply, clock) == "new":
            self.faults["nonfinite"] += 1
            self.accept(connection, reply, "refused", clock)

    @precondition(lambda self: self.connections)
    @rule(number=numbers, size=st.sampled_from([0, 1, SIZE - 1, SIZE + 1, 2 * SIZE]))
    def push_of_another_length(self, number: int, size: int) -> None:
        connection = self.some(number)
        clock = self.lines[connection.partition].applied + 1
        reply = connection.raw.push(clock, np.ones(size, np.float32), generation=connection.tried)
        if self.verdict(connection, reply, clock) == "new":
            self.expect_error(reply, "protocol", "damaged")

    @precondition(lambda self: self.connections)
    @rule(number=numbers, older=st.integers(1, 3))
    def push_of_an_older_generation(self, number: int, older: int) -> None:
        connection = self.some(number)
        line = self.lines[connection.partition]
        reply = connection.raw.push(
            line.applied + 1, np.ones(SIZE, np.float32), generation=max(0, line.generation - older)
        )
        if self.known(connection, reply):
            self.expect_error(reply, *(("closed", "late") if self.closed else ("fenced", "fenced")))

    # Everything else

    @precondition(lambda self: self.connections)
    @rule(number=numbers, purpose=st.sampled_from(["train", "evaluate", "observe"]), weights=st.booleans())
    def pull(self, number: int, purpose: str, weights: bool) -> None:
        connection = self.some(number)
        clock = self.lines[connection.partition].applied
        reply, payload = connection.raw.ask_all(Pull(purpose=purpose, clock=clock, weights=weights))
        if not self.known(connection, reply):
            return
        assert isinstance(reply, Weights), reply
        stop = purpose == "train" and clock // EPOCH >= self.stop_at
        assert (reply.version, reply.stop, reply.clock) == (self.version, stop, clock)
        assert [bytes(frame) for frame in payload] == ([self.weights.tobytes()] if weights else [])

    @precondition(lambda self: self.connections)
    @rule(number=numbers, kind=st.sampled_from(["progress", "epoch", "done"]))
    def report(self, number: int, kind: str) -> None:
        connection = self.some(number)
        line = self.lines[connection.partition]
        reply = connection.raw.ask(
            Report(
                kind=kind, partition=connection.partition, attempt=connection.attempt, epoch=0, rows=1,
                validation_rows=0, rounds=1, staleness=0, seconds=0.0, loss=0.0, host="h", transport="inproc",
            )
        )  # fmt: skip
        if not self.known(connection, reply):
            return
        if connection.generation != line.generation:
            self.expect_error(reply, "fenced", "fenced")
            return
        assert isinstance(reply, Ack), reply
        self.reports.append(self.reported)
        self.reported += 1
        line.finished = line.finished or kind == "done"

    @precondition(lambda self: self.connections)
    @rule(number=numbers, ahead=st.integers(0, 2))
    def observe(self, number: int, ahead: int) -> None:
        connection = self.some(number)
        seen = (self.reports[0] if self.reports else self.reported) + ahead
        reply, payload = connection.raw.ask_all(Observe(seen=seen))
        if not self.known(connection, reply):
            return
        assert isinstance(reply, Observed), reply
        self.reports = [number for number in self.reports if number >= seen]
        assert reply.more == (len(self.reports) > 1)
        assert bool(payload) == bool(self.reports)
        assert not payload or reply.seen == self.reports[0] + 1
        assert reply.faults == tuple(self.faults.values())
        assert reply.version == self.version

    @precondition(lambda self: self.connections)
    @rule(number=numbers, stop_at=st.sampled_from([0, 1, FOREVER]))
    def steer(self, number: int, stop_at: int) -> None:
        connection = self.some(number)
        order = Steer(released=FOREVER, stop_at=stop_at, learning_rate=0.0, server_learning_rate=0.0)
        reply = connection.raw.ask(order)
        if self.known(connection, reply):
            assert isinstance(reply, Ack), reply
            self.stop_at = stop_at

    @precondition(lambda self: self.connections)
    @rule(number=numbers, sure=rarely)
    def close(self, number: int, sure: bool) -> None:
        if not sure:
            return
        connection = self.some(number)
        reply = connection.raw.ask(Close())
        if self.known(connection, reply):
            assert isinstance(reply, Ack), reply
            self.closed = True

    @precondition(lambda self: self.connections)
    @rule(number=numbers, message=st.sampled_from([
        Ack(status="applied", clock=1, version=1), Error(code="key", text=""),
        Weights(version=1, stop=False, learning_rate=0.0, server_learning_rate=0.0),
        Pull(purpose="steal", clock=0, weights=True),
    ]))  # fmt: skip
    def what_is_no_request(self, number: int, message: Message) -> None:
        connection = self.some(number)
        reply = connection.raw.ask(message)
        if self.known(connection, reply):
            self.expect_error(reply, "protocol", "damaged")


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.timeout(3600)
def test_every_answer_is_the_one_foretold(
    request: pytest.FixtureRequest, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    examples = how_many(200, 10_000)
    run_state_machine_as_test(
        Dialogue,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            derandomize=not request.config.getoption("--soak"),
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    injected(dialogues=examples, wrong=0)
