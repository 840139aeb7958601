"""The wire format: golden bytes for both directions, and nothing but ``ProtocolError`` for what is not of it."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elephas_fast.wire import (
    Ack,
    Close,
    Error,
    Fetch,
    Fetched,
    Frame,
    Goodbye,
    Hello,
    Message,
    Observe,
    Observed,
    Part,
    ProtocolError,
    Pull,
    Push,
    Report,
    Steer,
    TrialAnswer,
    TrialBegin,
    TrialReport,
    Wait,
    Weights,
    Welcome,
    decode,
    encode,
)
from elephas_fast.wire.codec import MAX_HEADER
from elephas_fast.wire.messages import MAX_LAYOUT, MAX_TEXT, MESSAGES
from tests.faults.damage import seal

HELLO = Hello(request=1, protocol=3, key=b"kkkk", partition=-1, attempt=0, rounds=1, outbox=True)
PUSH = Push(request=2, generation=1, clock=1, base_version=0, rows=32, outbox=False)
ACK = Ack(request=2, status="applied", clock=1, version=1)
OBSERVED = Observed(request=6, seen=129, more=True, version=65536, faults=(0, 1, 255, 256))
REPORT = Report(
    request=5, kind="done", partition=0, attempt=1, epoch=2, rows=3, validation_rows=4, rounds=5, staleness=6,
    seconds=1.5, loss=-math.inf, host="h", transport="tcp",
)  # fmt: skip

# Written by hand from the MessagePack specification: 9x array, cc/cd/ce/cf uint 8 to 64, ax text, c4 bytes, cb float64,
# c2 false, c3 true, ff -1. The checksum that ends a header is not written out.
GOLDEN: list[tuple[Message, str]] = [
    (HELLO, "9b 01 01 03 c4 04 6b6b6b6b ff 00 01 c3 ff 00 ff"),
    (
        Hello(request=300, protocol=3, key=b"", partition=7, attempt=2**40, rounds=70000, outbox=False),
        "9b 01 cd012c 03 c400 07 cf0000010000000000 ce00011170 c2 ff 00 ff",
    ),
    (
        Welcome(
            request=1, line=3, generation=2, clock=5, version=9, outbox=-1,
            fingerprint="ffff", layout="{}", settings="{}",
        ),
        "9a 02 01 03 02 05 09 ff a466666666 a27b7d a27b7d",
    ),
    (PUSH, "99 03 02 01 01 00 20 c2 c2 c2"),
    (
        Push(request=2, generation=1, clock=2**63 - 1, base_version=0, rows=0, outbox=True, opaque=True, pull=True),
        "99 03 02 01 cf7fffffffffffffff 00 00 c3 c3 c3",
    ),
    (ACK, "95 04 02 a7 6170706c696564 01 01"),
    (Pull(request=3, purpose="train", clock=4, weights=True), "95 05 03 a5 747261696e 04 c3"),
    (
        Weights(request=3, version=6, stop=False, learning_rate=0.5, server_learning_rate=0.0),
        "9a 06 03 06 c2 cb3fe0000000000000 cb0000000000000000 a0 00 00 c2",
    ),
    (
        Weights(
            request=3, version=6, stop=True, learning_rate=0.0, server_learning_rate=0.0, status="applied", clock=4,
            pushed=5, in_parts=True,
        ),
        "9a 06 03 06 c3 cb0000000000000000 cb0000000000000000 a7 6170706c696564 04 05 c3",
    ),
    (Wait(request=4, reason="why"), "93 07 04 a3 776879"),
    (
        REPORT,
        "9e 08 05 a4646f6e65 00 01 02 03 04 05 06 cb3ff8000000000000 cbfff0000000000000 a168 a3746370",
    ),
    (Observe(request=6, seen=128), "93 09 06 cc80"),
    (OBSERVED, "96 0a 06 cc81 c3 ce00010000 94 00 01 ccff cd0100"),
    (
        Steer(request=7, released=2**62, stop_at=0, learning_rate=0.0, server_learning_rate=1.0),
        "96 0b 07 cf4000000000000000 00 cb0000000000000000 cb3ff0000000000000",
    ),
    (Close(request=8), "92 0c 08"),
    (Goodbye(request=9), "92 0d 09"),
    (Error(request=10, code="key", text="é"), "94 0e 0a a36b6579 a2c3a9"),
    (Part(request=3, offset=262144), "93 0f 03 ce00040000"),
    (TrialBegin(request=1, key=b"kk", trial=3, attempt=7, worker="h:1"), "96 10 01 c402 6b6b 03 07 a3 683a31"),
    (
        TrialReport(request=2, key=b"", trial=0, attempt=0, epoch=4, loss=-1.5),
        "97 11 02 c400 00 00 04 cbbff8000000000000",
    ),
    (TrialAnswer(request=2, stop=True), "93 12 02 c3"),
    (Fetch(request=1, key=b"k"), "93 13 01 c4016b"),
    (Fetched(request=1), "92 14 01"),
]  # fmt: skip
IDS = [f"{type(message).__name__}-{index}" for index, (message, _) in enumerate(GOLDEN)]


def by_hand(body: bytes, *lengths: int) -> bytes:
    """A header with its checksum: CRC-32 of the array and the frames' lengths, bit by bit (IEEE 802.3)."""
    remainder = 0xFFFFFFFF
    for byte in body + b"".join(length.to_bytes(8, "little") for length in lengths):
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0xEDB88320 if remainder & 1 else 0)
    return body + (remainder ^ 0xFFFFFFFF).to_bytes(4, "little")


@pytest.mark.parametrize(("message", "text"), GOLDEN, ids=IDS)
def test_golden_bytes(message: Message, text: str) -> None:
    header = by_hand(bytes.fromhex(text))
    assert encode(message) == [header]
    for frame in (header, bytearray(header), memoryview(header)):
        assert decode([frame]) == (message, [])


def test_every_message_has_golden_bytes() -> None:
    assert {type(message) for message, _ in GOLDEN} == set(MESSAGES.values())
    assert sorted(MESSAGES) == list(range(1, len(MESSAGES) + 1))


@pytest.mark.parametrize(("message", "text"), GOLDEN, ids=IDS)
def test_a_header_cut_anywhere_or_longer_by_anything_is_refused(message: Message, text: str) -> None:
    body = bytes.fromhex(text)
    for end in range(len(body)):
        with pytest.raises(ProtocolError):
            decode([seal(body[:end])])
    for extra in (b"\x00", b"\xc0", body):
        with pytest.raises(ProtocolError):
            decode([seal(body + extra)])


@pytest.mark.parametrize("lengths", [(), (0,), (4,), (4, 0), (3, 9)])
def test_the_checksum_covers_the_lengths_of_the_frames(lengths: tuple[int, ...]) -> None:
    payload: list[Frame] = [bytes(length) for length in lengths]
    header = encode(PUSH, payload)[0]
    assert header == by_hand(bytes.fromhex("99 03 02 01 01 00 20 c2 c2 c2"), *lengths)
    for wrong in ([], [b""], [b"", b""], [bytes(4)], [bytes(3), bytes(8)], [bytes(9), bytes(3)]):
        if [len(frame) for frame in wrong] != list(lengths):
            with pytest.raises(ProtocolError, match="header: expected a checksum"):
                decode([header, *wrong])


def test_payload_frames_are_passed_through_as_they_are() -> None:
    payload: list[Frame] = [memoryview(bytearray(8)), b""]
    frames = encode(PUSH, payload)
    assert frames[1] is payload[0]
    _, back = decode(frames)
    assert back[0] is payload[0]
    assert back[1] is payload[1]


@pytest.mark.parametrize("message", [message for message, _ in GOLDEN], ids=IDS)
def test_more_payload_than_the_message_has_is_refused(message: Message) -> None:
    most = type(message).PAYLOAD
    decode(encode(message, [b""] * most))
    with pytest.raises(ProtocolError, match=f"expected at most {most} payload frames, got {most + 1}"):
        decode([seal(bytes(encode(message)[0])[:-4], [b""] * (most + 1)), *[b""] * (most + 1)])
    with pytest.raises(ValueError, match=f"expected at most {most} payload frames"):
        encode(message, [b""] * (most + 1))


def field_values(kind: type[Message], name: str, metadata: Any) -> st.SearchStrategy[Any]:
    of = str(next(f.type for f in dataclasses.fields(kind) if f.name == name))
    if of == "bool":
        return st.booleans()
    if of == "int":
        return st.integers(metadata["least"], metadata["most"])
    if of == "float":
        return st.floats(metadata["least"], metadata["most"], allow_nan=False)
    most = min(metadata["most"], 64)
    if of == "str":
        return st.text(st.characters(codec="utf-8"), max_size=min(most, 16))
    if of == "bytes":
        return st.binary(max_size=most)
    return st.lists(st.integers(0, 2**63 - 1), max_size=most).map(tuple)


messages = st.sampled_from(list(MESSAGES.values())).flatmap(
    lambda kind: st.builds(kind, **{f.name: field_values(kind, f.name, f.metadata) for f in dataclasses.fields(kind)})
)


@settings(max_examples=200, deadline=None)
@given(messages)
def test_every_message_comes_back_equal(message: Message) -> None:
    assert decode(encode(message)) == (message, [])


def test_a_loss_that_is_not_a_number_comes_back() -> None:
    back, _ = decode(encode(dataclasses.replace(REPORT, loss=math.nan)))
    assert isinstance(back, Report)
    assert math.isnan(back.loss)


BAD_FIELDS: list[tuple[Message, str, Any]] = [
    (HELLO, "request", -1),
    (HELLO, "request", 2**63),
    (HELLO, "request", "1"),
    (HELLO, "request", 1.0),
    (HELLO, "request", True),
    (HELLO, "request", None),
    (HELLO, "protocol", 2**16 + 1),
    (HELLO, "key", "kkkk"),
    (HELLO, "key", b"k" * 65),
    (HELLO, "partition", -2),
    (HELLO, "partition", 2**31 + 1),
    (HELLO, "rounds", 2**40 + 1),
    (HELLO, "outbox", 1),
    (HELLO, "outbox", None),
    (PUSH, "clock", 0),
    (PUSH, "clock", 2**64 - 1),
    (PUSH, "rows", -1),
    (PUSH, "rows", 32.0),
    (PUSH, "opaque", 0),
    (ACK, "status", b"applied"),
    (ACK, "status", "a" * 17),
    (ACK, "status", ["applied"]),
    (OBSERVED, "faults", (0,) * 65),
    (OBSERVED, "faults", (0, -1)),
    (OBSERVED, "faults", (0, 2**63)),
    (OBSERVED, "faults", (0, 1.0)),
    (OBSERVED, "faults", (True,)),
    (OBSERVED, "faults", ((0,),)),
    (OBSERVED, "faults", 0),
    (REPORT, "seconds", -1.0),
    (REPORT, "seconds", math.nan),
    (REPORT, "seconds", math.inf),
    (REPORT, "seconds", 1),
    (REPORT, "loss", 1),
    (REPORT, "host", "h" * 257),
    (Steer(released=1, stop_at=1, learning_rate=0.0, server_learning_rate=0.0), "learning_rate", math.nan),
    (Wait(reason=""), "reason", "a" * (MAX_TEXT + 1)),
]


@pytest.mark.parametrize(("message", "name", "value"), BAD_FIELDS)
def test_a_field_out_of_its_bounds_is_refused_on_both_sides(message: Message, name: str, value: Any) -> None:
    kind = type(message)
    wrong = dataclasses.replace(message, **{name: value})
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.{name}: expected") as ours:
        encode(wrong)
    assert not isinstance(ours.value, ProtocolError)
    values = [kind.CODE, *(getattr(wrong, f.name) for f in dataclasses.fields(kind))]
    with pytest.raises(ProtocolError, match=rf"{kind.__name__}\.{name}: expected"):
        decode([seal(msgpack.packb(values))])


def packed(*values: Any) -> bytes:
    data: bytes = msgpack.packb(values)
    return data


HOSTILE: dict[str, list[bytes]] = {
    "no frame": [],
    "empty header": [b""],
    "nil": [b"\xc0"],
    "never used byte": [b"\xc1"],
    "a number": [b"\x01"],
    "text": [b"\xa3abc"],
    "bytes": [b"\xc4\x01\x01"],
    "a map": [b"\x81\x01\x02"],
    "an empty map": [b"\x80"],
    "a map in a field": [b"\x92\x0c\x81\x01\x02"],
    "an empty map in a field": [b"\x92\x0c\x80"],
    "an empty array": [b"\x90"],
    "code 0": [packed(0, 1)],
    "unknown code": [packed(99, 1)],
    "negative code": [packed(-1, 1)],
    "huge code": [packed(2**64 - 1, 1)],
    "code is text": [packed("12", 1)],
    "code is true": [packed(True, 1)],
    "code is a float": [packed(12.0, 1)],
    "code is nil": [packed(None, 1)],
    "code is an array": [packed((12,), 1)],
    "a field is missing": [packed(12)],
    "a field too many": [packed(12, 1, 1)],
    "fields of another message": [packed(3, 1, "applied", 1, 1)],
    "127 fields too many": [packed(12, *range(127))],
    "128 fields too many": [packed(12, *range(128))],
    "extension 0": [b"\x92\x0c\xd4\x00\x00"],
    "extension of nothing": [b"\x92\x0c\xc7\x00\x05"],
    "timestamp 32": [b"\x92\x0c\xd6\xff\x00\x00\x00\x01"],
    "timestamp 96": [b"\x92\x0c\xc7\x0c\xff" + bytes(12)],
    "extension claims 4 GiB": [b"\x92\x0c\xc9\xff\xff\xff\xff\x00"],
    "array claims 2**32-1 elements": [b"\xdd\xff\xff\xff\xff\x0c\x01"],
    "array claims 65535 elements": [b"\xdc\xff\xff\x0c\x01"],
    "text claims 4 GiB": [b"\x92\x0c\xdb\xff\xff\xff\xff"],
    "bytes claim 4 GiB": [b"\x92\x0c\xc6\xff\xff\xff\xff"],
    "map claims 2**32-1 entries": [b"\x92\x0c\xdf\xff\xff\xff\xff"],
    "bytes over their bound": [packed(12, b"x" * (MAX_TEXT + 1))],
    "text over its bound": [packed(12, "x" * (MAX_LAYOUT + 1))],
    "header over its bound": [b"\x00" * (MAX_HEADER + 1)],
    "text that is not UTF-8": [b"\x93\x07\x01\xa1\xff"],
    "text that is a lone surrogate": [b"\x93\x07\x01\xa3\xed\xa0\x80"],
    "arrays 100 deep": [b"\x92\x0c" + b"\x91" * 100 + b"\x00"],
    "arrays a million deep": [b"\x91" * 1_000_000],
    "arrays a million deep, closed": [b"\x91" * 1_000_000 + b"\x00"],
    "maps a million deep": [b"\x81\x00" * 1_000_000],
    "an HTTP request": [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    "a pickle": [b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94."],
    "JSON": [b'{"request": 1}'],
    "a payload alone": [bytes(4096)],
}  # fmt: skip


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("frames", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_headers_are_refused_within_bounded_memory(frames: list[bytes], sealed: bool) -> None:
    if sealed and frames:
        frames = [seal(frames[0]), *frames[1:]]
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError) as raised:
            decode(frames)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(raised.value)) < 500
    assert peak < 16 * sum(map(len, frames)) + 200_000


def test_there_are_enough_hostile_cases() -> None:
    assert len(HOSTILE) + len(BAD_FIELDS) >= 60


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=4))
@example([b"\x92\x0c\x00", b""])
def test_random_frames_give_a_message_or_a_protocol_error(frames: list[bytes]) -> None:
    if frames:
        frames = [seal(frames[0], frames[1:]), *frames[1:]]
    try:
        message, payload = decode(frames)
    except ProtocolError:
        return
    assert decode(encode(message, payload)) == (message, payload)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 9), inner, max_size=2),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(MESSAGES)), st.lists(anything, max_size=15))
def test_random_fields_give_a_message_or_a_protocol_error(code: int, values: list[Any]) -> None:
    try:
        text = msgpack.packb([code, *values])
    except ValueError:  # a lone surrogate
        return
    try:
        message, _ = decode([seal(text)])
    except ProtocolError:
        return
    assert MESSAGES[code] is type(message)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([bytes.fromhex(text) for _, text in GOLDEN]), st.data())
def test_one_flipped_byte_gives_a_message_or_a_protocol_error(header: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(header) - 1))
    damaged = bytearray(header)
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        message, _ = decode([seal(bytes(damaged))])
    except ProtocolError:
        return
    encode(message)
