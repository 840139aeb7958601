"""Frames between sockets: one contract for every scheme."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from elephas_fast.transport import Channel, Listener, TransportError
from tests.server.echo import ENCRYPTED, KEY, LIMIT, SCHEMES, WAIT, Echo, ask, fresh, key_of
from tests.server.holdings import Holdings, is_listening, wait_until

SIZES = (0, 1, 100_000, 5_000_000)


@pytest.fixture(params=SCHEMES + ENCRYPTED)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def echo(scheme: str, nothing_left: None) -> Iterator[Echo]:
    with Echo(scheme) as server:
        yield server


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


def test_the_library_s_threads_end_with_the_last_socket() -> None:
    before = Holdings.now()
    channel = Channel("tcp://127.0.0.1:9")
    assert Holdings.now().beyond(before).keys() >= {"threads", "descriptors"}
    channel.close()
    assert wait_until(lambda: not Holdings.now().beyond(before), 5.0)


@pytest.mark.parametrize("make", [Channel, lambda e: Listener([e], 1)], ids=["Channel", "Listener"])
def test_what_could_not_be_made_leaves_nothing(make: Callable[[str], object], nothing_left: None) -> None:
    with pytest.raises(TransportError):
        make("tcp://127.0.0.1:notaport")
