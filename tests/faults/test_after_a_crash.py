"""What a server that follows another one must not take for granted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from elephas_fast.wire import Ack, Error, Pull, Report, Weights, Welcome
from tests.faults.speaking import SIZE, Served, Speaker

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.fault(8)]
ONES = np.ones(SIZE, np.float32)


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served("synchronous", workers=2)
    yield served
    served.close()


def done(partition: int) -> Report:
    return Report(
        kind="done", partition=partition, attempt=partition, epoch=1, rows=1, validation_rows=0, rounds=1, staleness=0,
        seconds=0.0, loss=0.0, host="h", transport="inproc",
    )  # fmt: skip


def test_a_hello_that_was_sent_before_does_not_hide_that_a_push_was_lost(served: Served) -> None:
    with Speaker(served) as one, Speaker(served) as other:
        for partition, speaker in enumerate((one, other)):
            assert isinstance(speaker.hello(partition=partition, attempt=partition), Welcome)
        assert one.applied(1, ONES) == "accepted"
        served.follow()
        assert isinstance(one.hello(partition=0, attempt=0), Welcome)  # sent again long ago, and late
        waiting = Pull(purpose="evaluate", clock=1, weights=False)
        reply = one.ask(waiting)
        assert isinstance(reply, Error)
        assert reply.code == "hello"
        welcome = one.hello(partition=0, attempt=0)
        assert isinstance(welcome, Welcome)
        assert welcome.clock == 0
        other.hello(partition=1, attempt=1)
        assert [one.applied(1, ONES), other.applied(1, 3 * ONES)] == ["accepted"] * 2
        assert isinstance(one.ask(waiting), Weights)
        np.testing.assert_array_equal(served.store.pull(), -2 * ONES)


def test_an_attempt_that_comes_when_all_has_been_trained_waits_for_nobody(served: Served) -> None:
    with Speaker(served) as one, Speaker(served) as other:
        for partition, speaker in enumerate((one, other)):
            speaker.hello(partition=partition, attempt=partition)
        assert [one.applied(1, ONES), other.applied(1, 3 * ONES)] == ["accepted"] * 2
        for partition, speaker in enumerate((one, other)):
            assert isinstance(speaker.ask(done(partition)), Ack)
        served.follow()
        with Speaker(served) as again:
            welcome = again.hello(partition=0, attempt=7)
            assert isinstance(welcome, Welcome)
            assert welcome.clock == 1
            assert isinstance(again.ask(Pull(purpose="evaluate", clock=1, weights=False)), Weights)
