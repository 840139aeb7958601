"""Connections that are cut, silent, inherited, or used by strangers."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from elephas_fast.transport import Channel, Listener
from tests.server.echo import ENCRYPTED, WAIT, Echo, ask, fresh, key_of
from tests.server.holdings import wait_until
from tests.server.proxy import Proxy


@pytest.mark.fault(12)
@pytest.mark.parametrize("scheme", ["ipc", "tcp", *ENCRYPTED])
def test_a_frame_over_the_limit_is_never_delivered(scheme: str, nothing_left: None) -> None:
    listener = Listener([fresh(scheme)], 1000, key_of(scheme))
    bad, good = Channel(listener.endpoints[0], key_of(scheme)), Channel(listener.endpoints[0], key_of(scheme))
    assert bad.send([bytes(1001)], WAIT)
    assert good.send([bytes(1000)], WAIT)
    ((_, frames),) = listener.messages(WAIT)
    assert len(frames[0]) == 1000
    assert list(listener.messages(0.3)) == []
    bad.close()
    good.close()
    listener.close()


NOISE: dict[str, bytes] = {
    "HTTP": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" * 3,
    "zeros": bytes(10_000),
    "ones": b"\xff" * 10_000,
    "half a greeting": b"\xff\0\0\0\0\0\0\0\1\x7f",
    "a greeting and a frame of 2**63 bytes": (
        b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48) + b"\x06" + b"\x7f" + b"\xff" * 7 + b"x" * 100
    ),
    "nothing": b"",
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE.keys())
def test_noise_on_the_port_disturbs_nobody(noise: bytes, nothing_left: None) -> None:
    with Echo("tcp") as echo:
        host, _, port = echo.endpoint.removeprefix("tcp://").rpartition(":")
        channel = Channel(echo.endpoint, echo.key)
        assert ask(channel, [b"before"]) == [b"before"]
        with socket.create_connection((host, int(port)), 5) as stranger:
            stranger.sendall(noise)
            assert ask(channel, [b"meanwhile"]) == [b"meanwhile"]
        assert ask(channel, [b"after"]) == [b"after"]
        assert len(echo.peers) == 1
        channel.close()


@pytest.mark.parametrize("half", [False, True], ids=["cut", "cut unseen"])
def test_a_peer_stays_the_same_peer_when_its_connection_is_cut(half: bool, nothing_left: None) -> None:
    with Echo("tcp") as echo, Proxy(echo.endpoint) as proxy:
        channel = Channel(proxy.endpoint)
        assert ask(channel, [b"0"]) == [b"0"]
        for number in range(1, 4):
            proxy.cut(half=half)
            expected = b"%d" % number

            def answered(expected: bytes = expected) -> bool:
                channel.send([expected], 1.0)
                return any(bytes(f) == expected for f in channel.receive(0.2) or [])

            assert wait_until(answered, 4.0)  # before a heartbeat that is missed tells the listener
            assert wait_until(lambda number=number: proxy.connections > number, WAIT)  # type: ignore[misc]
        assert len(echo.peers) == 1
        channel.close()


SILENT = """
import sys
from elephas_fast.transport import Channel, sockets

sockets._HEARTBEAT_MS, sockets._GIVEN_UP_AFTER_MS = 200, 1000
channel = Channel(sys.argv[1])
for line in sys.stdin:
    answer = None
    while answer is None:  # what was sent to a connection that is gone is lost; clients say it again
        channel.send([line.encode()], 10.0)
        answer = channel.receive(1.0)
    print(bytes(answer[0]).decode(), end="", flush=True)
channel.close()
"""


def test_a_connection_whose_client_is_silent_is_given_up_and_comes_back(nothing_left: None) -> None:
    """The client says at its beginning for how long the listener has to wait; an idle one that lives says something."""

    def held(port: int) -> int:
        found = psutil.Process().net_connections("tcp")
        return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in found)

    with Echo("tcp") as echo:
        port = int(echo.endpoint.rpartition(":")[2])
        command = [sys.executable, "-c", SILENT, echo.endpoint]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as client:
            try:
                assert client.stdin is not None
                assert client.stdout is not None
                client.stdin.write("first\n")
                assert client.stdout.readline() == "first\n"
                time.sleep(2.0)
                assert held(port) == 1
                client.send_signal(signal.SIGSTOP)
                assert wait_until(lambda: held(port) == 0, 10.0)
                client.send_signal(signal.SIGCONT)
                client.stdin.write("second\n")
                assert client.stdout.readline() == "second\n"
                client.stdin.close()
                assert client.wait(10) == 0
            finally:
                client.kill()  # a stopped one would be waited for
        assert len(echo.peers) == 1


FORKED = """
import os, sys
from elephas_fast.transport import Channel

def ask(channel, text):
    assert channel.send([text], 10)
    return bytes((channel.receive(10) or [b"nothing"])[0]) == text

parents = Channel(sys.argv[1])
assert ask(parents, b"parent")
pid = os.fork()
if pid == 0:
    parents.close()
    own = Channel(sys.argv[1])
    good = ask(own, b"child")
    own.close()
    os._exit(0 if good else 3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child could not talk"
assert ask(parents, b"parent again")
parents.close()
"""


@pytest.mark.fault(18)
def test_a_forked_child_makes_its_own_connection(nothing_left: None) -> None:
    with Echo("tcp") as echo:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", FORKED, echo.endpoint],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
