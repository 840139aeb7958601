"""Frames between sockets: one contract for every scheme."""

from __future__ import annotations

import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest

from elephas_fast.transport import Channel, Listener, TransportError
from tests.server.holdings import Holdings, is_listening, wait_until
from tests.server.proxy import Proxy

SCHEMES = ("inproc", "ipc", "tcp")
ENCRYPTED = ("ipc encrypted", "tcp encrypted")
KEY = bytes(range(32))
LIMIT = 6_000_000
SIZES = (0, 1, 100_000, 5_000_000)
WAIT = 20.0


def key_of(scheme: str) -> bytes | None:
    return KEY if scheme in ENCRYPTED else None


def fresh(scheme: str) -> str:
    return {
        "inproc": f"inproc://test-{secrets.token_hex(8)}",
        "ipc": f"ipc://@elephas_fast-test-{secrets.token_hex(8)}",
        "tcp": "tcp://127.0.0.1:*",
    }[scheme.partition(" ")[0]]


class Echo:
    """Sends every message back to its peer, from a thread of its own; a context manager."""

    def __init__(self, scheme: str) -> None:
        self._wanted, self.key = fresh(scheme), key_of(scheme)
        self._bound: queue.Queue[str] = queue.Queue()
        self._stop = threading.Event()
        self.peers: set[object] = set()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        listener = Listener([self._wanted], LIMIT, self.key)
        self._bound.put(listener.endpoints[0])
        while not self._stop.is_set():
            for peer, frames in listener.messages(0.02):
                self.peers.add(peer)
                listener.send(peer, [bytes(frame) for frame in frames])
        listener.close()
        listener.close()

    def __enter__(self) -> Echo:
        self._thread.start()
        self.endpoint = self._bound.get(timeout=WAIT)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()


@pytest.fixture(params=SCHEMES + ENCRYPTED)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def echo(scheme: str, nothing_left: None) -> Iterator[Echo]:
    with Echo(scheme) as server:
        yield server


def ask(channel: Channel, frames: list[bytes | bytearray | memoryview]) -> list[bytes]:
    assert channel.send(frames, WAIT)
    reply = channel.receive(WAIT)
    assert reply is not None
    return [bytes(frame) for frame in reply]


@pytest.mark.parametrize("size", SIZES)
def test_frames_come_back_as_they_were_sent(echo: Echo, size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    channel = Channel(echo.endpoint, echo.key)
    for frame in (data.tobytes(), bytearray(data), data.data):
        assert ask(channel, [frame]) == [data.tobytes()]
    channel.close()


def test_a_message_keeps_its_frames_apart(echo: Echo) -> None:
    channel = Channel(echo.endpoint, echo.key)
    frames: list[bytes | bytearray | memoryview] = [secrets.token_bytes(size) for size in (*SIZES, 0, 70_000, 1)]
    assert ask(channel, frames) == frames
    channel.close()


def test_messages_keep_their_order(echo: Echo) -> None:
    channel = Channel(echo.endpoint, echo.key)
    for begin in range(0, 200, 20):
        for number in range(begin, begin + 20):
            assert channel.send([b"%d" % number], WAIT)
        for number in range(begin, begin + 20):
            assert [bytes(f) for f in channel.receive(WAIT) or []] == [b"%d" % number]
    channel.close()


def test_each_of_many_clients_gets_its_own_answer(echo: Echo) -> None:
    channels = [Channel(echo.endpoint, echo.key) for _ in range(40)]
    for round_ in range(3):
        for number, channel in enumerate(channels):
            assert channel.send([b"%d of %d" % (number, round_)], WAIT)
        for number, channel in enumerate(channels):
            assert [bytes(f) for f in channel.receive(WAIT) or []] == [b"%d of %d" % (number, round_)]
    assert len(echo.peers) == len(channels)
    for channel in channels:
        assert channel.receive(0.0) is None
        channel.close()


def test_clients_in_many_threads(echo: Echo) -> None:
    problems: list[object] = []

    def talk(number: int) -> None:
        channel = Channel(echo.endpoint, echo.key)
        for size in (0, 10, 70_000) * 10:
            sent = [b"%d" % number, bytes([number]) * size]
            if ask(channel, list(sent)) != sent:
                problems.append((number, size))
        channel.close()

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert problems == []
    assert not any(thread.is_alive() for thread in threads)


def test_closing_twice_is_harmless(echo: Echo) -> None:
    channel = Channel(echo.endpoint, echo.key)
    assert ask(channel, [b"x"]) == [b"x"]
    channel.close()
    channel.close()


def test_waiting_ends_when_it_should(echo: Echo) -> None:
    channel = Channel(echo.endpoint, echo.key)
    for seconds in (0.0, 0.0005, 0.2):
        began = time.monotonic()
        assert channel.receive(seconds) is None
        assert seconds - 0.01 <= time.monotonic() - began < seconds + 1.0
    channel.close()


def test_polling_ends_when_it_should(scheme: str, nothing_left: None) -> None:
    listener = Listener([fresh(scheme)], LIMIT, key_of(scheme))
    for seconds in (0.0, 0.2):
        began = time.monotonic()
        assert list(listener.messages(seconds)) == []
        assert seconds - 0.01 <= time.monotonic() - began < seconds + 1.0
    listener.close()
    listener.close()


def test_a_queue_that_is_full_does_not_block(scheme: str, nothing_left: None) -> None:
    listener = Listener([fresh(scheme)], LIMIT, key_of(scheme))  # never read
    channel = Channel(listener.endpoints[0], key_of(scheme))
    sent = 0
    began = time.monotonic()
    while channel.send([bytes(60_000)], 0.2):
        sent += 1
        assert sent < 10_000
    assert sent >= 64
    assert time.monotonic() - began < WAIT
    channel.close()
    listener.close()


def test_a_peer_that_has_gone_is_told_apart(scheme: str, nothing_left: None) -> None:
    listener = Listener([fresh(scheme)], LIMIT, key_of(scheme))
    channel = Channel(listener.endpoints[0], key_of(scheme))
    channel.send([b"x"], WAIT)
    ((peer, frames),) = listener.messages(WAIT)
    assert [bytes(frame) for frame in frames] == [b"x"]
    assert listener.send(peer, [b"y"])
    assert [bytes(f) for f in channel.receive(WAIT) or []] == [b"y"]
    channel.close()
    assert wait_until(lambda: not (list(listener.messages(0.0)) or listener.send(peer, [b"z"])), WAIT)
    listener.close()


@pytest.mark.fault(15)
def test_a_place_that_is_taken_is_named(scheme: str, nothing_left: None) -> None:
    first = Listener([fresh(scheme)], LIMIT, key_of(scheme))
    with pytest.raises(TransportError, match="cannot listen on " + first.endpoints[0].replace(".", r"\.")):
        Listener([fresh("tcp"), first.endpoints[0]], LIMIT, key_of(scheme))
    first.close()
    if scheme != "inproc":
        assert wait_until(lambda: not is_listening(first.endpoints[0]), 5.0)
    second = Listener([first.endpoints[0]], LIMIT)
    second.close()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "udp://127.0.0.1:1", "shm://x", "127.0.0.1:80", "", "tcp"])
def test_an_unknown_scheme_is_refused(endpoint: str, nothing_left: None) -> None:
    message = "endpoint: expected a scheme of inproc, ipc, tcp, got '"
    with pytest.raises(ValueError, match=message):
        Channel(endpoint)
    with pytest.raises(ValueError, match=message):
        Listener([fresh("tcp"), endpoint], LIMIT)


@pytest.mark.parametrize("endpoint", ["tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:", "ipc://"])
def test_an_endpoint_that_is_none_is_named(endpoint: str, nothing_left: None) -> None:
    with pytest.raises(TransportError, match=f"cannot connect to {endpoint}: "):
        Channel(endpoint)


def test_one_listener_serves_all_schemes_and_descriptors(nothing_left: None) -> None:
    listener = Listener([fresh(scheme) for scheme in SCHEMES], LIMIT, KEY)
    channels = [Channel(endpoint, KEY) for endpoint in listener.endpoints]
    readable, writable = os.pipe()
    woken: list[bytes] = []
    listener.watch(readable, lambda: woken.append(os.read(readable, 10)))
    for number, channel in enumerate(channels):
        channel.send([b"%d" % number], WAIT)
    os.write(writable, b"ring")
    answered = 0
    deadline = time.monotonic() + WAIT
    while (answered < 3 or not woken) and time.monotonic() < deadline:
        for peer, frames in listener.messages(0.1):
            assert listener.send(peer, [bytes(frame) for frame in frames])
            answered += 1
    assert woken == [b"ring"]
    assert [[bytes(f) for f in channel.receive(WAIT) or []] for channel in channels] == [[b"0"], [b"1"], [b"2"]]
    listener.unwatch(readable)
    listener.unwatch(readable)
    os.write(writable, b"again")
    assert list(listener.messages(0.05)) == []
    assert woken == [b"ring"]
    for channel in channels:
        channel.close()
    listener.close()
    os.close(readable)
    os.close(writable)


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


def test_the_library_s_threads_end_with_the_last_socket() -> None:
    before = Holdings.now()
    channel = Channel("tcp://127.0.0.1:9")
    assert Holdings.now().beyond(before).keys() >= {"threads", "descriptors"}
    channel.close()
    assert wait_until(lambda: not Holdings.now().beyond(before), 5.0)


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


@pytest.mark.parametrize("make", [Channel, lambda e: Listener([e], 1)], ids=["Channel", "Listener"])
def test_what_could_not_be_made_leaves_nothing(make: Callable[[str], object], nothing_left: None) -> None:
    with pytest.raises(TransportError):
        make("tcp://127.0.0.1:notaport")
