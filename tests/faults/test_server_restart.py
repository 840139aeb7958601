"""The server process is killed at any moment: another follows it, no acknowledged push is lost and none is doubled."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.server import process
from tests.server.holdings import wait_until

pytestmark = [pytest.mark.usefixtures("nothing_left", "impatient"), pytest.mark.timeout(600), pytest.mark.fault(8)]
SIZE = 1000
ONES = np.ones(SIZE, np.float32)
Injected = Callable[..., None]
HowMany = Callable[[int, int], int]

WAYS = [
    ("tcp", "asynchronous"),
    ("ipc", "asynchronous"),
    ("shm", "asynchronous"),
    ("tcp", "synchronous"),
    ("shm", "synchronous"),
    ("shm", "hogwild"),
]


class Pushers:
    """Threads that push ones, ``rounds`` times each or until told to stop. ``acknowledged``: pushes of each that the
    server has taken."""

    def __init__(self, cluster: ParameterCluster, transport: str, count: int, rounds: int | None = None) -> None:
        self._rounds = rounds
        self.acknowledged = [0] * count
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._push, args=(cluster, transport, n)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _push(self, cluster: ParameterCluster, transport: str, number: int) -> None:
        try:
            with connect(
                cluster.address, transport=transport, partition=number, attempt=number, rounds=2**40, timeout=60.0
            ) as client:
                out, opaque = np.empty(SIZE, np.float32), np.empty(0, np.uint8)
                while self.acknowledged[number] < self._rounds if self._rounds else not self._stop.is_set():
                    client.begin_round(out, opaque, new_epoch=True)
                    client.push(ONES)
                    self.acknowledged[number] += 1
                client.pull(out)
        except BaseException as error:
            self.errors.append(error)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()
        assert self.errors == []


def kill(cluster: ParameterCluster) -> None:
    """Kill the server process and wait for the one that follows."""
    killed = cluster.pid
    assert killed is not None
    restarts = cluster.faults["restarted"]
    os.kill(killed, signal.SIGKILL)
    assert wait_until(lambda: cluster.faults["restarted"] > restarts, 30.0)
    cluster.check()


@pytest.mark.parametrize(("transport", "mode"), WAYS)
@pytest.mark.timeout(7200)
def test_random_kills(transport: str, mode: str, how_many: HowMany, injected: Injected) -> None:
    kills = how_many(30, 1700)
    moments = random.Random(f"{transport} {mode}")
    # One pusher in synchronous mode: whoever stops last would wait for the round of one that has stopped.
    pushers_count = 1 if mode == "synchronous" else 3
    with ParameterCluster(
        np.zeros(SIZE, np.float32), mode=mode, transport="auto", workers=pushers_count, partitions=pushers_count
    ) as cluster:
        pushers = Pushers(cluster, transport, pushers_count)
        for _ in range(kills):
            time.sleep(moments.uniform(0.0, 0.2))
            kill(cluster)
        assert wait_until(lambda: min(pushers.acknowledged) > 0 or bool(pushers.errors), 60.0)
        pushers.stop()
        total = sum(pushers.acknowledged)
        assert cluster.version == total
        np.testing.assert_array_equal(cluster.pull(), -float(total) * ONES)
        injected(kills_of_the_server=cluster.faults["restarted"], pushes=total, lost=0, doubled=0)


@pytest.mark.timeout(7200)
def test_random_kills_while_a_server_writes_hogwild(how_many: HowMany, injected: Injected) -> None:
    """What a killed hogwild server was writing may be there in part; it is counted, and nothing else is amiss."""
    kills = how_many(20, 1500)
    moments = random.Random(3)
    with ParameterCluster(
        np.zeros(SIZE, np.float32), mode="hogwild", transport="tcp", workers=2, partitions=2
    ) as cluster:
        pushers = Pushers(cluster, "tcp", 2)
        for _ in range(kills):
            time.sleep(moments.uniform(0.0, 0.2))
            kill(cluster)
        pushers.stop()
        total, weights = sum(pushers.acknowledged), cluster.pull()
        partial = cluster.faults["partial"]
        assert partial <= kills
        assert -total <= weights.min() <= weights.max() <= partial - total
        injected(kills_of_the_server=cluster.faults["restarted"], pushes=total, partial=partial, doubled=0)


@pytest.mark.parametrize("mode", ["asynchronous", "synchronous"])
def test_every_failpoint(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: Injected) -> None:
    """The n-th process is killed right after the n-th word it writes, while two partitions say hello and push."""
    places = 48
    orders = tmp_path / "orders"
    orders.write_text("\n".join(map(str, range(1, places + 1))))
    monkeypatch.setattr(process, "PROGRAM", ("-m", "tests.faults.failing_server", str(orders)))
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])
    with ParameterCluster(np.zeros(SIZE, np.float32), mode=mode, transport="tcp", workers=2, partitions=2) as cluster:
        pushers = Pushers(cluster, "tcp", 2, rounds=150)
        assert wait_until(lambda: cluster.faults["restarted"] == places or bool(pushers.errors), 240.0)
        pushers.stop()
        assert pushers.acknowledged == [150, 150]
        version = 300 if mode == "asynchronous" else 150
        assert cluster.version == version
        np.testing.assert_array_equal(cluster.pull(), -float(version) * ONES)
        injected(failpoints=places, pushes=300, lost=0, doubled=0)
