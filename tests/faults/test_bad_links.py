"""Links that are slow, lossy, cut, or silently dead in one direction or both."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import numpy as np
import pytest

from elephas_fast.client import connect, conversation
from elephas_fast.cluster import ParameterCluster
from elephas_fast.transport import Address
from tests.faults import cable
from tests.faults.processes import after_integers
from tests.server.crew import Crew, in_threads, integers
from tests.server.proxy import Fault, Proxy

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(1500)]
SIZE = 1003
ACROSS = 4  # clients
SLOT = 7.0  # seconds in which the link is down for five and up for the rest


def push_for(address: Address, worker: int, until: float) -> list[float]:
    """Push until the machine's clock says ``until``; when each push was acknowledged."""
    times = []
    with connect(address, transport="tcp", timeout=120.0) as client:
        while time.monotonic() < until:
            receipt = client.push(integers(client.layout.size, worker, len(times)))
            assert receipt is not None
            assert receipt.status in ("applied", "duplicate")
            times.append(time.monotonic())
    return times


def push_in_threads(address: Address, until: float) -> list[list[float]]:
    return in_threads(push_for, [(address, worker, until) for worker in range(ACROSS)], 1200)


@pytest.mark.fault(14)
@pytest.mark.skipif(bool(cable.cannot()), reason=cable.cannot() or "hosts can be made here")
def test_a_link_that_goes_down_and_one_that_loses_packets_cost_time_only(
    crew: Crew, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    downs, lossy_seconds = how_many(1, 20), how_many(2, 60)
    hosts = Crew(2)
    try:
        hosts.start(0, cable.become_host, cable.SERVER_HOST)
        hosts.start(1, cable.become_host, cable.CLIENT_HOST)
        cards = [hosts.result(0, 30), hosts.result(1, 30)]
        for card in cards:
            if isinstance(card, str):
                pytest.skip(card)
        pids = hosts.pids
        with cable.Cable((pids[0], pids[1]), (cards[0], cards[1]), seed=14) as link:
            hosts.start(0, cable.serve, SIZE)
            address, _ = hosts.result(0, 60)
            began = time.monotonic()
            until = began + 1.0 + downs * SLOT + lossy_seconds
            hosts.start(1, push_in_threads, address, until)
            healed = []
            for number in range(downs):
                _sleep_until(began + 1.0 + SLOT * number)
                link.down = True
                _sleep_until(began + 6.0 + SLOT * number)
                link.down = False
                healed.append(time.monotonic())
            _sleep_until(began + 1.0 + SLOT * downs)
            dropped_while_down, link.loss = link.dropped, 0.2
            _sleep_until(until)
            link.loss = 0.0
            times = hosts.result(1, 150)
            lossy = link.dropped - dropped_while_down
            hosts.start(0, cable.look)
            weights, version, faults = hosts.result(0, 20)
            hosts.start(0, cable.stop)
            hosts.result(0, 30)
    finally:
        hosts.close()
    assert min(dropped_while_down, lossy) > 20
    counts = {worker: len(acknowledged) for worker, acknowledged in enumerate(times)}
    np.testing.assert_array_equal(weights, after_integers(SIZE, counts))
    assert version == sum(counts.values())
    assert faults["fenced"] == faults["damaged"] == 0
    recovery = [min(t for t in acknowledged if t > moment) - moment for moment in healed for acknowledged in times]
    assert max(recovery) < SLOT
    in_loss = [t for acknowledged in times for t in acknowledged if t > began + 1.0 + SLOT * downs]
    assert len(in_loss) > ACROSS
    injected(
        links_down_for_5_s=downs, packets_lost=lossy, pushes=version, lost=0, doubled=0,
        slowest_recovery_in_ms=int(1000 * max(recovery)),
    )  # fmt: skip


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


@pytest.mark.fault(14)
def test_a_connection_that_is_dead_in_one_direction_is_noticed_and_replaced(injected: Callable[..., None]) -> None:
    """Nobody is told; heartbeats are missed."""
    with ParameterCluster(np.zeros(SIZE, np.float32), transport="tcp") as cluster:

        def push_through_silence(worker: int, fault: Fault) -> int:
            with (
                Proxy(str(cluster.address)) as proxy,
                connect(Address((proxy.endpoint,), cluster.address.key), timeout=60.0) as client,
            ):
                for step in range(20):
                    if step == 10:
                        proxy.inject(fault)
                    client.push(integers(SIZE, worker, step))
                assert proxy.connections >= 2
                return proxy.fired

        faults = [Fault("silence", after, back=back) for back in (False, True) for after in (0, 1, 100)]
        assert in_threads(push_through_silence, list(enumerate(faults)), 60) == [1] * len(faults)
        np.testing.assert_array_equal(cluster.pull(), after_integers(SIZE, dict.fromkeys(range(len(faults)), 20)))
        assert cluster.version == 20 * len(faults)
        injected(half_open_connections=len(faults), lost=0, doubled=0)


@pytest.mark.fault(14)
@pytest.mark.usefixtures("impatient")
def test_connections_that_are_reset_again_and_again_lose_nothing(
    how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    """Each connection is reset after some thousand bytes, in either direction."""
    clients, pushes = 4, how_many(60, 2000)
    with ParameterCluster(np.zeros(SIZE, np.float32), transport="tcp") as cluster:

        def push_through_resets(worker: int) -> int:
            rng = random.Random(worker)

            def plan(number: int) -> Fault:
                back = rng.random() < 0.5
                return Fault("reset", rng.randrange(1, 2000 if back else 40_000), back=back)

            with (
                Proxy(str(cluster.address), plan=plan) as proxy,
                connect(Address((proxy.endpoint,), cluster.address.key), timeout=60.0) as client,
            ):
                for step in range(pushes):
                    client.push(integers(SIZE, worker, step))
                return proxy.fired

        resets = sum(in_threads(push_through_resets, [(worker,) for worker in range(clients)], 1200))
        assert resets > clients
        np.testing.assert_array_equal(cluster.pull(), after_integers(SIZE, dict.fromkeys(range(clients), pushes)))
        assert cluster.version == clients * pushes
        injected(resets=resets, pushes=clients * pushes, lost=0, doubled=0)


@pytest.mark.fault(14)
@pytest.mark.usefixtures("impatient")
def test_weights_in_parts_arrive_whole_though_their_connection_is_reset(
    how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    """Each connection is reset amid the parts of a vector of 2.4 MB."""
    size, pulls, rng = 600_000, how_many(10, 200), random.Random(3)
    with (
        ParameterCluster(np.zeros(size, np.float32), transport="tcp") as cluster,
        Proxy(
            str(cluster.address), plan=lambda number: Fault("reset", rng.randrange(1, 4_000_000), back=True)
        ) as proxy,
        connect(Address((proxy.endpoint,), cluster.address.key), timeout=60.0) as client,
        connect(cluster.address, timeout=60.0) as other,
    ):
        for number in range(1, pulls + 1):
            other.push(np.ones(size, np.float32))
            np.testing.assert_array_equal(client.pull(), np.full(size, -number, np.float32))
        assert proxy.fired > 2
        injected(resets=proxy.fired, pulls=pulls)


@pytest.mark.fault(14)
def test_a_slow_link_is_only_slow(how_many: Callable[[int, int], int], injected: Callable[..., None]) -> None:
    """100 kB/s: pushes of 4 kB."""
    pushes, rate = how_many(20, 500), 100_000
    with (
        ParameterCluster(np.zeros(SIZE, np.float32), transport="tcp") as cluster,
        Proxy(str(cluster.address), rate=rate) as proxy,
        connect(Address((proxy.endpoint,), cluster.address.key), timeout=60.0) as client,
    ):
        began = time.monotonic()
        for step in range(pushes):
            client.push(integers(SIZE, 0, step))
        passed = proxy.passed_there + proxy.passed_back
        assert time.monotonic() - began > 0.5 * passed / rate
        np.testing.assert_array_equal(client.pull(), after_integers(SIZE, {0: pushes}))
        assert cluster.version == pushes
        injected(bytes_at_100_kB_per_second=passed, lost=0, doubled=0)


@pytest.mark.fault(14)
@pytest.mark.parametrize("size", [50_000, 600_000], ids=["whole", "in parts"])
def test_weights_that_take_longer_than_the_pause_before_a_resend_arrive(
    size: int, monkeypatch: pytest.MonkeyPatch, injected: Callable[..., None]
) -> None:
    """A vector, or a part of one, that takes 0.3 s on the way and is asked for again each 0.2 s: each question brings
    another copy onto the slow link, and the answer to an earlier one must do."""
    monkeypatch.setattr(conversation, "_RESEND_FIRST", 0.1)
    monkeypatch.setattr(conversation, "_RESEND_MOST", 0.2 if size < 2**19 else 0.8)
    with (
        ParameterCluster(np.zeros(size, np.float32), transport="tcp") as cluster,
        Proxy(str(cluster.address), rate=4 * min(size, 2**18) / 0.3) as proxy,
        connect(Address((proxy.endpoint,), cluster.address.key), timeout=30.0) as client,
    ):
        client.push(np.ones(size, np.float32))
        np.testing.assert_array_equal(client.pull(), -np.ones(size, np.float32))
        assert cluster.version == 1
        injected(slow_pulls=1)
