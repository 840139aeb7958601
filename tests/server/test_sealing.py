"""Encrypted messages without a socket: what is read, and all that is not."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from elephas_fast.transport import sealing
from elephas_fast.transport.sealing import CHUNK, MAX_HEAD, ClientSeal, ServerSeal

KEY = bytes(range(32))
LIMIT = 8 * CHUNK


def on_the_wire(frames: list) -> list[memoryview]:
    return [memoryview(bytes(frame)) for frame in frames]


def said(client: ClientSeal, *frames: bytes) -> list[memoryview]:
    return on_the_wire(client.seal(frames))


def heard(server: ServerSeal, wire: list[memoryview]) -> list[bytes] | None:
    """The frames of a message; ``None`` where it cannot be read or has been heard."""
    found = server.open(wire)
    return None if found is None or found[1] is None else [bytes(frame) for frame in found[1]]


def answered(server: ServerSeal, wire: list[memoryview], *frames: bytes) -> list[memoryview]:
    found = server.open(wire)
    assert found is not None
    return on_the_wire(server.seal(found[0], frames))


def met() -> tuple[ClientSeal, ServerSeal]:
    """A pair that has spoken with each other."""
    client, server = ClientSeal(KEY), ServerSeal(KEY, LIMIT)
    assert client.open(answered(server, said(client, b"hello"), b"welcome")) == [b"welcome"]
    return client, server


@pytest.mark.parametrize("first", [True, False], ids=["before it has met the listener", "later"])
def test_what_is_said_is_heard_in_both_directions(first: bool) -> None:
    client, server = (ClientSeal(KEY), ServerSeal(KEY, LIMIT)) if first else met()
    rng = np.random.default_rng(0)
    for sizes in ((0,), (1,), (5, 0, 7), (CHUNK - 1, CHUNK, CHUNK + 1), (3 * CHUNK + 5, 2), (100,) * 20):
        frames = [rng.bytes(size) for size in sizes]
        wire = said(client, *frames)
        assert not any(frame in chunk.obj for frame in frames if len(frame) > 4 for chunk in wire)  # type: ignore[operator]
        assert max(map(len, wire[1:])) <= CHUNK + 16
        found = server.open(wire)
        assert found is not None
        assert found[1] is not None
        assert [bytes(frame) for frame in found[1]] == frames
        back = client.open(on_the_wire(server.seal(found[0], frames)))
        assert back is not None
        assert [bytes(frame) for frame in back] == frames


def test_a_changed_bit_makes_a_message_unreadable() -> None:
    client, server = met()
    reply = answered(server, said(client, b"?"), b"an answer")
    wire = said(client, b"a push", b"of numbers")
    for place, frame in enumerate(wire):
        for bit in range(8 * len(frame)):
            assert server.open(changed(wire, place, bit)) is None
    for place, frame in enumerate(reply):
        for bit in range(8 * len(frame)):
            assert client.open(changed(reply, place, bit)) is None
            assert not client.meets_another(changed(reply, place, bit))
    assert heard(server, wire) == [b"a push", b"of numbers"]
    assert client.open(reply) == [b"an answer"]


def changed(wire: list[memoryview], place: int, bit: int) -> list[memoryview]:
    frame = bytearray(wire[place])
    frame[bit // 8] ^= 1 << bit % 8
    return [*wire[:place], memoryview(frame), *wire[place + 1 :]]


def test_parts_that_are_left_out_doubled_moved_or_of_another_message_are_not_read() -> None:
    client, server = met()
    head, *chunks = said(client, bytes(CHUNK), bytes(CHUNK), b"end")
    other = said(client, bytes(CHUNK), bytes(CHUNK), b"end")
    for wire in (
        [], [head], [head, *chunks[:-1]], [head, *chunks[1:]], [head, *chunks, chunks[-1]],
        [head, chunks[1], chunks[0], chunks[2]], [head, chunks[0], chunks[0], chunks[2]],
        [other[0], *chunks], [head, other[1], *chunks[1:]],
    ):  # fmt: skip
        assert server.open(wire) is None
    assert heard(server, [head, *chunks]) == [bytes(CHUNK), bytes(CHUNK), b"end"]


@pytest.mark.parametrize("first", [True, False], ids=["the first message", "a later one"])
def test_what_is_said_again_is_not_heard(first: bool) -> None:
    client, server = (ClientSeal(KEY), ServerSeal(KEY, LIMIT)) if first else met()
    one, two = said(client, b"one"), said(client, b"two")
    assert heard(server, two) == [b"two"]
    for wire in (one, two):
        found = server.open(wire)
        assert found is not None
        assert found[1] is None
    replies = [answered(server, said(client, b"?"), b"%d" % number) for number in range(2)]
    assert client.open(replies[1]) == [b"1"]
    assert client.open(replies[1]) is None
    assert client.open(replies[0]) is None
    assert client.open(said(client, b"my own words")) is None


def test_only_the_key_opens() -> None:
    client, server = met()
    strange, stranger = ClientSeal(KEY[:-1] + b"x"), ServerSeal(KEY[:-1] + b"x", LIMIT)
    assert server.open(said(strange, b"let me in")) is None
    assert stranger.open(said(client, b"who are you")) is None
    assert stranger.open(said(ClientSeal(KEY), b"hello")) is None
    found = stranger.open(said(strange, b"hello"))
    assert found is not None
    assert client.open(on_the_wire(stranger.seal(found[0], [b"trust me"]))) is None


def test_a_listener_that_follows_another_is_understood() -> None:
    client, first = met()
    lost = said(client, b"a push")
    second = ServerSeal(KEY, LIMIT)
    assert second.open(lost) is None
    old = answered(first, lost, b"an answer of the first")
    assert client.meets_another(on_the_wire([second.unreadable]))
    assert not client.meets_another(on_the_wire([second.unreadable])), "the same one"
    assert heard(second, said(client, b"a push")) == [b"a push"]
    assert client.open(answered(second, said(client, b"?"), b"an answer")) == [b"an answer"]
    assert second.open(lost) is None, "what was recorded is of no use"
    assert client.open(old) == [b"an answer of the first"], "late, but not a lie"
    assert client.open(old) is None


def test_a_channel_that_was_forgotten_is_never_answered_under_an_old_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_REMEMBERED", 1)
    server, clients = ServerSeal(KEY, LIMIT), [ClientSeal(KEY), ClientSeal(KEY)]
    numbers: dict[int, list[bytes]] = {0: [], 1: []}
    for turn in range(6):
        wire = answered(server, said(clients[turn % 2], b"?"), b"%d" % turn)
        numbers[turn % 2].append(bytes(wire[0][33:41]))
        assert clients[turn % 2].open(wire) == [b"%d" % turn]
    assert [len(set(used)) for used in numbers.values()] == [3, 3]


def test_a_false_word_of_another_listener_does_no_lasting_harm() -> None:
    client, server = met()
    recorded = answered(server, said(client, b"?"), b"yes")
    assert client.open(recorded) == [b"yes"]
    for false in (ServerSeal(KEY[:-1] + b"x", LIMIT).unreadable, b"\3" + bytes(32), b"\3short"):
        client.meets_another(on_the_wire([false]))
        assert client.open(recorded) is None
    wire = said(client, b"a push")
    assert server.open(wire) is None
    assert client.meets_another(on_the_wire([server.unreadable]))
    assert heard(server, said(client, b"a push")) == [b"a push"]
    assert client.open(recorded) is None


def test_no_head_is_trusted() -> None:
    client, server = met()
    head, chunk = said(client, b"four")
    start = bytes(head[:41])
    for lengths in ((), (2**63,), (2**63, 2**63), (0,), (5,), (4, 0), (4,) * 58):
        forged = memoryview(start + struct.pack(f"<{len(lengths)}Q", *lengths))
        assert server.open([forged, chunk]) is None
    for forged in (b"", start[:-1], start + bytes(7), start + bytes(MAX_HEAD), b"\0" * 49, b"\1" + bytes(48)):
        assert server.open([memoryview(forged), chunk]) is None
    small = ServerSeal(KEY, 10)
    assert small.open(said(ClientSeal(KEY), bytes(6), bytes(5))) is None
    assert heard(small, said(ClientSeal(KEY), bytes(6), bytes(4))) == [bytes(6), bytes(4)]
    with pytest.raises(ValueError, match="frames: expected 1 to 58, got 0"):
        client.seal([])
    with pytest.raises(ValueError, match="frames: expected 1 to 58, got 59"):
        client.seal([b"x"] * 59)
