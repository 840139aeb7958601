"""Sockets that ask for the key, encrypted or not: who gets in, and who sees what of what others say."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import numpy as np
import pytest
import zmq

from elephas_fast.client import PushRefused, connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.transport import Address, Channel, Listener, admission
from tests.server.proxy import Proxy

KEY = bytes(range(32))
WAIT = 20.0
ONES = np.ones(4, np.float32)


class Served:
    """A listener that is read by a thread, and what it was given."""

    def __init__(self, endpoint: str, *, encrypted: bool = True) -> None:
        self.encrypted = encrypted
        self.listener = Listener([endpoint], 1_000_000, KEY, encrypted=encrypted)
        self.endpoint = self.listener.endpoints[0]
        self.heard: list[list[bytes]] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            for peer, frames in self.listener.messages(0.02):
                self.heard.append([bytes(frame) for frame in frames])
                self.listener.send(peer, [b"heard"])
        self.listener.close()

    def close(self) -> None:
        self._stop = True
        self._thread.join(WAIT)


@pytest.fixture(params=[True, False], ids=["curve", "plain"])
def encrypted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=["tcp://127.0.0.1:*", "ipc"])
def served(request: pytest.FixtureRequest, encrypted: bool, nothing_left: None) -> Iterator[Served]:
    wanted = request.param if request.param != "ipc" else f"ipc://@elephas_fast-test-{secrets.token_hex(8)}"
    made = Served(wanted, encrypted=encrypted)
    yield made
    made.close()


def is_refused(channel: Channel) -> bool:
    deadline = time.monotonic() + WAIT
    while not channel.refused and time.monotonic() < deadline:
        assert channel.receive(0.05) is None
    return channel.refused


def test_only_who_has_the_key_gets_in(served: Served) -> None:
    stranger = Channel(served.endpoint, secrets.token_bytes(32), encrypted=served.encrypted)
    stranger.send([b"let me in"], 0.1)  # in vain where it has been turned away by then
    assert is_refused(stranger)
    stranger.close()
    for other in (Channel(served.endpoint), Channel(served.endpoint, KEY, encrypted=not served.encrypted)):
        other.send([b"hello"], 0.1)
        assert other.receive(0.5) is None
        other.close()
    known = Channel(served.endpoint, KEY, encrypted=served.encrypted)
    assert known.send([b"it is me"], WAIT)
    assert known.receive(WAIT) is not None
    assert not known.refused
    known.close()
    assert served.heard == [[b"it is me"]]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["from the same address", "from another"])
def test_a_password_is_good_from_one_address_only(
    encrypted: bool, elsewhere: bool, monkeypatch: pytest.MonkeyPatch, nothing_left: None
) -> None:
    """Somebody says again what he has read on the way; a channel that was cut says it again too."""
    monkeypatch.setattr(admission.secrets, "token_hex", lambda count: "ab" * count)
    with closing(Served("tcp://127.0.0.1:*", encrypted=encrypted)) as served, ExitStack() as stack:
        known = Channel(served.endpoint, KEY, encrypted=encrypted)
        stack.callback(known.close)
        assert known.send([b"it is me"], WAIT)
        assert known.receive(WAIT) is not None
        source = "127.0.0.2:0;" if elsewhere else ""
        reader = Channel(served.endpoint.replace("tcp://", f"tcp://{source}"), KEY, encrypted=encrypted)
        stack.callback(reader.close)
        reader.send([b"me too"], 0.1)
        if elsewhere:
            assert is_refused(reader)
        else:
            assert reader.receive(WAIT) is not None
    assert served.heard == [[b"it is me"]] + [[b"me too"]] * (not elsewhere)


def test_who_reads_the_password_is_admitted_and_not_heard(nothing_left: None) -> None:
    """He connects from the same address, and says what he likes without knowing the key."""
    with closing(Served("tcp://127.0.0.1:*")) as served, zmq.Context() as context:
        reader = context.socket(zmq.DEALER)
        reader.setsockopt(zmq.LINGER, 0)
        admission.as_client(reader, KEY, encrypted=True)
        reader.connect(served.endpoint)
        with closing(reader):
            for words in ([b"hello"], [b"\1" + bytes(48), bytes(20)], [b""], [bytes(49)] * 3):
                reader.send_multipart(words)
                assert reader.poll(int(1000 * WAIT)), "he is told that he was not understood"
                assert len(reader.recv()) == 33
    assert served.heard == []


def test_who_only_talks_nonsense_cannot_hold_a_channel_up(monkeypatch: pytest.MonkeyPatch, nothing_left: None) -> None:
    """Somebody in the listener's place, who lets everybody in and says more than can be looked at, for ten seconds."""
    talking = True
    with zmq.Context() as context:
        router = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        gate = admission.Admission(context, KEY, encrypted=True)
        admission.as_server(router)
        port = router.bind_to_random_port("tcp://127.0.0.1")

        def talk() -> None:
            while talking and not router.poll(10):
                if gate.socket.poll(0):
                    gate.answer()
            name = router.recv_multipart()[0]
            end = time.monotonic() + 10.0
            while talking and time.monotonic() < end:
                router.send_multipart([name, b"nonsense"])

        thread = threading.Thread(target=talk)
        thread.start()
        channel = Channel(f"tcp://127.0.0.1:{port}", KEY)
        try:
            assert channel.send([b"hello"], WAIT)
            monkeypatch.setattr(channel._seal, "open", lambda _: time.sleep(0.01))
            began = time.monotonic()
            assert channel.receive(1.0) is None
            assert time.monotonic() - began < 5.0
        finally:
            talking = False
            channel.close()
            thread.join(WAIT)
            router.close()
            gate.socket.close()


def test_what_is_said_cannot_be_read_on_the_way(nothing_left: None) -> None:
    secret = b"the weights of the model" * 100
    seen: dict[bool, bytes] = {}
    for encrypted in (False, True):
        listener = Listener(["tcp://127.0.0.1:*"], 1_000_000, KEY, encrypted=encrypted)
        with Proxy(listener.endpoints[0]) as proxy:
            channel = Channel(proxy.endpoint, KEY, encrypted=encrypted)
            assert channel.send([secret], WAIT)
            deadline = time.monotonic() + WAIT
            heard: list[bytes] = []
            while not heard and time.monotonic() < deadline:
                heard = [bytes(frames[0]) for _, frames in listener.messages(0.1)]
            assert heard == [secret]
            channel.close()
            seen[encrypted] = bytes(proxy.there)
        listener.close()
    assert secret in seen[False]
    assert b"weights" not in seen[True]
    assert not any(KEY in said or KEY.hex().encode() in said for said in seen.values())


def test_garbage_is_never_delivered(encrypted: bool, nothing_left: None) -> None:
    """Where no key is asked for ZeroMQ takes a stranger's bytes for a message of its first protocol."""
    served = Served("tcp://127.0.0.1:*", encrypted=encrypted)
    host, _, port = served.endpoint.removeprefix("tcp://").rpartition(":")
    rng = np.random.default_rng(0)
    for number in range(60):
        with socket.create_connection((host, int(port)), timeout=WAIT) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\n\r\n" if number % 3 == 0 else rng.bytes(int(rng.integers(1, 300))))
    known = Channel(served.endpoint, KEY, encrypted=encrypted)
    began = time.monotonic()
    assert known.send([b"still there?"], WAIT)
    assert known.receive(WAIT) is not None
    assert time.monotonic() - began < 5.0
    known.close()
    served.close()
    assert served.heard == [[b"still there?"]]


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_a_cluster_is_encrypted_unless_told(transport: str) -> None:
    with ParameterCluster(np.zeros(4, np.float32), transport=transport) as cluster:
        assert cluster.address.security == "curve"
        began = time.monotonic()
        with pytest.raises(PushRefused, match="the key does not belong to the fit") as refused:
            connect(Address(cluster.address.endpoints, b"x" * 32), transport=transport, timeout=60.0)
        assert refused.value.code == "key"
        assert time.monotonic() - began < 30.0
        with connect(cluster.address, transport=transport, timeout=WAIT) as client:
            client.push(ONES)
        np.testing.assert_array_equal(cluster.pull(), -ONES)


def test_no_encryption_has_to_be_typed_and_warns() -> None:
    with pytest.warns(UserWarning, match="security: 'none' sends weights, updates and the key in clear"):
        cluster = ParameterCluster(np.zeros(4, np.float32), transport="tcp", security="none")
    with cluster, connect(cluster.address, timeout=WAIT) as client:
        assert cluster.address.security == "none"
        client.push(ONES)
        np.testing.assert_array_equal(cluster.pull(), -ONES)
    with pytest.raises(ValueError, match="security: expected one of 'curve', 'none', got 'tls'"):
        ParameterCluster(np.zeros(4, np.float32), security="tls")
