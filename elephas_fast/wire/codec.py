"""Messages to frames and back. No I/O, no Spark, no Keras; nothing here allocates more than the frames it is given.

``[header, payload, ...]``: the header is one msgpack array ``[code, field, ...]`` with the fields in the order of the
message's declaration; payload frames are raw bytes and are neither copied nor looked into.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Final

import msgpack

from elephas_fast.wire.messages import MAX_LAYOUT, MAX_TEXT, MESSAGES, Message

MAX_HEADER: Final = MAX_LAYOUT + 2**17
Frame = bytes | bytearray | memoryview


class ProtocolError(ValueError):
    """A peer sent what this protocol does not allow; the message says what was expected and what came."""


def encode(message: Message, payload: Sequence[Frame] = ()) -> list[Frame]:
    """The frames of a message. ``payload`` is passed on as it is (the caller keeps it unchanged until it is sent).

    Raises ``ValueError`` where a field is out of its bounds: that is a mistake on this side.
    """
    kind = type(message)
    if len(payload) > kind.PAYLOAD:
        raise ValueError(f"{kind.__name__}: expected at most {kind.PAYLOAD} payload frames, got {len(payload)}")
    values: list[Any] = [kind.CODE]
    for name, check in _checks(kind):
        value = getattr(message, name)
        problem = check(value)
        if problem:
            raise ValueError(f"{kind.__name__}.{name}: {problem}")
        values.append(value)
    return [msgpack.packb(values), *payload]


def decode(frames: Sequence[Frame]) -> tuple[Message, list[Frame]]:
    """The message in ``frames`` and its payload frames (the same objects, not copied).

    Raises ``ProtocolError``, and nothing else, for anything that is not a message of this protocol.
    """
    if not frames:
        raise ProtocolError("expected a header frame, got no frame")
    header = frames[0]
    if len(header) > MAX_HEADER:
        raise ProtocolError(f"header: expected at most {MAX_HEADER} bytes, got {len(header)}")
    try:
        values = msgpack.unpackb(
            header,
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
    checks = _checks(kind)
    if len(values) != len(checks) + 1:
        raise ProtocolError(f"{kind.__name__}: expected {len(checks)} fields, got {len(values) - 1}")
    payload = list(frames[1:])
    if len(payload) > kind.PAYLOAD:
        raise ProtocolError(f"{kind.__name__}: expected at most {kind.PAYLOAD} payload frames, got {len(payload)}")
    arguments: dict[str, Any] = {}
    for (name, check), value in zip(checks, values[1:], strict=True):
        problem = check(value)
        if problem:
            raise ProtocolError(f"{kind.__name__}.{name}: {problem}")
        arguments[name] = value
    return kind(**arguments), payload


def _checks(kind: type[Message]) -> list[tuple[str, Any]]:
    """For each field a function that says in words what is wrong with a value, or returns an empty string."""
    return _checks_by_code(kind.CODE)


@cache
def _checks_by_code(code: int) -> list[tuple[str, Any]]:
    return [(f.name, _CHECKERS[str(f.type)](f.metadata)) for f in fields(MESSAGES[code])]


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
