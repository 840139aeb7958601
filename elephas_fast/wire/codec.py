"""Messages to frames and back. No I/O, no Spark, no Keras; nothing here allocates more than the frames it is given.

``[header, payload, ...]``: the header is one msgpack array ``[code, field, ...]`` with the fields in the order of the
message's declaration, and a checksum of it and of the lengths of the payload frames. Those are raw bytes and are
neither copied nor looked into.
"""

from __future__ import annotations

import math
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, Final

import msgpack

from elephas_fast.wire.messages import MAX_LAYOUT, MAX_TEXT, MESSAGES, Message

MAX_HEADER: Final = MAX_LAYOUT + 2**17
_CHECKSUM: Final = struct.Struct("<I")
_MOST_PAYLOAD: Final = max(kind.PAYLOAD for kind in MESSAGES.values())
_LENGTHS: Final = [struct.Struct(f"<{count}Q") for count in range(_MOST_PAYLOAD + 1)]
Frame = bytes | bytearray | memoryview


class _Local(threading.local):
    """A packer of each thread's own: a new one takes a quarter of a MiB for every message."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer().pack


_local: Final = _Local()


class ProtocolError(ValueError):
    """A peer sent what this protocol does not allow; the message says what was expected and what came."""


def encode(message: Message, payload: Sequence[Frame] = (), *, request: int | None = None) -> list[Frame]:
    """The frames of a message. ``payload`` is passed on as it is (the caller keeps it unchanged until it is sent).

    ``request`` replaces the message's own number. Raises ``ValueError`` where a field is out of its bounds: that is a
    mistake on this side.
    """
    kind = type(message)
    if len(payload) > kind.PAYLOAD:
        raise ValueError(f"{kind.__name__}: expected at most {kind.PAYLOAD} payload frames, got {len(payload)}")
    plan = _plan(kind.CODE)
    values = plan.values_of(message)
    if request is not None:
        values = (values[0], request, *values[2:])
    problem = plan.problem(values)
    if problem:
        raise ValueError(problem)
    body = _local.pack(values)
    return [body + _CHECKSUM.pack(_checksum(body, payload)), *payload]


def _checksum(body: Frame, payload: Sequence[Frame]) -> int:
    """CRC-32 of a header's array and of the lengths of the frames that follow it, 64 bits each."""
    if not payload:
        return zlib.crc32(body)
    return zlib.crc32(_LENGTHS[len(payload)].pack(*map(len, payload)), zlib.crc32(body))


def decode(frames: Sequence[Frame]) -> tuple[Message, list[Frame]]:
    """The message in ``frames`` and its payload frames (the same objects, not copied).

    Raises ``ProtocolError``, and nothing else, for anything that is not a message of this protocol.
    """
    if not frames:
        raise ProtocolError("expected a header frame, got no frame")
    header = frames[0]
    if len(header) > MAX_HEADER:
        raise ProtocolError(f"header: expected at most {MAX_HEADER} bytes, got {len(header)}")
    payload = list(frames[1:])
    if len(payload) > _MOST_PAYLOAD:
        raise ProtocolError(f"expected at most {_MOST_PAYLOAD} payload frames, got {len(payload)}")
    end = len(header) - _CHECKSUM.size
    body = memoryview(header)[:end]
    if end <= 0 or _CHECKSUM.unpack_from(header, end)[0] != _checksum(body, payload):
        raise ProtocolError(
            "header: expected a checksum of it and of the lengths of what follows, got another: it was damaged on its "
            "way, or comes from another version of this protocol"
        )
    try:
        values = msgpack.unpackb(
            body,
            use_list=False,
            max_str_len=MAX_LAYOUT,
            max_bin_len=MAX_TEXT,
            max_array_len=128,
            max_map_len=0,
            max_ext_len=0,
        )
    except Exception as error:  # msgpack raises its own types, ValueError, UnicodeDecodeError and RecursionError here
        raise ProtocolError(f"header: expected msgpack within its bounds, got {type(error).__name__}") from None
    if not isinstance(values, tuple) or not values or type(values[0]) is not int:
        raise ProtocolError("header: expected an array that begins with a message code")
    kind = MESSAGES.get(values[0])
    if kind is None:
        raise ProtocolError(f"header: expected a known message code, got {values[0]}")
    plan = _plan(kind.CODE)
    if len(values) != 1 + len(plan.names):
        raise ProtocolError(f"{kind.__name__}: expected {len(plan.names)} fields, got {len(values) - 1}")
    if len(payload) > kind.PAYLOAD:
        raise ProtocolError(f"{kind.__name__}: expected at most {kind.PAYLOAD} payload frames, got {len(payload)}")
    problem = plan.problem(values)
    if problem:
        raise ProtocolError(problem)
    message = kind.__new__(kind)  # every field is checked and set: what a frozen dataclass sets one by one
    message.__dict__.update(zip(plan.names, values[1:], strict=True))
    return message, payload


class _Plan:
    """How the array of one kind of message, its code and its fields, is made and checked.

    Nearly every message is good: types and bounds are compared first, and only where that fails the checks that say
    in words what is wrong.
    """

    def __init__(self, kind: type[Message]) -> None:
        declared = fields(kind)
        self.names = tuple(f.name for f in declared)
        self.values_of: Callable[[Message], tuple[Any, ...]] = attrgetter("CODE", *self.names)
        self._kind = kind.__name__
        self._checks = [_CHECKERS[str(f.type)](f.metadata) for f in declared]
        self._types = (int, *(_TYPES[str(f.type)] for f in declared))
        numbers = [(i, f.metadata) for i, f in enumerate(declared, 1) if str(f.type) in ("int", "float")]
        self._bounds = [(i, bounds["least"], bounds["most"]) for i, bounds in numbers]
        self._sizes = [(i, f.metadata["most"]) for i, f in enumerate(declared, 1) if str(f.type) in ("str", "bytes")]
        self._needs_words = tuple in self._types

    def problem(self, values: tuple[Any, ...]) -> str:
        """What is wrong with the values, naming the field; empty if nothing is."""
        if not self._needs_words and tuple(map(type, values)) == self._types:
            for index, least, most in self._bounds:
                if not least <= values[index] <= most:
                    return self._in_words(values)
            for index, most in self._sizes:
                if len(values[index]) > most:
                    return self._in_words(values)
            return ""
        return self._in_words(values)

    def _in_words(self, values: tuple[Any, ...]) -> str:
        for name, check, value in zip(self.names, self._checks, values[1:], strict=True):
            problem = check(value)
            if problem:
                return f"{self._kind}.{name}: {problem}"
        return ""


@cache
def _plan(code: int) -> _Plan:
    return _Plan(MESSAGES[code])


def _number(expected: type[int] | type[float]) -> Any:
    def make(bounds: Any) -> Any:
        least, most, nan_allowed = bounds["least"], bounds["most"], bounds["nan"]

        def check(value: Any) -> str:
            given: Any = type(value)
            if given is not expected:
                return f"expected {expected.__name__}, got {given.__name__}"
            if nan_allowed and math.isnan(value):
                return ""
            return "" if least <= value <= most else f"expected {least} to {most}, got {value}"

        return check

    return make


def _bytes(expected: type) -> Any:
    def make(bounds: Any) -> Any:
        most = bounds["most"]

        def check(value: Any) -> str:
            given: Any = type(value)
            if given is not expected:
                return f"expected {expected.__name__}, got {given.__name__}"
            return "" if len(value) <= most else f"expected at most {most} bytes, got {len(value)}"

        return check

    return make


def _flag(_: Any) -> Any:
    return lambda value: "" if type(value) is bool else f"expected bool, got {type(value).__name__}"


def _counts(bounds: Any) -> Any:
    most = bounds["most"]

    def check(value: Any) -> str:
        if type(value) is not tuple or len(value) > most:
            return f"expected an array of at most {most} counts"
        return "" if all(type(v) is int and 0 <= v < 2**63 for v in value) else "expected counts from 0 to 2**63 - 1"

    return check


_CHECKERS: Final = {
    "int": _number(int),
    "float": _number(float),
    "str": _bytes(str),
    "bytes": _bytes(bytes),
    "bool": _flag,
    "tuple[int, ...]": _counts,
}

_TYPES: Final[dict[str, type]] = {
    "int": int, "float": float, "str": str, "bytes": bytes, "bool": bool, "tuple[int, ...]": tuple,
}  # fmt: skip
