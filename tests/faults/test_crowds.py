"""Many clients, many pushes, and readers that do not read."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.transport import Address, Channel
from elephas_fast.wire import PROTOCOL_VERSION, Hello, Pull, Welcome, decode, encode
from tests.faults.processes import Watched, cpu_seconds
from tests.server.crew import Crew
from tests.server.holdings import wait_until
from tests.server.proxy import Fault, Proxy

FEW_FILES = 80
pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(1800)]


def greet(channel: Channel, key: bytes) -> None:
    """Say hello and see it answered; once more where the connection was lost meanwhile, as a client does."""
    hello = Hello(protocol=PROTOCOL_VERSION, key=key, partition=-1, attempt=0, rounds=0, outbox=False)
    frames, deadline = None, time.monotonic() + 60.0
    while frames is None and time.monotonic() < deadline:
        assert channel.send(encode(hello, request=1), 30.0)
        frames = channel.receive(deadline - time.monotonic())
    assert frames is not None
    assert isinstance(decode(frames)[0], Welcome)


def stay(address: Address, count: int, ready: str, end: str) -> int:
    """Keep ``count`` clients connected, who say nothing, until the file ``end`` exists."""
    channels = [Channel(str(address), address.key) for _ in range(count)]
    for channel in channels:
        greet(channel, address.key)
    Path(ready).touch()
    assert wait_until(lambda: Path(end).exists(), 300.0)
    silent = sum(channel.receive(0.0) is None for channel in channels)
    for channel in channels:
        channel.close()
    return silent


@pytest.mark.fault(13)
def test_idle_clients_cost_the_server_next_to_nothing(
    crew: Crew, tmp_path: Path, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    each, seconds = how_many(100, 1000) // 8, how_many(2, 20)
    with ExitStack() as stack:
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, allowed)
        cluster = ParameterCluster(np.zeros(1003, np.float32), transport="tcp")
        resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, allowed[1]))  # which the server inherits
        stack.enter_context(cluster)
        assert cluster.pid is not None
        for member in range(8):
            crew.start(member, stay, cluster.address, each, str(tmp_path / f"ready{member}"), str(tmp_path / "end"))
        assert wait_until(lambda: len(list(tmp_path.glob("ready*"))) == 8, 120.0)
        began, used = time.monotonic(), cpu_seconds(cluster.pid)
        time.sleep(seconds)
        share = (cpu_seconds(cluster.pid) - used) / (time.monotonic() - began)
        (tmp_path / "end").touch()
        assert [crew.result(member, 60) for member in range(8)] == [each] * 8
        assert share < 0.1
        injected(idle_clients=8 * each, server_cpu_per_mille=round(1000 * share))


@pytest.mark.fault(13)
def test_a_reader_that_does_not_read_stops_nobody_and_costs_a_bounded_share_of_memory(
    crew: Crew, tmp_path: Path, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    size, readers = how_many(2_000_000, 25_000_000), how_many(2, 8)
    queue = (64 + 4 * size // 2**19) * 2**20  # messages that may wait for a peer, and their largest size
    with (
        ParameterCluster(np.zeros(size, np.float32), transport="auto") as cluster,
        Proxy(cluster.address.endpoint("tcp") or "") as proxy,
        connect(cluster.address, transport="ipc", timeout=60.0) as honest,
    ):
        assert cluster.pid is not None
        out = np.empty(size, np.float32)
        honest.push(np.ones(size, np.float32))
        honest.pull(out)
        with Watched(cluster.pid) as server:
            channels = [Channel(proxy.endpoint, cluster.address.key) for _ in range(readers)]
            for stalled, channel in enumerate(channels, 1):
                greet(channel, cluster.address.key)
                proxy.inject(Fault("stall", 0, back=True))
                for number in range(100):
                    assert channel.send(encode(Pull(purpose="observe", clock=0, weights=True), request=number), 30.0)
                assert wait_until(lambda stalled=stalled: proxy.fired == stalled, 20.0)  # type: ignore[misc]
            slowest = 0.0
            for _ in range(20):
                began = time.monotonic()
                np.testing.assert_array_equal(honest.pull(out)[:3], [-1, -1, -1])
                slowest = max(slowest, time.monotonic() - began)
            for channel in channels:
                channel.close()
        assert server.grown < readers * queue + 3 * 4 * size + 64 * 2**20
        honest.push(np.ones(size, np.float32))
        np.testing.assert_array_equal(honest.pull(out), np.full(size, -2, np.float32))
        injected(
            readers_that_do_not_read=readers, pulls_they_asked_for=100 * readers,
            server_grew_by_MiB=server.grown >> 20, slowest_pull_of_others_in_ms=int(1000 * slowest),
        )  # fmt: skip


def thirds(size: int, worker: int, step: int) -> NDArray[np.float32]:
    """An update of ones in every third place; float32 counts 2**24 of them exactly."""
    return ((np.arange(size) + worker + step) % 3 == 0).astype(np.float32)


def push_thirds(address: Address, transport: str, worker: int, pushes: int, until: float) -> int:
    """Push until ``pushes`` are done or the machine's clock says ``until``; how many there were."""
    with connect(address, transport=transport, timeout=120.0) as client:
        given = [thirds(client.layout.size, worker, step) for step in range(3)]
        for step in range(pushes):
            if time.monotonic() > until:
                return step
            receipt = client.push(given[step % 3])
            assert receipt is not None
            assert receipt.status in ("applied", "duplicate")
        return pushes


def test_every_one_of_very_many_pushes_counts_once(
    crew: Crew, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    """Pushes of 4 kB by eight processes, over shared memory, ipc and encrypted tcp, into one server."""
    size, each, seconds = 1003, how_many(20_000, 10_000_000) // 8, how_many(60, 900)
    ways = ["shm", "shm", "tcp", "tcp", "ipc", "tcp", "shm", "ipc"]
    with ParameterCluster(np.zeros(size, np.float32), transport="auto") as cluster:
        until = time.monotonic() + seconds
        done = crew.run(
            push_thirds, [(cluster.address, way, worker, each, until) for worker, way in enumerate(ways)], seconds + 60
        )
        total = np.zeros(size, np.int64)
        for worker, count in enumerate(done):
            total -= count // 3
            for step in range(count % 3):
                total -= thirds(size, worker, step).astype(np.int64)
        assert abs(total).max() < 2**24
        np.testing.assert_array_equal(cluster.pull(), total.astype(np.float32))
        assert cluster.version == sum(done)
        assert cluster.faults == {**dict.fromkeys(cluster.faults, 0), "duplicate": cluster.faults["duplicate"]}
        injected(pushes_of_4_kB=sum(done), lost=0, doubled=0)
