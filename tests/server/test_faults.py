"""What goes wrong in practice: dead servers and clients, strangers on the port, ports that are taken."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import time
from typing import Any

import numpy as np
import pytest

from elephas_fast.client import PushRefused, ServerUnreachable, connect
from elephas_fast.cluster import ParameterCluster, ServerLost
from elephas_fast.transport import Address, TransportError, receive
from elephas_fast.wire import PROTOCOL_VERSION, Close, Error, Goodbye, Hello, Pull, Steer, Welcome, encode
from tests.server.crew import Crew, push_for_ever
from tests.server.holdings import is_listening, wait_until
from tests.server.raw import Raw
from tests.server.test_wire import HOSTILE

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(60)]
ONES = np.ones(4, np.float32)


def literal(text: str) -> str:
    return text.replace(".", r"\.").replace("+", r"\+")


def is_lost(cluster: ParameterCluster) -> bool:
    try:
        cluster.check()
    except ServerLost:
        return True
    return False


def lose_server(cluster: ParameterCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the server where no other can be started in its place."""
    assert cluster.pid is not None
    monkeypatch.setattr("sys.executable", "/bin/false")
    os.kill(cluster.pid, signal.SIGKILL)
    assert wait_until(lambda: is_lost(cluster), 10.0)


# A dead or silent server


@pytest.mark.parametrize(
    ("transport", "mode"),
    [("shm", "asynchronous"), ("shm", "hogwild"), ("ipc", "hogwild"), ("tcp", "asynchronous"), ("tcp", "synchronous")],
)
def test_a_lost_server_is_an_error_that_names_its_address_in_time(
    transport: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ParameterCluster(np.zeros(4, np.float32), mode=mode, transport=transport) as cluster:
        client = connect(cluster.address, transport=transport, timeout=0.6)
        client.push(ONES)
        client.pull()
        cluster.check()
        lose_server(cluster, monkeypatch)
        with pytest.raises(ServerLost, match=rf"server at {literal(str(cluster.address))} ended with status -9 and"):
            cluster.check()
        began = time.monotonic()
        with pytest.raises(
            ServerUnreachable,
            match=rf"server at {literal(str(cluster.address))} does not answer .*last applied round.*: 1",
        ):
            client.begin_round(np.empty(4, np.float32), np.empty(0, np.uint8), new_epoch=True)
        assert 0.5 < time.monotonic() - began < 5.0
        client.close()
        np.testing.assert_array_equal(cluster.pull(), -ONES)


@pytest.mark.parametrize("transport", ["auto", "shm"])
def test_nobody_can_come_to_a_lost_server(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ParameterCluster(np.zeros(4, np.float32), transport=transport) as cluster:
        lose_server(cluster, monkeypatch)
        with pytest.raises((ServerUnreachable, TransportError), match=r"127\.0\.0\.1|does not lead to the server"):
            connect(cluster.address, transport=transport, timeout=0.4)


def test_a_server_that_is_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address((f"tcp://127.0.0.1:{silent.getsockname()[1]}",), b"k" * 32)
        began = time.monotonic()
        with pytest.raises(ServerUnreachable, match=rf"server at {literal(str(address))} does not answer for 1 s"):
            connect(address, timeout=1.0)
        assert 0.9 < time.monotonic() - began < 6.0


def test_a_port_nobody_listens_on_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServerUnreachable, match=f"127.0.0.1:{port} does not answer"):
        connect(Address((f"tcp://127.0.0.1:{port}",), b"k" * 32), timeout=0.5)


# A server that cannot start


@pytest.mark.fault(15)
@pytest.mark.parametrize("transport", ["tcp", "auto"])
def test_a_taken_port_is_named_at_start(transport: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cluster = ParameterCluster(np.zeros(4, np.float32), transport=transport, port=port)
        with pytest.raises(ServerLost, match=rf"could not start: .*tcp://127\.0\.0\.1:{port}: Address already in use"):
            cluster.start()
        assert cluster.pid is None
    with ParameterCluster(np.zeros(4, np.float32), transport=transport, port=port) as again:
        assert again.address.endpoint("tcp") == f"tcp://127.0.0.1:{port}"


@pytest.mark.parametrize("host", ["192.0.2.1", "::1%nowhere", "no.such.host.invalid"])
def test_an_address_that_is_not_this_machine_s_is_an_error(host: str) -> None:
    with pytest.raises((ServerLost, ValueError), match=r"cannot listen on tcp://192|host: cannot resolve"):
        ParameterCluster(np.zeros(4, np.float32), transport="tcp", host=host).start()


@pytest.mark.parametrize("program", ["/bin/false", "/bin/true"])
def test_a_server_process_that_ends_at_once_is_an_error(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", program)
    with pytest.raises(ServerLost, match=r"could not start: (its process ended|.*Broken pipe)"):
        ParameterCluster(np.zeros(4, np.float32)).start()


def test_a_server_program_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    with pytest.raises(OSError, match="/no/such/python"):
        ParameterCluster(np.zeros(4, np.float32)).start()


# Clients that are killed


@pytest.mark.fault(6)
@pytest.mark.usefixtures("crew")  # with it comes the one process that multiprocessing keeps for itself
@pytest.mark.parametrize("mode", ["hogwild", "asynchronous"])
def test_others_go_on_when_a_client_is_killed_amid_a_push(mode: str) -> None:
    size = 200_000
    with ParameterCluster(np.zeros(size, np.float32), mode=mode, access="compare_exchange", transport="shm") as cluster:
        honest = connect(cluster.address, transport="shm", timeout=20.0)
        gradient = np.ones(size, np.float32)
        pushed = 0
        victims = Crew(3)
        for victim in range(3):
            readable, writable = os.pipe()
            victims.start(victim, push_for_ever, cluster.address, "shm", f"/proc/{os.getpid()}/fd/{writable}")
            assert select.select([readable], [], [], 30.0)[0]
            for _ in range(20):
                honest.push(gradient)
                pushed += 1
            victims.kill(victim)
            os.close(readable)
            os.close(writable)
        for _ in range(20):
            honest.push(gradient)
            pushed += 1
        weights = honest.pull()
        assert cluster.faults["partial"] <= 3
        partial = cluster.faults["partial"]
        # Whole pushes reach every element; each killed writer's last one may have reached only some.
        assert weights.max() - weights.min() <= partial
        assert -cluster.version <= weights.min() <= weights.max() <= -(cluster.version - partial)
        assert cluster.version > pushed
        with connect(cluster.address, transport="shm", timeout=20.0) as late:
            assert late._member.line <= 6  # the places of the killed have been given back
            late.push(gradient)
        honest.close()
        cluster.check()


def test_outboxes_of_the_dead_are_given_back() -> None:
    with ParameterCluster(np.zeros(4, np.float32), mode="synchronous", transport="shm") as cluster:
        for _ in range(70):
            client = connect(cluster.address, transport="shm", timeout=20.0)
            assert client._vectors.outbox is not None
            client.push(ONES)
            client.pull()
            client.close()
        assert cluster.version == 70
        np.testing.assert_array_equal(cluster.pull(), -70 * ONES)


# Strangers


@pytest.mark.fault(11)
@pytest.mark.parametrize("transport", ["inproc", "ipc", "tcp"])
def test_what_strangers_send_is_counted_refused_and_changes_nothing(transport: str) -> None:
    randomly = random.Random(7)
    foreign = [list(frames) for frames in HOSTILE.values() if frames and len(frames[0]) < 60_000]
    foreign += [[randomly.randbytes(randomly.randrange(200)) for _ in range(randomly.randint(1, 4))] for _ in range(60)]
    with (
        ParameterCluster(np.zeros(4, np.float32), transport=transport) as cluster,
        connect(cluster.address, transport=transport, timeout=20.0) as honest,
        Raw(cluster.address, transport) as stranger,
    ):
        for number, frames in enumerate(foreign):
            reply = stranger.ask_frames(frames)
            assert isinstance(reply, Error)
            assert reply.code == "protocol"
            assert reply.text
            assert cluster.faults["damaged"] == number + 1
            receipt = honest.push(ONES)
            assert receipt is not None
            assert receipt.status == "applied"
        np.testing.assert_array_equal(cluster.pull(), -len(foreign) * ONES)
        assert cluster.version == len(foreign)


@pytest.mark.parametrize("transport", ["inproc", "ipc", "tcp"])
def test_whoever_does_not_know_the_key_can_do_nothing(transport: str) -> None:
    with (
        ParameterCluster(np.zeros(4, np.float32), transport=transport) as cluster,
        Raw(cluster.address, transport) as stranger,
    ):
        for number, key in enumerate([b"", b"x" * 32, cluster.address.key[:-1], cluster.address.key + b"x"]):
            reply = stranger.hello(key=key)
            assert isinstance(reply, Error)
            assert reply.code == "key"
            assert cluster.faults["damaged"] == number + 1
        requests: list[Any] = [
            Pull(purpose="observe", clock=0, weights=True),
            Steer(released=0, stop_at=0, learning_rate=0.0, server_learning_rate=0.0),
            Close(),
            Goodbye(),
        ]
        for request in requests:
            reply = stranger.ask(request)
            assert isinstance(reply, Error)
            assert reply.code == "hello"
        reply = stranger.push(1, ONES)
        assert isinstance(reply, Error)
        assert cluster.version == 0
        with pytest.raises(PushRefused, match=r"the key does not belong to th(is|e) fit") as refused:
            connect(Address(cluster.address.endpoints, b"x" * 32), transport=transport, timeout=60.0)
        assert refused.value.code == "key"
        with connect(cluster.address, transport=transport, timeout=20.0) as client:
            client.push(ONES)
        np.testing.assert_array_equal(cluster.pull(), -ONES)


def test_whoever_does_not_know_the_key_gets_no_memory() -> None:
    with ParameterCluster(np.zeros(4, np.float32), transport="auto") as cluster:
        wrong = Address(cluster.address.endpoints, b"x" * 32)
        for transport in ("shm", "auto"):
            with pytest.raises(PushRefused, match="key refused") as refused:
                connect(wrong, transport=transport, timeout=20.0)
            assert refused.value.code == "key"
        assert wait_until(lambda: cluster.faults["damaged"] == 2, 10.0)
        shared = cluster.address.endpoint("shm")
        assert shared is not None
        given = receive(shared, cluster.address.key)
        assert given is not None
        os.close(given[0])
        given[1].close()
        with connect(cluster.address) as client:
            assert client.transport == "shm"
            client.push(ONES)


@pytest.mark.fault(11)
def test_another_protocol_or_partition_is_refused_with_a_reason() -> None:
    with (
        ParameterCluster(np.zeros(4, np.float32), transport="inproc", partitions=2) as cluster,
        Raw(cluster.address, "inproc") as raw,
    ):
        for changes, reason in [
            ({"protocol": 1}, f"expected protocol {PROTOCOL_VERSION}, got 1"),
            ({"partition": 2}, "expected a partition below 2"),
        ]:
            reply = raw.hello(**changes)
            assert isinstance(reply, Error)
            assert (reply.code, reason in reply.text) == ("protocol", True)
        assert isinstance(raw.hello(partition=1), Welcome)


@pytest.mark.fault(12)
def test_a_message_too_big_for_this_fit_never_reaches_the_server() -> None:
    with (
        ParameterCluster(np.zeros(4, np.float32), transport="tcp") as cluster,
        connect(cluster.address, timeout=20.0) as honest,
        Raw(cluster.address, "tcp") as stranger,
    ):
        stranger._channel.send([*encode(Hello(
            protocol=PROTOCOL_VERSION, key=cluster.address.key, partition=-1, attempt=0, rounds=1, outbox=False
        )), bytes(10_000_000)], 10.0)  # fmt: skip
        assert stranger._channel.receive(0.3) is None
        honest.push(ONES)
        assert cluster.version == 1


def test_more_clients_than_there_is_room_for_are_refused_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elephas_fast.cluster._BARE_LINES", 3)
    monkeypatch.setattr("elephas_fast.cluster._BARE_OUTBOXES", 1)
    with ParameterCluster(np.zeros(4, np.float32), transport="shm", partitions=0) as cluster:
        clients = [connect(cluster.address, transport="shm", timeout=20.0) for _ in range(3)]
        with pytest.raises(PushRefused, match="no more clients are admitted") as refused:
            connect(cluster.address, transport="shm", timeout=20.0)
        assert refused.value.code == "full"
        for client in clients:  # two of them without an outbox, so their payload travels in frames
            client.push(ONES)
        clients.pop().close()
        with connect(cluster.address, transport="shm", timeout=20.0) as another:
            another.push(ONES)
        for client in clients:
            client.close()
        np.testing.assert_array_equal(cluster.pull(), -4 * ONES)


def test_a_server_on_another_host_is_reached_over_tcp() -> None:
    with ParameterCluster(np.zeros(4, np.float32), transport="auto") as cluster:
        tcp = cluster.address.endpoint("tcp")
        assert tcp is not None
        # An abstract name leads nowhere on another host; the same is seen with a name nobody listens on.
        elsewhere = Address((tcp, "ipc://@elephas_fast-0", "shm://elephas_fast-0"), cluster.address.key)
        with connect(elsewhere, timeout=20.0) as client:
            assert client.transport == "tcp"
            client.push(ONES)
        with pytest.raises(TransportError, match="transport: 'shm' does not lead to the server"):
            connect(elsewhere, transport="shm", timeout=1.0)
        assert cluster.version == 1
        assert is_listening(tcp)
