"""A server that stops for seconds amid its work, as a laptop that sleeps or a long collection of garbage makes it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest

from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.transport import Address
from tests.faults.processes import after_integers
from tests.server.crew import Crew, in_threads, integers
from tests.server.holdings import wait_until

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(1200)]
SIZE = 1003


def push_as_partition(address: Address, transport: str, partition: int, pushes: int) -> int:
    """As a Spark task would; the number of generations it was given."""
    with connect(
        address, transport=transport, partition=partition, attempt=100 + partition, rounds=pushes, timeout=200.0
    ) as client:
        assert client.clock == 0
        for step in range(pushes):
            receipt = client.push(integers(SIZE, partition, step))
            assert receipt is not None
            assert receipt.status in ("applied", "accepted", "duplicate")
        client.pull()
        return client.clock


def push_as_partitions(address: Address, partitions: list[tuple[str, int]], pushes: int) -> list[int]:
    """Several partitions in threads of one process, each by its transport."""
    return in_threads(push_as_partition, [(address, transport, p, pushes) for transport, p in partitions], 900)


@pytest.mark.fault(7)
def test_a_server_that_pauses_loses_doubles_and_fences_nothing(
    crew: Crew, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    """An asynchronous and a synchronous server pause together, again and again."""
    each, pauses, seconds = how_many(2, 8), how_many(1, 10), how_many(3, 30)
    pushes = how_many(800, 6000)
    clients = 4 * each
    with ExitStack() as stack:
        clusters = [
            stack.enter_context(
                ParameterCluster(
                    np.zeros(SIZE, np.float32), mode=mode, transport="auto", workers=clients, partitions=clients
                )
            )
            for mode in ("asynchronous", "synchronous")
        ]
        for index, cluster in enumerate(clusters):
            for member in range(4):
                partitions = [(("tcp", "ipc")[p % 2], p) for p in range(member * each, (member + 1) * each)]
                given = pushes if index == 0 else pushes // clients
                crew.start(4 * index + member, push_as_partitions, cluster.address, partitions, given)
        for _ in range(pauses):
            versions = [cluster.version for cluster in clusters]
            moved = [
                wait_until(lambda c=cluster, v=version: c.version > v + 5, 60.0)  # type: ignore[misc]
                for cluster, version in zip(clusters, versions, strict=True)
            ]
            assert all(moved)
            for cluster in clusters:
                os.kill(cluster.pid or 0, signal.SIGSTOP)
            versions = [cluster.version for cluster in clusters]
            time.sleep(seconds)
            assert [cluster.version for cluster in clusters] == versions
            for cluster in clusters:
                os.kill(cluster.pid or 0, signal.SIGCONT)
        for member in range(8):
            done = crew.result(member, 900)
            assert done == [pushes if member < 4 else pushes // clients] * each
        apart, together = clusters
        np.testing.assert_array_equal(apart.pull(), after_integers(SIZE, dict.fromkeys(range(clients), pushes)))
        assert apart.version == clients * pushes
        assert together.version == pushes // clients
        for cluster in clusters:
            assert cluster.faults["fenced"] == 0
            assert cluster.faults == {**dict.fromkeys(cluster.faults, 0), "duplicate": cluster.faults["duplicate"]}
        injected(
            pauses=2 * pauses, seconds_paused=2 * pauses * seconds, clients=2 * clients, lost=0, doubled=0, fenced=0,
            sent_again=sum(cluster.faults["duplicate"] for cluster in clusters),
        )  # fmt: skip
