"""Arguments of clusters and clients: one sentence for each that is wrong, and nothing left behind."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.config import ServerSettings
from elephas_fast.layout import Layout
from elephas_fast.transport import Address, TransportError, resolve_bind_host

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mode": "async"}, ValueError, "mode: expected one of 'synchronous', 'asynchronous', 'hogwild', got 'async'"),
        ({"mode": None}, ValueError, "mode: expected one of .*, got None"),
        ({"transport": "http"}, ValueError, "transport: expected one of 'auto', .*, got 'http'"),
        ({"worker": 2}, TypeError, "unknown setting 'worker': did you mean 'workers'"),
        ({"mode": "hogwild", "access": "atomic_add"}, ValueError, "access: expected one of .*, got 'atomic_add'"),
        ({"on_nonfinite": "drop"}, ValueError, "on_nonfinite: expected one of .*, got 'drop'"),
        ({"optimizer": "lion"}, ValueError, "optimizer: expected one of .*, got lion"),
        ({"optimizer": 0.1}, ValueError, "optimizer: expected a name, .* got float"),
        ({"state_rate": 2}, ValueError, "state_rate: expected a rate in"),
        ({"initial": np.zeros(4)}, ValueError, "initial: expected a float32 vector, got float64"),
        ({"initial": np.zeros((2, 2), np.float32)}, ValueError, "initial: expected a float32 vector, got float32"),
        ({"layout": Layout.vector(5)}, ValueError, "initial: expected 5 elements as the layout says, got 4"),
    ],
)
def test_a_bad_argument_of_a_cluster_is_one_sentence(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ParameterCluster(**{"initial": np.zeros(4, np.float32), **arguments})


@pytest.mark.parametrize("host", ["", "*", "0.0.0.0", "::"])
def test_a_server_never_listens_on_every_address(host: str) -> None:
    cluster = ParameterCluster(np.zeros(4, np.float32), transport="tcp", host=host)
    with pytest.raises(ValueError, match=r"host: expected one address of this machine, got .*; set spark.driver.host"):
        cluster.start()


def test_hosts_are_resolved_to_numbers() -> None:
    assert resolve_bind_host("127.0.0.1") == "127.0.0.1"
    assert resolve_bind_host("localhost") in ("127.0.0.1", "[::1]")
    with pytest.raises(ValueError, match=r"host: cannot resolve 'no\.such\.host\.invalid'"):
        resolve_bind_host("no.such.host.invalid")


ADDRESS = Address(("tcp://127.0.0.1:1", "ipc://@x", "shm://x"), b"secret-key")


def test_an_address_is_a_small_value_that_keeps_its_key_to_itself() -> None:
    assert pickle.loads(pickle.dumps(ADDRESS)) == ADDRESS
    assert "secret" not in repr(ADDRESS)
    assert str(ADDRESS) == "tcp://127.0.0.1:1"
    assert str(Address(("ipc://@x", "shm://x"), b"")) == "ipc://@x"
    assert [ADDRESS.endpoint(scheme) for scheme in ("tcp", "ipc", "shm", "inproc")] == [*ADDRESS.endpoints, None]


def test_a_way_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"transport: expected one of 'auto', .*, got 'udp'"):
        connect(ADDRESS, transport="udp")


def test_a_way_that_is_not_offered_is_refused() -> None:
    with (
        ParameterCluster(np.zeros(4, np.float32), transport="ipc") as cluster,
        pytest.raises(TransportError, match=r"transport: 'tcp' does not lead to the server \(it offers ipc\)"),
    ):
        connect(cluster.address, transport="tcp")


@pytest.mark.parametrize(
    ("offered", "taken"), [("auto", "shm"), ("shm", "shm"), ("tcp", "tcp"), ("inproc", "inproc"), ("ipc", "ipc")]
)
def test_the_nearest_way_is_taken(offered: str, taken: str) -> None:
    with ParameterCluster(np.zeros(4, np.float32), transport=offered) as cluster, connect(cluster.address) as client:
        assert client.transport == taken
        client.push(np.ones(4, np.float32))


def test_settings_survive_json() -> None:
    settings = ServerSettings(mode="hogwild", access="racy", optimizer={"class_name": "SGD"}, staleness=3)
    assert ServerSettings.from_json(settings.to_json()) == settings
    assert settings.store_access == "racy"
    assert ServerSettings(mode="asynchronous", access="racy", optimizer={}).store_access == "atomic"
    assert [
        ServerSettings(mode=mode, access="racy", optimizer={}, staleness=bound).gated_each_round
        for mode, bound in [("synchronous", None), ("asynchronous", None), ("asynchronous", 0)]
    ] == [True, False, True]
