"""A thousand peers that are no clients, beside one that is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from elephas_fast.cluster import ParameterCluster
from tests.faults.hostile import attack
from tests.faults.processes import Watched, after_integers, open_files, push_until
from tests.server.crew import Crew
from tests.server.holdings import wait_until

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(900)]
SIZE = 100_000
SERVED_WITHIN = 1.0  # seconds
ROOM = 2 * 4 * SIZE + 16 * 2**20  # bytes: two pushes, and some


@pytest.mark.fault(12)
@pytest.mark.fault(13)
@pytest.mark.parametrize("security", ["curve", "none"])
def test_an_honest_client_is_served_beside_hostile_ones(
    security: str, crew: Crew, tmp_path: Path, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    count, at_once = how_many(1000 if security == "curve" else 300, 10_000), 500
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if security == "none" else "error", UserWarning)
        cluster = ParameterCluster(np.zeros(SIZE, np.float32), transport="tcp", security=security)
    with cluster:
        assert cluster.pid is not None
        crew.start(0, push_until, cluster.address, "tcp", 0, str(tmp_path / "end"))
        assert wait_until(lambda: cluster.version >= 200, 30.0)
        files = open_files(cluster.pid)
        with Watched(cluster.pid) as server:
            crew.start(1, attack, str(cluster.address), count, at_once, 5)
            kept = crew.result(1, 600)
            assert wait_until(lambda: open_files(cluster.pid or 0) == files, 20.0)
        version = cluster.version
        assert wait_until(lambda: cluster.version > version, 10.0)
        (tmp_path / "end").touch()
        pushes, seconds = crew.result(0, 60)
        assert kept == {}
        assert max(seconds) < SERVED_WITHIN
        assert server.grown <= ROOM
        assert cluster.faults == dict.fromkeys(cluster.faults, 0)
        assert cluster.version == pushes
        np.testing.assert_array_equal(cluster.pull(), after_integers(SIZE, {0: pushes}))
        injected(hostile_peers=count, honest_pushes=pushes, lost=0, slowest_push_in_ms=int(1000 * max(seconds)))
