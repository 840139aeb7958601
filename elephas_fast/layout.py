"""Where each weight of a model lives in the flat buffers.

A model's float weights share one float32 buffer, so that an update is one pass over memory; everything that must not
go through arithmetic (counters, seeds, masks) is kept as bytes beside it.

* ``flat[0:trainable_size]``: the trainable weights, moved by the optimizer rule.
* ``flat[trainable_size:size]``: non-trainable float weights (moving statistics), moved without an optimizer.
* ``opaque``: non-float weights, replaced as they are.

Every tensor starts on a 64-byte boundary, the alignment TensorFlow demands of a buffer it borrows and the width of a
cache line. Padding holds zeros and stays zero.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
_FLOATS = ALIGNMENT // 4
_FLAT_DTYPES = ("float32", "float16", "bfloat16")
_MOST = 2**40  # elements or bytes of a buffer, as a segment's header allows
_OPAQUE_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

Role = Literal["trainable", "state", "opaque"]
Float32Array = NDArray[np.float32]
ByteArray = NDArray[np.uint8]


@dataclass(frozen=True)
class TensorSpec:
    """A weight as the model describes it, before it has a place in the buffers."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool
    constraint: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Tensor:
    """A weight and its place.

    ``offset`` counts float32 elements into the flat buffer, or bytes into the opaque buffer where ``role`` is
    ``'opaque'``. ``constraint`` is the serialized Keras constraint (``class_name`` and ``config``) or ``None``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: Role
    offset: int
    constraint: Mapping[str, Any] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the weight in its own dtype."""
        return self.size * _numpy_dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Layout:
    """The places of all weights of one model, in the order of ``model.weights``.

    Immutable and safe to share between threads. Two layouts with the same ``fingerprint`` describe buffers that can be
    exchanged byte for byte.
    """

    tensors: tuple[Tensor, ...]
    trainable_size: int
    size: int
    opaque_size: int
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        places = [(t.name, t.shape, t.dtype, t.role, t.offset) for t in self.tensors]
        text = json.dumps([places, self.trainable_size, self.size, self.opaque_size])
        object.__setattr__(self, "fingerprint", hashlib.blake2b(text.encode(), digest_size=16).hexdigest())

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @classmethod
    def build(cls, specs: Iterable[TensorSpec]) -> Layout:
        """Give each weight its place.

        Raises ``ValueError`` for a dtype that the store cannot hold without changing its values (float64, complex,
        strings), naming the weight.
        """
        specs = list(specs)
        roles = [_role(spec) for spec in specs]
        offsets = [0] * len(specs)
        ends: dict[Role, int] = {}
        begin = 0
        for role in ("trainable", "state"):
            for index, spec in enumerate(specs):
                if roles[index] == role:
                    offsets[index] = begin
                    begin += _padded(math.prod(spec.shape), _FLOATS)
            ends[role] = begin
        opaque_end = 0
        for index, spec in enumerate(specs):
            if roles[index] == "opaque":
                offsets[index] = opaque_end
                opaque_end += _padded(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize, ALIGNMENT)
        tensors = tuple(
            Tensor(spec.name, tuple(spec.shape), spec.dtype, role, offset, spec.constraint)
            for spec, role, offset in zip(specs, roles, offsets, strict=True)
        )
        return cls(tensors, ends["trainable"], ends["state"], opaque_end)

    @classmethod
    def vector(cls, size: int) -> Layout:
        """The layout of one bare trainable float32 vector of ``size`` elements, without padding."""
        if size < 0:
            raise ValueError(f"size: expected a number of elements >= 0, got {size}")
        return cls((Tensor("vector", (size,), "float32", "trainable", 0),), size, size, 0)

    @cached_property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """``[begin, end)`` of every tensor of the flat buffer that has elements, by ascending offset."""
        flat = sorted((t.offset, t.offset + t.size) for t in self.tensors if t.role != "opaque" and t.size)
        return tuple(flat)

    def flatten(
        self,
        arrays: Sequence[NDArray[Any]],
        flat: Float32Array | None = None,
        opaque: ByteArray | None = None,
    ) -> tuple[Float32Array, ByteArray]:
        """Copy weights into the buffers; the caller keeps ``arrays`` and owns the buffers.

        ``arrays`` are in ``tensors`` order. Half-precision values are widened to float32, which is exact. Raises
        ``ValueError`` where the number of arrays, a shape or a dtype does not fit.
        """
        if len(arrays) != len(self.tensors):
            raise ValueError(f"arrays: expected {len(self.tensors)} weights, got {len(arrays)}")
        if flat is None:
            flat = np.zeros(self.size, np.float32)
        if opaque is None:
            opaque = np.zeros(self.opaque_size, np.uint8)
        self._check_buffers(flat, opaque)
        for tensor, array in zip(self.tensors, arrays, strict=True):
            value = np.asarray(array)
            if value.shape != tensor.shape or value.dtype != _numpy_dtype(tensor.dtype):
                raise ValueError(
                    f"weight '{tensor.name}': expected {tensor.dtype}{list(tensor.shape)}, "
                    f"got {value.dtype}{list(value.shape)}"
                )
            if tensor.role == "opaque":
                raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
                opaque[tensor.offset : tensor.offset + tensor.nbytes] = raw
            else:
                flat[tensor.offset : tensor.offset + tensor.size] = value.reshape(-1)
        return flat, opaque

    def unflatten(self, flat: Float32Array, opaque: ByteArray) -> list[NDArray[Any]]:
        """The weights as new arrays of their own shapes and dtypes, in ``tensors`` order."""
        self._check_buffers(flat, opaque)
        arrays: list[NDArray[Any]] = []
        for tensor in self.tensors:
            dtype = _numpy_dtype(tensor.dtype)
            if tensor.role == "opaque":
                raw = opaque[tensor.offset : tensor.offset + tensor.nbytes].copy()
                arrays.append(raw.view(dtype).reshape(tensor.shape))
            else:
                part = flat[tensor.offset : tensor.offset + tensor.size]
                arrays.append(part.astype(dtype).reshape(tensor.shape))
        return arrays

    def to_json(self) -> str:
        """The layout as text; ``Layout.from_json`` reads it back to an equal layout."""
        tensors = [
            [t.name, list(t.shape), t.dtype, t.role, t.offset, dict(t.constraint) if t.constraint else None]
            for t in self.tensors
        ]
        sizes = {"trainable_size": self.trainable_size, "size": self.size, "opaque_size": self.opaque_size}
        return json.dumps({"tensors": tensors, **sizes})

    @classmethod
    def from_json(cls, text: str) -> Layout:
        """The layout that ``to_json`` wrote. Raises ``ValueError`` for a text that it cannot have written."""
        try:
            data = json.loads(text)
            tensors = tuple(
                Tensor(name, tuple(shape), dtype, role, offset, constraint)
                for name, shape, dtype, role, offset, constraint in data["tensors"]
            )
            layout = cls(tensors, data["trainable_size"], data["size"], data["opaque_size"])
            layout._check_places()
        except (KeyError, TypeError, RecursionError, ValueError) as error:
            raise ValueError(f"layout: expected a text that to_json wrote, got another ({error!r:.200})") from None
        return layout

    def new_flat(self) -> Float32Array:
        """float32[size] of zeros in which every tensor starts on a 64-byte boundary of memory."""
        flat: Float32Array = aligned_empty(4 * self.size).view(np.float32)
        flat.fill(0.0)
        return flat

    def _check_places(self) -> None:
        """Raise ``ValueError`` unless every tensor lies within its part of a buffer and on no other."""
        sizes = (self.trainable_size, self.size, self.opaque_size)
        if not all(_is_count(size) for size in sizes) or self.trainable_size > self.size:
            raise ValueError(f"sizes {sizes!r:.200}")
        parts = {
            "trainable": (0, self.trainable_size, _FLAT_DTYPES),
            "state": (self.trainable_size, self.size, _FLAT_DTYPES),
            "opaque": (0, self.opaque_size, _OPAQUE_DTYPES),
        }
        reached = {role: begin for role, (begin, _, _) in parts.items()}
        for tensor in sorted(self.tensors, key=lambda t: (t.offset, t.size)):
            _, end, dtypes = parts[tensor.role]
            known = isinstance(tensor.name, str) and tensor.dtype in dtypes and _is_count(tensor.offset)
            constraint = tensor.constraint is None or (isinstance(tensor.constraint, dict) and tensor.constraint)
            if not known or not constraint or not all(map(_is_count, tensor.shape)):
                raise ValueError(f"tensor {tensor!r:.200}")
            length = tensor.nbytes if tensor.role == "opaque" else tensor.size
            if not reached[tensor.role] <= tensor.offset <= end - length:
                raise ValueError(f"place of tensor {tensor!r:.200}")
            reached[tensor.role] = tensor.offset + length

    def _check_buffers(self, flat: Float32Array, opaque: ByteArray) -> None:
        if flat.dtype != np.float32 or flat.shape != (self.size,):
            raise ValueError(f"flat: expected float32[{self.size}], got {flat.dtype}{list(flat.shape)}")
        if opaque.dtype != np.uint8 or opaque.shape != (self.opaque_size,):
            raise ValueError(f"opaque: expected uint8[{self.opaque_size}], got {opaque.dtype}{list(opaque.shape)}")


def aligned_empty(nbytes: int) -> ByteArray:
    """uint8[nbytes] that starts on a 64-byte boundary of memory, not initialised."""
    raw: ByteArray = np.empty(nbytes + ALIGNMENT, np.uint8)
    begin = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[begin : begin + nbytes]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST


def _role(spec: TensorSpec) -> Role:
    if spec.dtype in _FLAT_DTYPES:
        return "trainable" if spec.trainable else "state"
    if spec.dtype in _OPAQUE_DTYPES:
        return "opaque"
    raise ValueError(
        f"weight '{spec.name}': expected a dtype that the float32 store can hold "
        f"({', '.join(_FLAT_DTYPES)}, or an integer or bool type), got {spec.dtype}; "
        "build the model with dtype='float32'"
    )


def _padded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return dtype
    return np.dtype(name)
