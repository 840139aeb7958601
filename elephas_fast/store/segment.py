"""The memory of a parameter store: one mapping that holds weights, slots, ledger and outboxes.

The mapping is anonymous (private to a process) or a sealed memfd, which has no name that could be left behind, cannot
be shrunk under a reader, and is handed to another process as an open file. Everything in it is reached through the
arrays of this class; who may write which of them is the store's business.

::

    header   4 KiB of uint64 words: what the rest looks like, then the live counters
    ledger   64 bytes for each partition or client
    locks    64 bytes for the store's own, and for that of each stripe of the weights
    buffers  1 or 2 copies of (weights, slots...), float32, and of the opaque bytes
    outboxes one vector (flat, then opaque) for each client on this host
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from dataclasses import astuple, dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elephas_fast.layout import ByteArray, Float32Array

PAGE: Final = 4096
LINE_WORDS: Final = 8
_MAGIC: Final = int.from_bytes(b"EFSEG\x00\x02\x00", "little")
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_ARRAYS: Final = ("header", "ledger", "lock", "stripes", "weights", "slots", "opaque")
_SEALS: Final = 0x0001 | 0x0002 | 0x0004  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class SegmentShape:
    """Sizes that fix where everything in a segment is. All counts are elements, bytes where the name says so."""

    size: int
    trainable_size: int
    opaque_bytes: int
    slots: int
    buffers: int
    lines: int
    outboxes: int
    stripes: int

    def __post_init__(self) -> None:
        for name, value in zip(self.__dataclass_fields__, astuple(self), strict=True):
            if value < 0 or value > 2**40:
                raise ValueError(f"segment {name}: expected a count from 0 to 2**40, got {value}")
        if self.buffers not in (1, 2) or self.trainable_size > self.size:
            raise ValueError(f"segment: buffers and trainable_size do not fit together in {self}")

    @property
    def _vector_bytes(self) -> int:
        return _page_aligned(4 * self.size)

    @property
    def _slot_bytes(self) -> int:
        return _page_aligned(4 * self.trainable_size)

    @property
    def _buffer_bytes(self) -> int:
        return self._vector_bytes + self.slots * self._slot_bytes + _page_aligned(self.opaque_bytes)

    @property
    def _outbox_bytes(self) -> int:
        return self._vector_bytes + _page_aligned(self.opaque_bytes)

    @property
    def _locks_at(self) -> int:
        return PAGE + _page_aligned(8 * LINE_WORDS * self.lines)

    @property
    def _buffers_at(self) -> int:
        return self._locks_at + _page_aligned(8 * LINE_WORDS * (1 + self.stripes))

    @property
    def _outboxes_at(self) -> int:
        return self._buffers_at + self.buffers * self._buffer_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole mapping."""
        return self._outboxes_at + self.outboxes * self._outbox_bytes


class Segment:
    """A mapped segment. Use ``Segment.create`` or ``Segment.attach``, and ``close`` (or ``with``) at the end.

    The arrays share the mapping's memory: they are valid until ``close``, which drops them; the memory itself goes
    when the last process that holds it is done.
    """

    def __init__(self, memory: mmap.mmap, shape: SegmentShape, fd: int | None) -> None:
        self.shape = shape
        self.fd = fd
        self._memory: mmap.mmap | None = memory
        self.header: Words = np.frombuffer(memory, np.uint64, PAGE // 8)
        self.ledger: Words = self._array(np.uint64, PAGE, LINE_WORDS * shape.lines).reshape(shape.lines, LINE_WORDS)
        locks: Words = self._array(np.uint64, shape._locks_at, LINE_WORDS * (1 + shape.stripes))
        self.lock, self.stripes = locks[:LINE_WORDS], locks[LINE_WORDS:]
        self.weights: list[Float32Array] = []
        self.slots: list[tuple[Float32Array, ...]] = []
        self.opaque: list[ByteArray] = []
        for index in range(shape.buffers):
            at = shape._buffers_at + index * shape._buffer_bytes
            self.weights.append(self._array(np.float32, at, shape.size))
            at += shape._vector_bytes
            self.slots.append(
                tuple(
                    self._array(np.float32, at + k * shape._slot_bytes, shape.trainable_size)
                    for k in range(shape.slots)
                )
            )
            self.opaque.append(self._array(np.uint8, at + shape.slots * shape._slot_bytes, shape.opaque_bytes))

    @classmethod
    def create(cls, shape: SegmentShape, *, shared: bool) -> Segment:
        """A new segment of zeros, in a sealed memfd if ``shared``, else in anonymous memory.

        Raises ``MemoryError`` naming the size where the machine cannot hold it.
        """
        fd = None
        try:
            if shared:
                fd = os.memfd_create("elephas_fast", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                os.ftruncate(fd, shape.total_bytes)
                fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
                memory = mmap.mmap(fd, shape.total_bytes)
            else:
                memory = mmap.mmap(-1, shape.total_bytes)
        except OSError as error:
            if fd is not None:
                os.close(fd)
            raise MemoryError(
                f"cannot reserve {shape.total_bytes:,} bytes for the parameter store ({error.strerror})"
            ) from error
        segment = cls(memory, shape, fd)
        segment.header[0] = _MAGIC
        segment.header[1 : 1 + len(astuple(shape))] = astuple(shape)
        return segment

    @classmethod
    def attach(cls, fd: int) -> Segment:
        """Map the segment behind ``fd`` and take ownership of the descriptor.

        Raises ``ValueError`` where the file is not a sealed segment of this version or is shorter than it claims.
        """
        try:
            if fcntl.fcntl(fd, _F_GET_SEALS) & _SEALS != _SEALS:
                raise ValueError("segment: expected a sealed memfd, got a file that can still be resized")
            length = os.fstat(fd).st_size
            if length < PAGE:
                raise ValueError(f"segment: expected at least {PAGE} bytes, got {length}")
            memory = mmap.mmap(fd, length)
            header: Words = np.frombuffer(memory, np.uint64, PAGE // 8)
            if int(header[0]) != _MAGIC:
                raise ValueError("segment: expected a segment of this version of elephas_fast, got other contents")
            shape = SegmentShape(*(int(word) for word in header[1 : 1 + len(fields(SegmentShape))]))
            if shape.total_bytes != length:
                raise ValueError(f"segment: its header claims {shape.total_bytes} bytes, the file has {length}")
            return cls(memory, shape, fd)
        except OSError as error:
            os.close(fd)
            raise ValueError(f"segment: expected a sealed memfd, got a descriptor that is none ({error})") from error
        except ValueError:
            os.close(fd)
            raise

    def outbox(self, index: int) -> tuple[Float32Array, ByteArray]:
        """The flat and the opaque part of one client's outbox; written by that client only."""
        if not 0 <= index < self.shape.outboxes:
            raise ValueError(f"outbox: expected an index from 0 to {self.shape.outboxes - 1}, got {index}")
        at = self.shape._outboxes_at + index * self.shape._outbox_bytes
        flat: Float32Array = self._array(np.float32, at, self.shape.size)
        opaque: ByteArray = self._array(np.uint8, at + self.shape._vector_bytes, self.shape.opaque_bytes)
        return flat, opaque

    def close(self) -> None:
        """Drop the arrays and give the mapping back; safe to call twice.

        An array somebody still holds keeps the mapping alive until that array is dropped too.
        """
        if self._memory is None:
            return
        for name in _ARRAYS:
            delattr(self, name)
        with contextlib.suppress(BufferError):
            self._memory.close()
        self._memory = None
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def __getattr__(self, name: str) -> Any:
        if name in _ARRAYS:
            raise RuntimeError("the parameter store's memory has been given back: read it before close() or stop()")
        raise AttributeError(f"'Segment' object has no attribute '{name}'")

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _array(self, dtype: Any, at: int, count: int) -> NDArray[Any]:
        if count == 0:
            return np.zeros(0, dtype)
        assert self._memory is not None
        return np.frombuffer(self._memory, dtype, count, at)


def _page_aligned(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE
