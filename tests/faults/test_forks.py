"""Processes that fork with a client, or a server, in their hands."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import numpy as np
import pytest

from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.transport import Address
from tests.server.crew import Crew
from tests.server.holdings import is_alive

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(120)]
ONES = np.ones(4, np.float32)


def ended_well(pid: int, seconds: float) -> bool:
    """Whether a child ends with status 0 within ``seconds``; one that does not end is killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def in_a_fork(body: Callable[[], bool]) -> bool:
    """Whether ``body`` is true in a child of this process."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if body() else 2
        finally:
            os._exit(status)
    return ended_well(pid, 30.0)


def fork_amid(address: Address, transport: str) -> list[bool]:
    """What a child can do with its parent's client, and the parent afterwards."""
    with connect(address, transport=transport, timeout=30.0) as client:
        client.push(ONES)

        def inherited_is_refused() -> bool:
            out, opaque = np.empty(4, np.float32), np.empty(0, np.uint8)
            for use in (
                lambda: client.push(ONES),
                lambda: client.exchange(ONES, out, opaque),
                lambda: client.pull(),
                lambda: client.begin_round(out, opaque, new_epoch=True),
            ):
                try:
                    use()
                except RuntimeError as error:
                    if "connect again in process" not in str(error):
                        return False
                else:
                    return False
            client.close()
            return True

        def own_works() -> bool:
            with connect(address, transport=transport, timeout=30.0) as own:
                own.push(ONES)
                own.pull()
                return own.clock == 1

        did = [in_a_fork(inherited_is_refused), in_a_fork(own_works)]
        client.push(ONES)
        return [*did, client.clock == 2]


@pytest.mark.fault(18)
@pytest.mark.parametrize(("transport", "mode"), [
    ("shm", "hogwild"), ("shm", "asynchronous"), ("ipc", "asynchronous"), ("tcp", "asynchronous"),
])  # fmt: skip
def test_a_client_is_of_no_use_in_a_fork_and_stays_whole_in_its_parent(
    transport: str, mode: str, crew: Crew, injected: Callable[..., None]
) -> None:
    with ParameterCluster(np.zeros(4, np.float32), mode=mode, transport=transport) as cluster:
        assert crew.run(fork_amid, [(cluster.address, transport)], 60) == [[True, True, True]]
        np.testing.assert_array_equal(cluster.pull(), -3 * ONES)
        assert cluster.version == 3
        assert cluster.faults == dict.fromkeys(cluster.faults, 0)
        injected(forks=2)


def fork_with_a_server() -> list[bool]:
    """A driver that forks: what the child does to its copy of the server, and the server afterwards."""
    with ParameterCluster(np.zeros(4, np.float32)) as cluster:
        server = cluster.pid or 0

        def stop_it() -> bool:
            cluster.stop()
            return True

        done = [in_a_fork(stop_it), in_a_fork(lambda: True), is_alive(server)]
        with connect(cluster.address, timeout=30.0) as client:
            client.push(ONES)
        cluster.check()
        return [*done, cluster.version == 1]


@pytest.mark.fault(18)
def test_a_child_cannot_stop_its_parents_server(crew: Crew, injected: Callable[..., None]) -> None:
    assert crew.run(fork_with_a_server, [()], 60) == [[True] * 4]
    injected(forks=2)
