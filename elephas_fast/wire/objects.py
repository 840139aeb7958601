"""Plain Python objects and NumPy arrays as bytes: data only, so that reading them runs no code of the sender."""

from __future__ import annotations

from typing import Any, Final

import msgpack
import numpy as np

from elephas_fast.wire.arrays import pack_arrays, unpack_arrays
from elephas_fast.wire.codec import ProtocolError

_ARRAY: Final = 1
_TUPLE: Final = 2
_SCALAR: Final = 3


def pack_object(value: Any) -> bytes:
    """The bytes of ``None``, bool, int, float, str, bytes, a NumPy array or number, and lists, tuples and dicts of
    these. Raises ``TypeError`` for anything else, which would need pickle."""
    try:
        packed: bytes = msgpack.packb(value, default=_extension, strict_types=True)
    except (OverflowError, ValueError) as error:
        raise TypeError(f"data: expected what can be sent without pickle ({error})") from None
    return packed


def unpack_object(data: bytes | bytearray | memoryview) -> Any:
    """What ``pack_object`` was given. Raises ``ProtocolError`` for bytes it did not make."""
    try:
        return msgpack.unpackb(data, ext_hook=_from_extension, strict_map_key=False)
    except ProtocolError:
        raise
    except Exception as error:  # msgpack raises its own types, ValueError, RecursionError and more here
        raise ProtocolError(f"data: expected bytes made by send, got others ({type(error).__name__})") from None


def _extension(value: Any) -> msgpack.ExtType:
    if isinstance(value, tuple):
        return msgpack.ExtType(_TUPLE, pack_object(list(value)))
    if isinstance(value, np.ndarray | np.generic):
        kind = _ARRAY if isinstance(value, np.ndarray) else _SCALAR
        return msgpack.ExtType(kind, pack_arrays([np.asarray(value)]))
    raise TypeError(
        f"data: expected numbers, text, arrays, lists, tuples and dicts, got {type(value).__name__}; "
        "objects are not pickled"
    )


def _from_extension(code: int, data: bytes) -> Any:
    if code == _TUPLE:
        items = unpack_object(data)
        if isinstance(items, list):
            return tuple(items)
    elif code in (_ARRAY, _SCALAR):
        arrays = unpack_arrays(data)
        if len(arrays) == 1:
            return arrays[0] if code == _ARRAY else arrays[0][()]
    raise ProtocolError(f"data: expected an array, a number or a tuple, got extension {code}")
