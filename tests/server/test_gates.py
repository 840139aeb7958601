"""Rounds of several clients through a real server: synchronous means and bounded staleness."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from elephas_fast.client import Client, ServerUnreachable, connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.optimizers import SGD
from elephas_fast.wire import Report
from tests.server.crew import Crew, in_threads, noise, push_rounds
from tests.server.holdings import wait_until
from tests.server.reference import Reference

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(60)]
ONES = np.ones(4, np.float32)
NONE = np.empty(0, np.uint8)


def mean(gradients: list[NDArray[np.float32]], rows: list[int]) -> NDArray[np.float32]:
    result: NDArray[np.float64] = np.average(np.array(gradients, np.float64), axis=0, weights=rows)
    return result.astype(np.float32)


@pytest.mark.parametrize("transport", ["inproc", "shm", "ipc", "tcp"])
def test_each_round_applies_the_mean_weighted_by_rows(crew: Crew, transport: str) -> None:
    size, workers, rounds = 1003, 4, 25
    optimizer = SGD(learning_rate=0.5, momentum=0.9)
    reference = Reference(np.zeros(size, np.float32), optimizer)
    with ParameterCluster(
        np.zeros(size, np.float32), optimizer=optimizer, mode="synchronous", transport=transport, workers=workers
    ) as cluster:
        arguments = [(cluster.address, transport, worker, rounds) for worker in range(workers)]
        seen = in_threads(push_rounds, arguments, 60) if transport == "inproc" else crew.run(push_rounds, arguments, 60)
        for step in range(rounds):
            gradients = [noise(size, worker, step) for worker in range(workers)]
            # The order in which the clients came, and with it that of the double sum, is not known.
            reference.push(mean(gradients, [1, 2, 3, 4]))
            for worker in range(workers):
                np.testing.assert_allclose(seen[worker][step], reference.weights, rtol=1e-5, atol=1e-5)
                np.testing.assert_array_equal(seen[worker][step], seen[0][step])
        assert cluster.version == rounds
        np.testing.assert_array_equal(cluster.pull(), seen[0][-1])
        assert cluster.faults == dict.fromkeys(cluster.faults, 0)


def synchronous(workers: int, **options: Any) -> ParameterCluster:
    return ParameterCluster(
        np.zeros(4, np.float32), mode="synchronous", workers=workers, **{"transport": "shm", **options}
    )


def done(partition: int) -> Report:
    return Report(
        kind="done", partition=partition, attempt=0, epoch=1, rows=1, validation_rows=0, rounds=1, staleness=0,
        seconds=0.0, loss=0.0, host="h", transport="shm",
    )  # fmt: skip


@pytest.mark.parametrize("transport", ["inproc", "shm", "tcp"])
def test_what_a_client_pushed_before_it_left_still_counts(transport: str) -> None:
    with synchronous(2, transport=transport) as cluster:
        with connect(cluster.address, transport=transport) as one:
            other = connect(cluster.address, transport=transport)
            one.push(2 * ONES)
        with connect(cluster.address, transport=transport) as third:
            receipt = third.push(6 * ONES)
            assert receipt is not None
            assert receipt.status == "accepted"
            assert cluster.version == 0
            other.push(4 * ONES)
            np.testing.assert_array_equal(third.pull(), -4 * ONES)
            np.testing.assert_array_equal(other.pull(), -4 * ONES)
            other.close()
            third.push(ONES)
            np.testing.assert_array_equal(third.pull(), -5 * ONES)
        assert cluster.version == 2
        assert cluster.faults["duplicate"] == 0


@pytest.mark.parametrize("transport", ["inproc", "shm", "tcp"])
def test_the_last_round_of_partitions_that_finish_one_by_one_is_whole(transport: str) -> None:
    def train(partition: int) -> int:
        with connect(cluster.address, transport=transport, partition=partition, rounds=1, timeout=20.0) as client:
            client.push(3.0 * partition * ONES)
            client.report(done(partition))
            return cluster.version

    with synchronous(3, transport=transport, partitions=3) as cluster, ThreadPoolExecutor(3) as together:
        assert list(together.map(train, range(3))) == [1, 1, 1], "a worker ends when its last round has been applied"
        np.testing.assert_array_equal(cluster.pull(), -3 * ONES)


def test_those_who_leave_without_pushing_hold_nobody() -> None:
    with synchronous(3) as cluster:
        clients = [connect(cluster.address, transport="shm", timeout=20.0) for _ in range(3)]
        clients[0].push(2 * ONES)
        clients[1].push(4 * ONES)
        assert cluster.version == 0
        clients[2].close()
        np.testing.assert_array_equal(clients[0].pull(), -3 * ONES)
        clients[0].close()
        clients[1].push(ONES)
        np.testing.assert_array_equal(clients[1].pull(), -4 * ONES)
        clients[1].close()


def test_partitions_of_unequal_length_share_the_rounds_they_have() -> None:
    rounds = [3, 1, 0]
    with synchronous(3, partitions=3) as cluster:

        def work(partition: int) -> None:
            with connect(cluster.address, partition=partition, rounds=rounds[partition], timeout=20.0) as client:
                flat = np.empty(4, np.float32)
                for epoch in range(2):
                    for number in range(rounds[partition]):
                        client.begin_round(flat, NONE, new_epoch=number == 0)
                        client.push(np.full(4, 2.0 ** (partition * 4) * (epoch + 1), np.float32))
                client.report(done(partition))

        in_threads(work, [(partition,) for partition in range(3)], 30)
        each_epoch = (1 + 16) / 2 + 1 + 1
        np.testing.assert_array_equal(cluster.pull(), np.full(4, -3 * each_epoch, np.float32))
        assert cluster.version == 6


def test_rows_that_are_all_zero_weigh_the_same() -> None:
    with synchronous(2) as cluster, connect(cluster.address) as one, connect(cluster.address) as other:
        one.push(2 * ONES, rows=0)
        other.push(4 * ONES, rows=0)
        np.testing.assert_array_equal(one.pull(), -3 * ONES)
        one.push(8 * ONES, rows=0)
        other.push(4 * ONES, rows=5)
        np.testing.assert_array_equal(one.pull(), -7 * ONES)
        np.testing.assert_array_equal(other.pull(), -7 * ONES)


@pytest.mark.parametrize("transport", ["inproc", "shm", "tcp"])
def test_an_update_that_is_not_finite_takes_no_part_in_its_round(transport: str) -> None:
    bad = np.array([1, np.nan, np.inf, 1], np.float32)
    with synchronous(3, transport=transport) as cluster:
        clients = [connect(cluster.address, transport=transport, timeout=20.0) for _ in range(3)]

        def turn(*gradients: NDArray[np.float32]) -> list[str]:
            receipts = [client.push(gradient) for client, gradient in zip(clients, gradients, strict=True)]
            for client in clients:
                np.testing.assert_array_equal(client.pull(), cluster.pull())
            return [receipt.status for receipt in receipts if receipt is not None]

        assert turn(2 * ONES, bad, 4 * ONES) == ["accepted", "refused", "accepted"]
        np.testing.assert_array_equal(cluster.pull(), -3 * ONES)
        assert turn(bad, bad, bad) == ["refused"] * 3
        np.testing.assert_array_equal(cluster.pull(), -3 * ONES)
        assert (cluster.version, cluster.faults["nonfinite"]) == (1, 4)
        assert turn(ONES, ONES, ONES) == ["accepted"] * 3
        np.testing.assert_array_equal(cluster.pull(), -4 * ONES)
        assert [client.clock for client in clients] == [3, 3, 3]
        for client in clients:
            client.close()


def test_a_second_push_waits_for_the_round_of_the_first() -> None:
    with synchronous(2) as cluster, connect(cluster.address, timeout=20.0) as other:
        finished = threading.Event()

        def twice() -> None:
            with connect(cluster.address, timeout=20.0) as one:
                one.push(2 * ONES)
                one.push(20 * ONES)
                finished.set()
                one.pull()

        thread = threading.Thread(target=twice)
        thread.start()
        assert not finished.wait(0.7)
        other.push(4 * ONES)
        assert finished.wait(20.0)
        np.testing.assert_array_equal(other.pull(), -3 * ONES)
        other.push(40 * ONES)
        np.testing.assert_array_equal(other.pull(), -33 * ONES)
        thread.join(20)
        assert not thread.is_alive()
        assert cluster.faults["duplicate"] == 0


def test_an_observer_looks_without_taking_part() -> None:
    with synchronous(1) as cluster, connect(cluster.address, rounds=0) as observer:
        np.testing.assert_array_equal(observer.pull(), 0 * ONES)
        with connect(cluster.address) as client:
            client.push(ONES)
            np.testing.assert_array_equal(client.pull(), -ONES)
        np.testing.assert_array_equal(observer.pull(), -ONES)


def test_patience_at_a_gate_has_an_end_that_says_why() -> None:
    with synchronous(2) as cluster, connect(cluster.address, patience=1.0) as client:
        began = time.monotonic()
        with pytest.raises(ServerUnreachable, match=r"keeps this worker waiting \(1 of 2 workers have come\) for 1 s"):
            client.begin_round(np.empty(4, np.float32), NONE, new_epoch=True)
        assert 0.9 < time.monotonic() - began < 10.0


@pytest.mark.parametrize("mode", ["asynchronous", "hogwild"])
@pytest.mark.parametrize("transport", ["inproc", "shm", "tcp"])
def test_a_fast_client_is_never_more_than_the_bound_ahead(transport: str, mode: str) -> None:
    bound, rounds = 2, 6
    with ParameterCluster(
        np.zeros(4, np.float32), mode=mode, transport=transport, staleness=bound, workers=2
    ) as cluster:
        clocks = [0, 0]

        def step(client: Client, index: int) -> None:
            client.begin_round(np.empty(4, np.float32), NONE, new_epoch=False)
            client.push(ONES)
            clocks[index] = client.clock

        def fast() -> None:
            with connect(cluster.address, transport=transport, timeout=20.0) as client:
                for _ in range(rounds):
                    step(client, 0)

        with connect(cluster.address, transport=transport, timeout=20.0) as slow:
            thread = threading.Thread(target=fast)
            thread.start()
            for number in range(rounds):
                reach = min(rounds, number + bound + 1)
                assert wait_until(lambda reach=reach: clocks[0] == reach, 20.0)  # type: ignore[misc]
                thread.join(0.15)
                assert clocks == [reach, number]
                step(slow, 1)
            thread.join(20)
            assert not thread.is_alive()
        assert cluster.version == 2 * rounds
