"""A push that is cut after every byte, or changed in every bit, on its way: it counts once, as it was sent."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.transport import Address
from tests.server.crew import in_threads, integers
from tests.server.proxy import Fault, Proxy

pytestmark = [pytest.mark.usefixtures("nothing_left", "impatient"), pytest.mark.timeout(600)]
CLIENTS = 16
FRAMES = 2  # of a push


def cluster_of(size: int, security: str) -> ParameterCluster:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if security == "none" else "error", UserWarning)
        return ParameterCluster(np.zeros(size, np.float32), transport="tcp", security=security)


def behind(proxy: Proxy, address: Address) -> Address:
    """The address of the same server by way of the proxy."""
    return Address((proxy.endpoint,), address.key, address.security)


def lengths(cluster: ParameterCluster) -> tuple[int, int]:
    """Bytes of one push on the wire, and of its acknowledgement."""
    with Proxy(str(cluster.address)) as proxy, connect(behind(proxy, cluster.address), timeout=20.0) as client:
        nothing = np.zeros(client.layout.size, np.float32)
        client.push(nothing)
        before = proxy.passed_there, proxy.passed_back
        client.push(nothing)
        return proxy.passed_there - before[0], proxy.passed_back - before[1]


def push_disturbed(cluster: ParameterCluster, worker: int, faults: Sequence[Fault]) -> int:
    """One push for each fault, which happens to it; the number of faults that happened."""
    with Proxy(str(cluster.address)) as proxy, connect(behind(proxy, cluster.address), timeout=60.0) as client:
        client.push(integers(client.layout.size, worker, 0))
        for step, fault in enumerate(faults, 1):
            proxy.inject(fault)
            receipt = client.push(integers(client.layout.size, worker, step))
            assert receipt is not None
            assert receipt.status in ("applied", "duplicate")
            proxy.inject(None)
        return proxy.fired


def check_once(cluster: ParameterCluster, pushes: Sequence[int]) -> None:
    """The weights are those of ``pushes[worker]`` pushes of each worker."""
    size = len(cluster.pull())
    total = sum((integers(size, w, step) for w, count in enumerate(pushes) for step in range(count)), np.zeros(size))
    np.testing.assert_array_equal(cluster.pull(), (-total).astype(np.float32))


def disturb(cluster: ParameterCluster, faults: Sequence[Fault]) -> int:
    """Each fault once, by several clients at a time; all must have happened and nothing be lost or doubled."""
    shares = [faults[worker::CLIENTS] for worker in range(CLIENTS)]
    before = cluster.version
    fired = in_threads(push_disturbed, [(cluster, worker, share) for worker, share in enumerate(shares)], 500)
    assert sum(fired) == len(faults)
    assert cluster.version - before == len(faults) + CLIENTS
    check_once(cluster, [len(share) + 1 for share in shares])
    return cluster.version - before


@pytest.mark.fault(6)
@pytest.mark.parametrize("security", ["curve", "none"])
def test_a_push_cut_after_every_byte_counts_once(
    security: str, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    """Cut or reset, on the way there and on the way back."""
    with cluster_of(how_many(8, 256), security) as cluster:
        there, back = lengths(cluster)
        assert there > 4 * how_many(8, 256)
        assert back > 0
        version = cluster.version
        faults = [Fault("reset" if after % 2 else "cut", after) for after in range(there + 1)]
        faults += [Fault("reset" if after % 2 else "cut", after, back=True) for after in range(back + 1)]
        pushes = disturb(cluster, faults)
        counted = cluster.faults
        assert cluster.version == version + pushes
        assert counted["duplicate"] > back // 2  # applied, and the acknowledgement was cut
        assert counted == {**dict.fromkeys(counted, 0), "duplicate": counted["duplicate"]}
        injected(cuts=len(faults), duplicates=counted["duplicate"], lost=0, doubled=0)


@pytest.mark.fault(6)
def test_a_push_or_its_acknowledgement_changed_in_any_bit_is_never_taken_for_another(
    how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    """ZeroMQ does not authenticate the flags before a frame, so a frame may be lost or joined to the next message; the
    server then refuses what comes, and the client asks again."""
    with cluster_of(how_many(8, 64), "curve") as cluster:
        there, back = lengths(cluster)
        faults = [Fault("flip", at, bit=bit) for at in range(there) for bit in range(8)]
        faults += [Fault("flip", at, back=True, bit=bit) for at in range(back) for bit in range(8)]
        disturb(cluster, faults)
        counted = cluster.faults
        assert counted["damaged"] <= 2 * FRAMES
        assert {kind: n for kind, n in counted.items() if n and kind not in ("duplicate", "damaged")} == {}
        injected(bits_flipped=len(faults), refused=counted["damaged"], lost=0, doubled=0)
