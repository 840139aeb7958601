"""Metric states on the wire: small arrays of several dtypes in one frame."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from elephas_fast.wire import ProtocolError, pack_arrays, unpack_arrays
from elephas_fast.wire.arrays import MAX_ARRAYS

STATES = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(True), np.zeros((0, 4), np.int64)]


def framed(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else msgpack.packb(header)
    return struct.pack("<I", len(text)) + text + data


def test_golden_bytes() -> None:
    frame = bytes.fromhex("11000000 92 92 a5 696e743136 91 02 92 a4 626f6f6c 90 0100 feff 01")
    arrays = [np.array([1, -2], np.int16), np.array(True)]
    assert pack_arrays(arrays) == frame
    for given_frame in (frame, bytearray(frame), memoryview(frame)):
        back = unpack_arrays(given_frame)
        assert [a.dtype.name for a in back] == ["int16", "bool"]
        np.testing.assert_array_equal(back[0], arrays[0])
        assert back[1].shape == ()
        assert bool(back[1]) is True


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        hnp.arrays(
            hnp.scalar_dtypes().filter(lambda d: d.kind in "biuf" and d.itemsize <= 8),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        max_size=5,
    )
)
def test_arrays_come_back_as_new_writable_arrays(arrays: list[np.ndarray[Any, Any]]) -> None:
    back = unpack_arrays(pack_arrays(arrays))
    assert len(back) == len(arrays)
    for array, copy in zip(arrays, back, strict=True):
        assert copy.dtype == array.dtype.newbyteorder("=")
        assert copy.flags.writeable
        np.testing.assert_array_equal(copy, array, strict=array.dtype.isnative)


def test_arrays_that_are_not_contiguous_are_sent_by_value() -> None:
    whole = np.arange(12.0).reshape(3, 4)
    (back,) = unpack_arrays(pack_arrays([whole.T[::2]]))
    np.testing.assert_array_equal(back, whole.T[::2])


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([1j]), np.array([None]), np.array([0], "datetime64[s]"), np.zeros(1, "V4")]
)
def test_what_is_not_plain_numbers_is_not_packed(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ValueError, match="arrays: expected one of bool, uint8"):
        pack_arrays([array])


def test_the_number_of_arrays_is_bounded() -> None:
    one = np.zeros((), np.uint8)
    assert len(unpack_arrays(pack_arrays([one] * MAX_ARRAYS))) == MAX_ARRAYS
    with pytest.raises(ValueError, match="arrays: expected at most 4096, got 4097"):
        pack_arrays([one] * (MAX_ARRAYS + 1))


def test_a_frame_cut_anywhere_or_longer_by_a_byte_is_refused() -> None:
    frame = pack_arrays(STATES)
    for end in range(len(frame)):
        with pytest.raises(ProtocolError):
            unpack_arrays(frame[:end])
    with pytest.raises(ProtocolError, match="1 bytes too many"):
        unpack_arrays(frame + b"\x00")


HOSTILE: dict[str, bytes] = {
    "header claims 4 GiB": b"\xff\xff\xff\xff",
    "header claims one byte more": struct.pack("<I", 2) + b"\x90",
    "header is no msgpack": framed(b"\xc1"),
    "header is empty": framed(b""),
    "header has a second value": framed(b"\x90\x90"),
    "header is a map": framed({}),
    "header is nil": framed(None),
    "header is text": framed("bool"),
    "an entry is text": framed(["bool"]),
    "an entry is short": framed([["bool"]]),
    "an entry is long": framed([["bool", [], 0]]),
    "dtype is an object": framed([["object", []]]),
    "dtype is text": framed([["U9", []]]),
    "dtype is nil": framed([[None, []]]),
    "dtype is an array": framed([[["bool"], []]]),
    "shape is a number": framed([["bool", 1]], b"\x00"),
    "shape is negative": framed([["bool", [-1]]], b"\x00"),
    "shape is a float": framed([["bool", [1.0]]], b"\x00"),
    "shape is true": framed([["bool", [True]]], b"\x00"),
    "shape is 2**32": framed([["bool", [2**32]]]),
    "shape claims terabytes": framed([["float64", [2**32 - 1, 2**10]]]),
    "shape overflows 64 bits": framed([["float64", [2**31, 2**31, 2**31]]]),
    "shape of nothing, too big to index": framed([["float64", [0, 2**32 - 1, 2**32 - 1, 2**32 - 1]]]),
    "33 axes": framed([["bool", [1] * 33]], b"\x00"),
    "an extension": framed(b"\x91\xd4\x00\x00"),
    "4097 arrays": framed([["bool", [0]]] * 4097),
    "array claims 2**32-1 entries": framed(b"\xdd\xff\xff\xff\xff"),
    "a million deep": framed(b"\x91" * 200_000),
    "a byte missing": framed([["int16", [1]]], b"\x00"),
    "a byte too many": framed([["int16", [1]]], b"\x00\x00\x00"),
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_frames_are_refused_within_bounded_memory(frame: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="arrays: "):
            unpack_arrays(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(frame) + 200_000


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=100) | st.binary(max_size=40).map(framed))
def test_random_frames_give_arrays_or_a_protocol_error(frame: bytes) -> None:
    try:
        arrays = unpack_arrays(frame)
    except ProtocolError:
        return
    assert pack_arrays(arrays)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_one_flipped_byte_gives_arrays_or_a_protocol_error(data: st.DataObject) -> None:
    damaged = bytearray(pack_arrays(STATES))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        arrays = unpack_arrays(damaged)
    except ProtocolError:
        return
    assert sum(a.nbytes for a in arrays) <= len(damaged)
