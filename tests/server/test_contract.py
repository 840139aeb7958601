"""What a client and a cluster do, the same for every transport and every mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from elephas_fast.client import Client, PushRefused, connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.optimizers import SGD, Adam, Optimizer
from elephas_fast.wire import Report
from tests.server.holdings import wait_until
from tests.server.reference import MODEL, Reference, model_vector, normal

TRANSPORTS = ("inproc", "shm", "ipc", "tcp")
MODES = ("synchronous", "asynchronous", "hogwild")
Start = Callable[..., tuple[ParameterCluster, Client]]

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(60)]


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(transport: str, mode: str, nothing_left: None) -> Iterator[Start]:
    """Starts a cluster and connects one client to it."""
    with ExitStack() as stack:

        def run(initial: Any, **options: Any) -> tuple[ParameterCluster, Client]:
            cluster = stack.enter_context(ParameterCluster(initial, mode=mode, transport=transport, **options))
            client = stack.enter_context(connect(cluster.address, transport=transport, timeout=30.0))
            assert client.transport == transport
            return cluster, client

        yield run


def test_one_client_sees_what_the_optimizer_does(start: Start, mode: str) -> None:
    optimizer = Adam(learning_rate=0.01)
    initial = normal(1003, 0)
    reference = Reference(initial, optimizer)
    cluster, client = start(initial, optimizer=optimizer)
    np.testing.assert_array_equal(client.pull(), initial)
    assert (client.clock, client.version, cluster.version) == (0, 0, 0)
    for step in range(1, 8):
        gradient = normal(1003, step)
        receipt = client.push(gradient)
        assert receipt is not None
        assert receipt.status == ("accepted" if mode == "synchronous" else "applied")
        reference.push(gradient)
        np.testing.assert_array_equal(client.pull(), reference.weights)
        assert (client.clock, client.version) == (step, step)
        reference.check(cluster)
    out = np.empty(1003, np.float32)
    assert client.pull(out) is out
    assert client.pull(out=out) is out
    assert cluster.pull(out) is out
    np.testing.assert_array_equal(out, reference.weights)
    assert cluster.faults == dict.fromkeys(cluster.faults, 0)


def test_pushing_without_waiting_and_from_the_client_s_own_buffers(start: Start) -> None:
    cluster, client = start(np.zeros(50_000, np.float32))
    gradient = np.ones(50_000, np.float32)
    for _ in range(5):
        assert client.push(gradient, wait=False) is None
    client.wait()
    assert client.wait() is None
    assert client.push(gradient, wait=False) is None
    np.testing.assert_array_equal(client.pull(), -6 * gradient)
    np.testing.assert_array_equal(cluster.pull(), -6 * gradient)
    for step in range(1, 4):
        flat, opaque = client.vector
        assert (flat.shape, opaque.shape) == ((50_000,), (0,))
        flat[:] = step
        client.push(flat)
        client.pull()
    np.testing.assert_array_equal(cluster.pull(), -12 * gradient)


def test_every_part_of_a_model_arrives(start: Start) -> None:
    reference = Reference(model_vector(0), SGD(learning_rate=0.5), MODEL)
    first = np.arange(MODEL.opaque_size, dtype=np.uint8)
    cluster, client = start(model_vector(0), optimizer=SGD(learning_rate=0.5), layout=MODEL, opaque=first)
    assert client.layout == MODEL

    def check(expected: NDArray[np.uint8]) -> None:
        opaque = np.zeros(MODEL.opaque_size, np.uint8)
        np.testing.assert_array_equal(client.pull(opaque=opaque), reference.weights)
        np.testing.assert_array_equal(opaque, expected)
        opaque[:] = 0
        np.testing.assert_array_equal(cluster.pull(opaque=opaque), reference.weights)
        np.testing.assert_array_equal(opaque, expected)

    check(first)
    for step, given, expected in [(1, None, first), (2, first[::-1].copy(), first[::-1]), (3, None, first[::-1])]:
        client.push(model_vector(step), opaque=given)
        reference.push(model_vector(step))
        check(expected)


def test_what_does_not_fit_or_is_not_finite_changes_nothing(start: Start) -> None:
    cluster, client = start(np.zeros(10, np.float32), optimizer=SGD(learning_rate=1.0, momentum=0.5))
    for gradient, got in [
        (np.zeros(9, np.float32), r"float32\[9\]"),
        (np.zeros(11, np.float32), r"float32\[11\]"),
        (np.zeros((2, 5), np.float32), r"float32\[2, 5\]"),
        (np.zeros(10), r"float64\[10\]"),
        (np.zeros(10, np.int32), r"int32\[10\]"),
        ([0.0] * 10, r"\[0.0, "),
        (None, "None"),
    ]:
        with pytest.raises(ValueError, match=rf"gradient: expected float32\[10\], got {got}"):
            client.push(gradient)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"opaque: expected uint8\[0\], got uint8\[1\]"):
        client.push(np.zeros(10, np.float32), opaque=np.zeros(1, np.uint8))
    with pytest.raises(ValueError, match="rows: expected"):
        client.push(np.zeros(10, np.float32), rows=-1)
    wrong: list[Any] = [np.zeros(9, np.float32), np.zeros(10), np.zeros((10, 1), np.float32)]
    for out in wrong:
        with pytest.raises(ValueError, match="out: expected"):
            client.pull(out)
        with pytest.raises(ValueError, match="out: expected"):
            cluster.pull(out)
    bad = np.ones(10, np.float32)
    bad[3] = np.nan
    receipt = client.push(bad)
    assert receipt is not None
    assert receipt.status == "refused"
    np.testing.assert_array_equal(client.pull(), np.zeros(10))
    np.testing.assert_array_equal(cluster.slots["momentum"], np.zeros(10))
    assert (cluster.version, cluster.faults["nonfinite"], client.clock) == (0, 1, 1)
    client.push(np.ones(10, np.float32))
    np.testing.assert_array_equal(client.pull(), -np.ones(10))
    assert cluster.version == 1


def test_a_closed_fit_and_then_a_closed_client_take_no_push(start: Start) -> None:
    cluster, client = start(np.zeros(10, np.float32))
    client.push(np.ones(10, np.float32))
    client.pull()
    client.stop_accepting()
    for _ in range(2):
        with pytest.raises(PushRefused, match="the fit has ended") as refused:
            client.push(np.ones(10, np.float32))
        assert refused.value.code == "closed"
    np.testing.assert_array_equal(client.pull(), -np.ones(10))
    assert (cluster.version, cluster.faults["late"]) == (1, 2)
    cluster.close()
    with pytest.raises(PushRefused):
        client.push(np.ones(10, np.float32))
    np.testing.assert_array_equal(cluster.pull(), -np.ones(10))
    client.close()
    client.close()
    for use in (lambda: client.push(np.ones(10, np.float32)), client.pull, client.stop_accepting):
        with pytest.raises(RuntimeError, match="the client is closed"):
            use()


@pytest.mark.parametrize("mode", ["asynchronous"], indirect=True)
def test_those_who_leave_give_their_place_to_others(start: Start, transport: str) -> None:
    cluster, client = start(np.zeros(10, np.float32))
    for _ in range(70):
        client.push(np.ones(10, np.float32))
        client.close()
        client = connect(cluster.address, transport=transport, timeout=30.0)
        assert client.clock == 0
    client.push(np.ones(10, np.float32))
    client.close()
    assert wait_until(lambda: cluster.version == 71, 10.0)
    np.testing.assert_array_equal(cluster.pull(), np.full(10, -71.0, np.float32))
    assert cluster.faults == dict.fromkeys(cluster.faults, 0)


@pytest.mark.parametrize(("transport", "mode"), [("inproc", "synchronous"), ("shm", "hogwild")], indirect=True)
def test_a_fit_goes_on_from_restored_slots(transport: str, mode: str) -> None:
    optimizer = Adam(learning_rate=0.01)
    reference = Reference(normal(100, 0), optimizer)
    for step in range(1, 4):
        reference.push(normal(100, step))
    cluster = ParameterCluster(reference.weights, optimizer=optimizer, mode=mode, transport=transport)
    slots = {n: s.copy() for n, s in zip(reference.rule.slot_names, reference.slots, strict=True)}
    cluster.restore(reference.version, slots)
    with cluster, connect(cluster.address, transport=transport, timeout=30.0) as client:
        assert client.version == 3
        client.push(normal(100, 9))
        reference.push(normal(100, 9))
        np.testing.assert_array_equal(client.pull(), reference.weights)
        reference.check(cluster)


REPORT = Report(
    kind="epoch", partition=0, attempt=3, epoch=1, rows=100, validation_rows=10, rounds=4, staleness=2, seconds=1.5,
    loss=0.25, host="here", transport="tcp",
)  # fmt: skip


def test_reports_reach_the_observer_once_and_in_order(start: Start, transport: str) -> None:
    cluster, client = start(np.zeros(10, np.float32))
    states: list[list[NDArray[Any]]] = [[np.arange(3.0), np.array(2, np.int64)], [np.zeros((2, 2), np.float32)], []]
    with connect(cluster.address, transport=transport, timeout=30.0, rounds=0) as observer:
        seen, report, metrics = observer.observe(0)
        assert (seen.seen, seen.more, report, metrics) == (0, False, None, [])
        for count in range(3):
            client.report(REPORT, *states[:count])
        got = []
        at = 0
        for count in range(3):
            seen, report, metrics = observer.observe(at)
            at = seen.seen
            assert (at, seen.more) == (count + 1, count < 2)
            got.append(report)
            assert len(metrics) == count
            for sent, received in zip(states, metrics, strict=False):
                for one, other in zip(sent, received, strict=True):
                    np.testing.assert_array_equal(one, other, strict=True)
        assert [r and (r.kind, r.rows, r.loss, r.host) for r in got] == [("epoch", 100, 0.25, "here")] * 3
        assert observer.observe(at)[1] is None


def test_the_driver_steers(start: Start, transport: str, mode: str) -> None:
    cluster, client = start(np.zeros(10, np.float32))
    flat, opaque = np.empty(10, np.float32), np.empty(0, np.uint8)
    with connect(cluster.address, transport=transport, timeout=30.0, rounds=0) as driver:
        driver.steer(released=1, stop_at=2, learning_rate=0.125, server_learning_rate=0.5)
        turn = client.begin_round(flat, opaque, new_epoch=True)
        assert (turn.stop, turn.learning_rate) == (False, 0.125)
        client.push(np.ones(10, np.float32))
        client.end_epoch(flat, opaque)
        np.testing.assert_array_equal(flat, np.full(10, -0.5, np.float32))
        driver.steer(released=2, stop_at=2)
        assert not client.begin_round(flat, opaque, new_epoch=True).stop
        client.push(np.ones(10, np.float32))
        assert client.end_epoch(flat, opaque) == 2
        np.testing.assert_array_equal(flat, np.full(10, -1.0, np.float32))
        assert client.begin_round(flat, opaque, new_epoch=True).stop


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (None, SGD(learning_rate=1.0)),
        ("sgd", SGD()),
        ("Adam", Adam()),
        (Adam(learning_rate=0.25), Adam(learning_rate=0.25)),
        (Adam(learning_rate=0.25).to_config(), Adam(learning_rate=0.25)),
        (
            {
                "module": "keras.optimizers", "class_name": "SGD", "registered_name": None,
                "config": {"name": "SGD", "learning_rate": 0.5, "momentum": 0.5, "use_ema": False, "clipnorm": None},
            },
            SGD(learning_rate=0.5, momentum=0.5),
        ),
    ],
    ids=["none", "sgd", "Adam", "ours", "our config", "keras config"],
)  # fmt: skip
@pytest.mark.parametrize("transport", ["ipc"], indirect=True)
def test_an_optimizer_is_what_users_hold(identifier: Any, expected: Optimizer, transport: str) -> None:
    reference = Reference(normal(20, 0), expected)
    with (
        ParameterCluster(normal(20, 0), optimizer=identifier, transport=transport) as cluster,
        connect(cluster.address, transport=transport) as client,
    ):
        for step in range(1, 4):
            client.push(normal(20, step))
            reference.push(normal(20, step))
        reference.check(cluster)
