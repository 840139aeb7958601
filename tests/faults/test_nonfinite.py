"""Updates that are not finite, or whose result would not be: refused as a whole, counted, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest

from elephas_fast.client import Client, connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.optimizers import SGD

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(300)]
SIZE = 9_001  # several blocks of the kernel, and a rest
PLACES = (0, SIZE // 2, SIZE - 1)
NOT_FINITE = tuple(map(np.float32, (np.nan, -np.nan, np.inf, -np.inf)))
HUGE = np.float32(3e38)


def apply_to(client: Client, gradient: np.ndarray) -> str:
    """What the weights say after a push: in synchronous mode its round is waited for."""
    receipt = client.push(gradient)
    client.pull(np.empty(SIZE, np.float32))
    assert receipt is not None
    return receipt.status


@pytest.mark.fault(10)
@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
@pytest.mark.parametrize("transport", ["inproc", "shm", "ipc", "tcp"])
def test_a_push_that_is_not_finite_changes_nothing_and_is_counted(
    transport: str, mode: str, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    repeats = how_many(7, 100)
    with ExitStack() as stack:
        cluster = stack.enter_context(
            ParameterCluster(
                np.full(SIZE, 0.5, np.float32), optimizer=SGD(learning_rate=1.0, momentum=0.5), mode=mode,
                transport=transport,
            )
        )  # fmt: skip
        client = stack.enter_context(connect(cluster.address, transport=transport, timeout=60.0))
        apply_to(client, np.ones(SIZE, np.float32))
        weights, slots, version = cluster.pull(), cluster.slots, cluster.version
        refused = 0
        for _ in range(repeats):
            for place in PLACES:
                for value in NOT_FINITE:
                    gradient = np.ones(SIZE, np.float32)
                    gradient[place] = value
                    assert apply_to(client, gradient) == "refused"
                    refused += 1
        assert cluster.faults == {**dict.fromkeys(cluster.faults, 0), "nonfinite": refused}
        assert cluster.version == version
        np.testing.assert_array_equal(cluster.pull(), weights)
        np.testing.assert_array_equal(cluster.slots["momentum"], slots["momentum"])
        assert apply_to(client, np.zeros(SIZE, np.float32)) in ("applied", "accepted")
        assert np.isfinite(cluster.pull()).all()
        injected(refused=refused)


@pytest.mark.fault(10)
@pytest.mark.parametrize("mode", ["synchronous", "asynchronous"])  # hogwild looks at the update only
@pytest.mark.parametrize("transport", ["inproc", "shm", "ipc", "tcp"])
def test_a_push_whose_result_overflows_changes_nothing_and_is_counted(
    transport: str, mode: str, injected: Callable[..., None]
) -> None:
    """3e38 + 3e38, where each of them is finite."""
    start = np.zeros(SIZE, np.float32)
    start[list(PLACES)] = HUGE
    with (
        ParameterCluster(start, mode=mode, transport=transport) as cluster,
        connect(cluster.address, transport=transport, timeout=60.0) as client,
    ):
        for number, place in enumerate(PLACES):
            gradient = np.ones(SIZE, np.float32)
            gradient[place] = -HUGE
            apply_to(client, gradient)
            assert (cluster.version, cluster.faults["nonfinite"]) == (0, number + 1)
            np.testing.assert_array_equal(cluster.pull(), start)
        apply_to(client, np.ones(SIZE, np.float32))
        np.testing.assert_array_equal(cluster.pull(), start - np.float32(1))
        injected(refused=len(PLACES))
