"""Damaged and hostile messages from a seed: valid ones of every type, taken apart and put together wrong.

What is changed is now a field, now a byte of msgpack, now a frame. Nearly all are sealed again with the right checksum,
because what does not get past that says nothing about the code behind it.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from elephas_fast.wire.messages import MESSAGES, Message

_NUMBERS: Final = (
    0, 1, 2, 127, 128, 255, 256, 2**16, 2**31 - 1, 2**31, 2**31 + 1, 2**40, 2**48 + 1, 2**62, 2**63 - 1, 2**63,
    2**64 - 1,
    -1, -2, -128, -(2**31), -(2**63),
)  # fmt: skip
_FLOATS: Final = (0.0, -0.0, 1.0, -1.0, 1e-320, 3e38, 3.5e38, 1e308, math.inf, -math.inf, math.nan)
_WORDS: Final = (
    "", "train", "evaluate", "observe", "applied", "accepted", "done", "epoch", "progress", "tcp", "\x00", "é" * 9,
    "a" * 17,
    "a" * 257, "a" * 1025, "\N{PILE OF POO}",
)  # fmt: skip
_OTHERS: Final[tuple[Any, ...]] = (
    None, True, False, [], [0], [[]], [2**63], [True], [0] * 64, [0] * 65, [0] * 129, {}, {0: 0}, {"a": {}}, b"",
    b"k" * 64, b"k" * 65,
    b"\x80\x04.", msgpack.ExtType(1, b"abc"), msgpack.ExtType(127, b""), msgpack.Timestamp(1, 1),
)  # fmt: skip

# Pieces of msgpack that a packer never makes: lengths that are not there, nesting, types that do not exist.
_FRAGMENTS: Final = (
    b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xda\xff\xff", b"\xd9\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc5\xff\xff", b"\xc4\xff", b"\xdf\xff\xff\xff\xff", b"\xde\xff\xff", b"\xc9\xff\xff\xff\xff\x01",
    b"\xc8\xff\xff\x01", b"\xc7\xff\x01",
    b"\xd4\x01\x00", b"\xd6\xff\x00\x00\x00\x01", b"\xc7\x0c\xff" + bytes(12), b"\x91" * 40, b"\x91" * 2000,
    b"\x81\x00" * 600,
    b"\x82\xa1a\x01\xa1a\x02", b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01", b"\xca\x7f\x80\x00\x00",
    b"\x90", b"\x80", b"\xc0",
)  # fmt: skip


def seal(body: bytes, payload: Sequence[bytes | memoryview] = ()) -> bytes:
    """A header frame: ``body`` and the checksum that docs/PROTOCOL.md describes."""
    lengths = struct.pack(f"<{len(payload)}Q", *map(len, payload))
    return body + struct.pack("<I", zlib.crc32(lengths, zlib.crc32(body)))


class Mutator:
    """An endless source of messages' frames, the same for each seed. ``sizes``: of good messages' payload frames."""

    def __init__(self, seed: int, sizes: Sequence[int] = (0, 1, 4, 8, 400)) -> None:
        self.random = random.Random(seed)
        self._sizes = sizes
        self._pack = msgpack.Packer().pack  # packb takes 256 KiB each time, which AddressSanitizer makes slow
        self._kinds = list(MESSAGES.values())
        self._of_fields: tuple[Callable[[list[Any]], None], ...] = (
            self._replace, self._replace, self._replace, self._remove, self._double, self._insert, self._swap,
        )  # fmt: skip
        self._of_bytes: tuple[Callable[[bytearray], None], ...] = (
            self._flip, self._flip, self._overwrite, self._cut, self._lengthen, self._repeat, self._splice,
            self._splice,
            self._widen,
        )  # fmt: skip

    def value(self, kind: str, bounds: Any) -> Any:
        """A good value of a field, often at one end of its bounds."""
        pick = self.random.random
        if kind == "bool":
            return pick() < 0.5
        if kind == "int":
            least, most = bounds["least"], bounds["most"]
            return int((least, most, least + 1, min(most, least + int(pick() * 300)))[int(pick() * 4)])
        if kind == "float":
            least, most = bounds["least"], bounds["most"]
            return (max(least, -1.5), min(most, 2.5), 0.0, pick())[int(pick() * 4)]
        most = bounds["most"]
        length = min(most, int(pick() * 40))
        if kind == "str":
            word = self._one(_WORDS)
            return word if len(word) <= most else "x" * length
        return self.random.randbytes(length) if kind == "bytes" else (7,) * length

    def message(self) -> Message:
        """A good message of any type."""
        kind = self._kinds[int(self.random.random() * len(self._kinds))]
        return kind(**{f.name: self.value(str(f.type), f.metadata) for f in dataclasses.fields(kind)})

    def payload(self, most: int) -> list[bytes]:
        """Up to ``most`` payload frames."""
        pick = self.random.random
        return [bytes(self._sizes[int(pick() * len(self._sizes))]) for _ in range(int(pick() * (most + 1)))]

    def frames(self) -> list[bytes]:
        """A mutated message: its header frame and its payload."""
        message = self.message()
        values = [type(message).CODE, *message.__dict__.values()]
        return self.mutated(values, self.payload(type(message).PAYLOAD))

    def mutated(self, values: list[Any], payload: list[bytes]) -> list[bytes]:
        """The frames of a message with these values in its header, after one or more changes."""
        pick = self.random.random
        if pick() < 0.5:
            self._one(self._of_fields)(values)
        body = bytearray(self._pack(values))
        while pick() < 0.5:
            self.change_bytes(body)
        if pick() < 0.2:
            self.change_payload(payload)
        frames = [seal(bytes(body), payload), *payload]
        if pick() < 0.1:
            self._damage(frames)
        return frames

    def change_bytes(self, body: bytearray) -> None:
        """One change of some bytes of msgpack."""
        self._one(self._of_bytes)(body)

    def change_payload(self, payload: list[bytes]) -> None:
        """A frame too many, too few, too long, too short, or in another place."""
        pick = self.random.random()
        if pick < 0.3 or not payload:
            payload.insert(int(self.random.random() * (len(payload) + 1)), bytes(int(self.random.random() * 40)))
        elif pick < 0.5:
            payload.pop()
        elif pick < 0.7:
            payload[-1] = payload[-1][: int(self.random.random() * len(payload[-1]))]
        elif pick < 0.9:
            payload[0] += self.random.randbytes(1 + int(self.random.random() * 9))
        else:
            payload.reverse()

    def _damage(self, frames: list[bytes]) -> None:
        """What happens on the way, after the checksum has been made."""
        pick = self.random.random()
        if pick < 0.3 and frames[0]:
            header = bytearray(frames[0])
            self._flip(header)
            frames[0] = bytes(header)
        elif pick < 0.5:
            frames[0] = frames[0][: int(self.random.random() * len(frames[0]))]
        elif pick < 0.7:
            self.random.shuffle(frames)
        elif pick < 0.85:
            frames.pop(int(self.random.random() * len(frames)))
        else:
            frames.append(self.random.randbytes(int(self.random.random() * 30)))

    def _one(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.random.random() * len(choices))]

    def anything(self) -> Any:
        """A value that some field may not like."""
        value = self._one(self._one((_NUMBERS, _FLOATS, _WORDS, _OTHERS)))
        return copy.deepcopy(value) if isinstance(value, list | dict) else value

    def _replace(self, values: list[Any]) -> None:
        values[int(self.random.random() * len(values))] = self.anything()

    def _remove(self, values: list[Any]) -> None:
        del values[int(self.random.random() * len(values))]

    def _double(self, values: list[Any]) -> None:
        at = int(self.random.random() * len(values))
        values.insert(at, values[at])

    def _insert(self, values: list[Any]) -> None:
        values.insert(int(self.random.random() * (len(values) + 1)), self.anything())

    def _swap(self, values: list[Any]) -> None:
        a, b = int(self.random.random() * len(values)), int(self.random.random() * len(values))
        values[a], values[b] = values[b], values[a]

    def _flip(self, body: bytearray) -> None:
        if body:
            body[int(self.random.random() * len(body))] ^= 1 << int(self.random.random() * 8)

    def _overwrite(self, body: bytearray) -> None:
        if body:
            body[int(self.random.random() * len(body))] = int(self.random.random() * 256)

    def _cut(self, body: bytearray) -> None:
        del body[int(self.random.random() * (len(body) + 1)) :]

    def _lengthen(self, body: bytearray) -> None:
        body += self.random.randbytes(1 + int(self.random.random() * 8))

    def _repeat(self, body: bytearray) -> None:
        begin = int(self.random.random() * (len(body) + 1))
        body[begin:begin] = body[begin : begin + 1 + int(self.random.random() * 8)]

    def _splice(self, body: bytearray) -> None:
        """A fragment in place of some bytes, mostly of one field's."""
        begin = int(self.random.random() * (len(body) + 1))
        body[begin : begin + int(self.random.random() * 3)] = self._one(_FRAGMENTS)

    def _widen(self, body: bytearray) -> None:
        """The array's length says something else, in one of the three ways to say it."""
        count = int(self.random.random() * 20)
        forms = (bytes([0x90 | count & 15]), struct.pack(">BH", 0xDC, count), struct.pack(">BI", 0xDD, count))
        body[0:1] = self._one(forms)
