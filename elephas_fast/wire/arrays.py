"""Small arrays of several dtypes as one frame: metric states, which are too varied for the flat buffer.

``[count of header bytes, 4, little-endian][msgpack header: [[dtype, [axis, ...]], ...]][raw bytes of each array]``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from elephas_fast.wire.codec import Frame, ProtocolError

MAX_ARRAYS: Final = 4096
_MAX_HEADER: Final = 2**18
_DTYPES: Final = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
)  # fmt: skip


def pack_arrays(arrays: Sequence[NDArray[Any]]) -> bytes:
    """The frame for ``arrays``. Raises ``ValueError`` for a dtype that is not plain numbers."""
    if len(arrays) > MAX_ARRAYS:
        raise ValueError(f"arrays: expected at most {MAX_ARRAYS}, got {len(arrays)}")
    for array in arrays:
        if array.dtype.name not in _DTYPES:
            raise ValueError(f"arrays: expected one of {', '.join(_DTYPES)}, got {array.dtype}")
    header = msgpack.packb([[array.dtype.name, list(array.shape)] for array in arrays])
    raw = (array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in arrays)
    return b"".join([struct.pack("<I", len(header)), header, *raw])


def unpack_arrays(frame: Frame) -> list[NDArray[Any]]:
    """New arrays from a frame that ``pack_arrays`` made. Raises ``ProtocolError`` for anything else."""
    data = bytes(frame)
    if len(data) < 4:
        raise ProtocolError(f"arrays: expected at least 4 bytes, got {len(data)}")
    (length,) = struct.unpack_from("<I", data)
    if length > min(_MAX_HEADER, len(data) - 4):
        raise ProtocolError(f"arrays: header claims {length} bytes of {len(data)}")
    try:
        header = msgpack.unpackb(data[4 : 4 + length], max_array_len=MAX_ARRAYS, max_map_len=0, max_bin_len=0)
    except Exception as error:  # msgpack raises its own types, ValueError and UnicodeDecodeError here
        raise ProtocolError(f"arrays: expected a msgpack header, got {type(error).__name__}") from None
    arrays = []
    at = 4 + length
    for entry in header if isinstance(header, list) else [None]:
        dtype, shape = _checked(entry)
        nbytes = dtype.itemsize * math.prod(shape)
        if nbytes > len(data) - at:
            raise ProtocolError(f"arrays: expected {nbytes} more bytes, got {len(data) - at}")
        arrays.append(np.frombuffer(data, dtype, math.prod(shape), at).reshape(shape).copy())
        at += nbytes
    if at != len(data):
        raise ProtocolError(f"arrays: {len(data) - at} bytes too many")
    return arrays


def _checked(entry: Any) -> tuple[np.dtype[Any], list[int]]:
    if not isinstance(entry, list) or len(entry) != 2 or entry[0] not in _DTYPES:
        raise ProtocolError("arrays: expected [dtype, shape] for each array")
    shape = entry[1]
    if not isinstance(shape, list) or len(shape) > 32 or not all(type(a) is int and 0 <= a < 2**32 for a in shape):
        raise ProtocolError("arrays: expected a shape of whole numbers")
    dtype = np.dtype(entry[0]).newbyteorder("<")
    if dtype.itemsize * math.prod(max(1, axis) for axis in shape) >= 2**63:
        raise ProtocolError("arrays: expected a shape that can be indexed")
    return dtype, shape
