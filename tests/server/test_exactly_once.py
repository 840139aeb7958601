"""Every push counts exactly once: from many processes, sent again, over a bad network, from an older attempt."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from elephas_fast.client import Client, PushRefused, ServerUnreachable, connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.transport import Address
from elephas_fast.wire import Ack, Error, Pull, Weights, Welcome
from tests.server.crew import Crew, in_threads, integers, push_integers
from tests.server.holdings import wait_until
from tests.server.proxy import Proxy
from tests.server.raw import Raw

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(120)]
SIZE = 1003
ONES = np.ones(4, np.float32)


def sum_of_integers(workers: int, count: int) -> NDArray[np.float32]:
    """Where a vector of zeros ends after all workers' pushes; exact in float32."""
    total = np.zeros(SIZE, np.int64)
    for worker in range(workers):
        for step in range(count):
            total -= integers(SIZE, worker, step).astype(np.int64)
    assert abs(total).max() < 2**24
    return total.astype(np.float32)


@pytest.fixture(scope="module")
def expected_of_eight() -> NDArray[np.float32]:
    return sum_of_integers(8, 1000)


@pytest.mark.parametrize(
    ("mode", "access"), [("asynchronous", "racy"), ("hogwild", "compare_exchange")], ids=["asynchronous", "hogwild"]
)
@pytest.mark.parametrize("transport", ["inproc", "shm", "ipc", "tcp"])
def test_eight_pushing_at_once_leave_the_exact_sum(
    crew: Crew, transport: str, mode: str, access: str, expected_of_eight: NDArray[np.float32]
) -> None:
    with ParameterCluster(np.zeros(SIZE, np.float32), mode=mode, access=access, transport=transport) as cluster:
        arguments = [(cluster.address, transport, worker, 1000) for worker in range(8)]
        if transport == "inproc":
            versions = in_threads(push_integers, arguments, 90)
        else:
            versions = crew.run(push_integers, arguments, 90)
        np.testing.assert_array_equal(cluster.pull(), expected_of_eight)
        assert cluster.version == 8000
        assert max(versions) == 8000
        assert cluster.faults == dict.fromkeys(cluster.faults, 0)


SOCKETS = ("inproc", "ipc", "tcp")


@pytest.mark.parametrize("mode", ["asynchronous", "hogwild"])
@pytest.mark.parametrize("transport", SOCKETS)
def test_a_push_sent_again_is_recognised(transport: str, mode: str) -> None:
    with (
        ParameterCluster(np.zeros(4, np.float32), mode=mode, transport=transport) as cluster,
        Raw(cluster.address, transport) as raw,
    ):
        assert isinstance(raw.hello(), Welcome)
        statuses = [raw.applied(clock, ONES) for clock in (1, 1, 2, 1, 2, 2, 3)]
        assert statuses == ["applied", "duplicate", "applied", "duplicate", "duplicate", "duplicate", "applied"]
        gap = raw.push(5, ONES)
        assert isinstance(gap, Error)
        assert (gap.code, "expected round 4" in gap.text) == ("gap", True)
        assert raw.applied(4, ONES) == "applied"
        np.testing.assert_array_equal(cluster.pull(), -4 * ONES)
        assert cluster.version == 4
        assert cluster.faults["duplicate"] == 4


@pytest.mark.parametrize("partition", [-1, 0])
def test_a_hello_sent_again_fences_nobody(partition: int) -> None:
    with (
        ParameterCluster(np.zeros(4, np.float32), transport="inproc", partitions=1) as cluster,
        Raw(cluster.address, "inproc") as raw,
    ):
        raw.hello(partition=partition)
        first = raw.generation
        raw.hello(partition=partition)
        assert raw.applied(1, ONES, generation=first) == "applied"
        assert cluster.faults == dict.fromkeys(cluster.faults, 0)


def test_a_synchronous_push_sent_again_is_recognised_before_and_after_its_round() -> None:
    with (
        ParameterCluster(np.zeros(4, np.float32), mode="synchronous", transport="inproc", workers=2) as cluster,
        Raw(cluster.address, "inproc") as one,
        Raw(cluster.address, "inproc") as other,
    ):
        one.hello()
        other.hello()
        assert [one.applied(1, ONES), one.applied(1, 9 * ONES)] == ["accepted", "duplicate"]
        early = one.push(2, 9 * ONES)
        assert isinstance(early, Error)
        assert early.code == "gap"
        assert other.applied(1, 3 * ONES) == "accepted"
        np.testing.assert_array_equal(cluster.pull(), -2 * ONES)
        assert [one.applied(1, ONES), other.applied(1, ONES)] == ["duplicate", "duplicate"]
        assert one.applied(2, ONES) == "accepted"
        assert cluster.version == 1


@pytest.mark.fault(3)
@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
@pytest.mark.parametrize("transport", ["inproc", "shm", "ipc", "tcp"])
def test_a_newer_attempt_fences_the_older_and_resumes_after_it(transport: str, mode: str) -> None:
    def attempt(number: int) -> Client:
        return connect(cluster.address, transport=transport, partition=1, attempt=number, rounds=10, timeout=20.0)

    with ParameterCluster(np.zeros(4, np.float32), mode=mode, transport=transport, partitions=2, workers=1) as cluster:
        old = attempt(7)
        assert old.clock == 0
        for _ in range(3):
            old.push(ONES)
        old.pull()
        new = attempt(12)
        assert new.clock == 3
        for _ in range(2):
            with pytest.raises(PushRefused, match="a newer attempt of partition 1 has taken over") as refused:
                old.push(ONES)
            assert refused.value.code == "fenced"
        with pytest.raises(PushRefused, match="a newer attempt") as refused:
            attempt(7)
        assert refused.value.code == "fenced"
        old.close()
        new.push(ONES)
        np.testing.assert_array_equal(new.pull(), -4 * ONES)
        new.close()
        again = attempt(12)
        assert again.clock == 4
        again.close()
        np.testing.assert_array_equal(cluster.pull(), -4 * ONES)
        assert cluster.version == 4
        assert cluster.faults["fenced"] >= (1 if (transport, mode) == ("shm", "hogwild") else 3)


def test_a_round_pushed_by_an_attempt_that_died_is_not_applied_again() -> None:
    def attempt(partition: int, number: int) -> Client:
        return connect(cluster.address, transport="shm", partition=partition, attempt=number, rounds=2, timeout=20.0)

    with ParameterCluster(
        np.zeros(4, np.float32), mode="synchronous", transport="shm", partitions=2, workers=2
    ) as cluster:
        first, other = attempt(0, 0), attempt(1, 1)
        first.push(2 * ONES)
        first.close()  # gives its outbox back, in which the push still stood
        busy = connect(cluster.address, transport="shm", rounds=0)
        busy.vector[0][:] = 77.0
        second = attempt(0, 5)
        assert second.clock == 0
        receipt = second.push(2 * ONES)
        assert receipt is not None
        assert receipt.status == "duplicate"
        other.push(4 * ONES)
        np.testing.assert_array_equal(second.pull(), -3 * ONES)
        for client in (second, other, busy):
            client.close()


def test_a_place_taken_over_is_not_lost_when_its_former_owner_is_seen_to_go() -> None:
    with ParameterCluster(np.zeros(4, np.float32), transport="shm") as cluster:
        former = connect(cluster.address, transport="shm")
        assert former._member.lifeline is not None
        late = os.dup(former._member.lifeline.fileno())  # its end is not seen before this is closed
        former.close()
        with connect(cluster.address, transport="shm") as successor:
            assert successor._member.line == former._member.line
            successor.push(ONES)
            os.close(late)
            for _ in range(20):
                successor.push(ONES)
            assert successor.clock == 21
        assert cluster.version == 21


@pytest.mark.fault(6)
@pytest.mark.usefixtures("impatient")
def test_a_connection_that_is_cut_loses_and_doubles_nothing() -> None:
    with (
        ParameterCluster(np.zeros(SIZE, np.float32), transport="tcp") as cluster,
        Proxy(cluster.address.endpoint("tcp") or "") as proxy,
    ):
        address = Address((proxy.endpoint,), cluster.address.key)
        finished = threading.Event()

        def cut() -> None:
            while not finished.wait(0.15):
                proxy.cut()

        cutter = threading.Thread(target=cut)
        with connect(address, transport="tcp", timeout=30.0) as client:
            cutter.start()
            try:
                step = 0
                while step < 200 or proxy.connections < 5:
                    client.push(integers(SIZE, 0, step))
                    step += 1
                    assert step < 100_000
            finally:
                finished.set()
                cutter.join(10)
            np.testing.assert_array_equal(client.pull(), cluster.pull())
            assert client.clock == cluster.version == step
        total = np.zeros(SIZE)
        for done in range(step):
            total -= integers(SIZE, 0, done)
        np.testing.assert_array_equal(cluster.pull(), total.astype(np.float32))


@pytest.mark.fault(7)
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("transport", "mode"), [("shm", "synchronous"), ("ipc", "asynchronous"), ("tcp", "asynchronous")]
)
def test_a_server_that_was_frozen_counts_what_was_sent_again_once(transport: str, mode: str) -> None:
    with (
        ParameterCluster(np.zeros(4, np.float32), mode=mode, transport=transport) as cluster,
        connect(cluster.address, transport=transport, timeout=30.0) as client,
    ):
        assert cluster.pid is not None
        os.kill(cluster.pid, signal.SIGSTOP)
        thaw = threading.Timer(0.8, os.kill, (cluster.pid, signal.SIGCONT))
        thaw.start()
        receipt = client.push(ONES)
        thaw.join()
        assert receipt is not None
        assert receipt.status in ("applied", "accepted", "duplicate")
        assert client.push(ONES) is not None
        np.testing.assert_array_equal(client.pull(), -2 * ONES)
        assert cluster.version == 2
        assert wait_until(lambda: cluster.faults["duplicate"] >= 1, 10.0)


def test_a_push_given_up_and_waited_for_later_counts_once() -> None:
    with ParameterCluster(np.zeros(4, np.float32), transport="ipc") as cluster:
        client = connect(cluster.address, transport="ipc", timeout=0.5)
        assert cluster.pid is not None
        os.kill(cluster.pid, signal.SIGSTOP)
        with pytest.raises(ServerUnreachable):
            client.push(ONES)
        os.kill(cluster.pid, signal.SIGCONT)
        client._member.talk().timeout = 20.0
        receipt = client.wait()
        assert receipt is not None
        assert receipt.status in ("applied", "duplicate")
        np.testing.assert_array_equal(client.pull(), -ONES)
        assert (client.clock, cluster.version) == (1, 1)
        client.close()


REFUSALS: dict[str, Callable[[Raw], Any]] = {
    "a payload that is short": lambda raw: raw.push(1, ONES[:3]),
    "a payload that is long": lambda raw: raw.push(1, np.ones(5, np.float32)),
    "an outbox nobody has": lambda raw: raw.push(1, ONES, outbox=True),
    "opaque bytes that are missing": lambda raw: raw.push(1, ONES, opaque=True),
    "a purpose there is not": lambda raw: raw.ask(Pull(purpose="steal", clock=0, weights=True)),
    "a reply as a request": lambda raw: raw.ask(Ack(status="applied", clock=1, version=1)),
    "weights as a request": lambda raw: raw.ask(
        Weights(version=1, stop=False, learning_rate=0.0, server_learning_rate=0.0)
    ),
}


@pytest.mark.fault(11)
@pytest.mark.fault(12)
@pytest.mark.parametrize("refused", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_known_client_that_breaks_the_protocol_is_refused(refused: Callable[[Raw], Any]) -> None:
    with ParameterCluster(np.zeros(4, np.float32), transport="inproc") as cluster:
        with Raw(cluster.address, "inproc") as raw:
            raw.hello()
            reply = refused(raw)
            assert isinstance(reply, Error)
            assert reply.code == "protocol"
            assert "expected" in reply.text or "does not take" in reply.text
            assert cluster.faults["damaged"] == 1
            assert cluster.version == 0
            assert raw.applied(1, ONES) == "applied"
        np.testing.assert_array_equal(cluster.pull(), -ONES)
