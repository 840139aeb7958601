"""Who does not have the fit's key is never heard: no key, another fit's, one of the wrong kind, and old bytes again."""

from __future__ import annotations

import secrets
import socket
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest

from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.transport import Address, Channel
from elephas_fast.wire import PROTOCOL_VERSION, Hello, Push, encode
from tests.server.proxy import Proxy

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(600)]
ONES = np.ones(4, np.float32)
AT_ONCE = 100


def cluster_of(security: str) -> ParameterCluster:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if security == "none" else "error", UserWarning)
        return ParameterCluster(np.zeros(4, np.float32), transport="tcp", security=security)


def heard(endpoint: str, keys: list[bytes | None], security: str, key_inside: bytes) -> int:
    """How many channels with these keys get any answer to a hello that holds the right key."""
    hello = Hello(protocol=PROTOCOL_VERSION, key=key_inside, partition=-1, attempt=0, rounds=1, outbox=False)
    push = Push(generation=1, clock=1, base_version=0, rows=1, outbox=False)
    with ExitStack() as stack:
        channels = [Channel(endpoint, key, encrypted=security == "curve") for key in keys]
        for channel in channels:
            stack.callback(channel.close)
            channel.send(encode(hello, request=1), 0.0)
            channel.send(encode(push, [ONES.tobytes()], request=2), 0.0)
        deadline = time.monotonic() + 1.0
        return sum(channel.receive(max(0.0, deadline - time.monotonic())) is not None for channel in channels)


@pytest.mark.parametrize("security", ["curve", "none"])
def test_nobody_without_the_key_of_this_fit_is_admitted(
    security: str, how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    count = how_many(100, 1000)
    with cluster_of(security) as cluster, cluster_of(security) as other:
        key = cluster.address.key
        tried = 0
        while tried < count:
            kinds = [None, secrets.token_bytes(32), other.address.key, bytes(32), key[:-1] + bytes([key[-1] ^ 1])]
            strangers = [kinds[n % len(kinds)] for n in range(min(AT_ONCE, count - tried))]
            assert heard(str(cluster.address), strangers, security, key) == 0
            tried += len(strangers)
        # the right key in the other way of speaking is a stranger too
        assert heard(str(cluster.address), [key], "none" if security == "curve" else "curve", key) == 0
        with connect(cluster.address, timeout=20.0) as client:
            client.push(ONES)
        np.testing.assert_array_equal(cluster.pull(), -ONES)
        assert cluster.faults == dict.fromkeys(cluster.faults, 0)
        injected(strangers=tried + 1, admitted=0)


def test_what_a_client_said_is_of_no_use_to_who_says_it_again(
    how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    """All bytes of a real client, from its handshake to the end of its push, and beginnings of them."""
    with cluster_of("curve") as cluster:
        with (
            Proxy(str(cluster.address)) as proxy,
            connect(Address((proxy.endpoint,), cluster.address.key), timeout=20.0) as client,
        ):
            client.push(ONES)
            said = bytes(proxy.there)
        assert cluster.version == 1
        host, _, port = str(cluster.address).removeprefix("tcp://").rpartition(":")
        count = how_many(100, 1000)
        for number in range(count):
            with socket.create_connection((host, int(port)), timeout=20.0) as replayer:
                replayer.sendall(said[: len(said) if number % 2 else number * len(said) // count])
                if number % 10 == 1:
                    answer = _until_silence(replayer)
                    assert len(answer) <= 64 + 10 + 60  # greeting, welcome and ready, at most
        with connect(cluster.address, timeout=20.0) as client:
            client.push(ONES)
        assert cluster.version == 2
        np.testing.assert_array_equal(cluster.pull(), -2 * ONES)
        assert cluster.faults == dict.fromkeys(cluster.faults, 0)
        injected(replays=count, admitted=0)


def _until_silence(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up or has said nothing for half a second."""
    received = b""
    connection.settimeout(0.5)
    try:
        while part := connection.recv(1 << 16):
            received += part
    except (ConnectionResetError, TimeoutError):
        pass
    return received
