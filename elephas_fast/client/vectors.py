"""What a push may be given, and the buffers a client lends for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np

from elephas_fast import _core
from elephas_fast.layout import ByteArray, Float32Array, Layout
from elephas_fast.store import check_opaque, check_vector
from elephas_fast.wire import Frame

Gradient = Float32Array | Sequence[Float32Array]


class PushOptions(TypedDict, total=False):
    """What may be said of an update, as ``Client.push`` describes it."""

    state: Float32Array | None
    scale: float
    opaque: ByteArray | None
    rows: int
    base_version: int | None
    finite: bool


class PushRequest(NamedTuple):
    """An update and what is said of it."""

    gradient: Gradient
    state: Float32Array | None = None
    scale: float = 1.0
    opaque: ByteArray | None = None
    rows: int = 1
    base_version: int | None = None
    finite: bool = False


class Vectors:
    """The buffers of one client, float32[size] and uint8[opaque_size], and what it fills them with.

    ``outbox``: the client's own in the server's memory, where it has one. Else there are ``count`` pairs, lent in
    turn, so that one may be on its way while the next is filled.
    """

    def __init__(self, layout: Layout, outbox: tuple[Float32Array, ByteArray] | None, count: int) -> None:
        self._layout = layout
        self._tensors = [tensor for tensor in layout.tensors if tensor.role == "trainable"]
        self.outbox = outbox
        self._pairs = [(layout.new_flat(), np.zeros(layout.opaque_size, np.uint8)) for _ in range(count)]
        if outbox is not None:
            self._pairs = [outbox]

    @property
    def free(self) -> tuple[Float32Array, ByteArray]:
        """The pair that is not on its way."""
        return self._pairs[0]

    def check(self, gradient: Gradient, opaque: ByteArray | None) -> None:
        """Raise ``ValueError`` unless these are an update and opaque bytes of this layout, as far as can be told
        without looking at each array of a list.
        """
        size, opaque_size = self._layout.size, self._layout.opaque_size
        if isinstance(gradient, np.ndarray):
            check_vector("gradient", gradient, size)
        elif not isinstance(gradient, list | tuple) or not all(isinstance(part, np.ndarray) for part in gradient):
            raise ValueError(f"gradient: expected float32[{size}], got {gradient!r}")
        if opaque is not None:
            check_opaque(opaque, opaque_size)

    def frames(self, request: PushRequest) -> list[Frame]:
        """The payload of a push; none with an outbox, which is filled instead.

        The frames point to the gradient itself where it is one vector and its scale 1.
        """
        gradient, opaque = request.gradient, request.opaque
        if not isinstance(gradient, np.ndarray) or request.scale != 1.0:
            gradient = self._gather(gradient, request.state, request.scale)
        if self.outbox is not None:
            if not _same(gradient, self.outbox[0]):
                _core.copy(np.ascontiguousarray(gradient), self.outbox[0])
            if opaque is not None and opaque is not self.outbox[1]:
                self.outbox[1][:] = opaque
            return []
        payload: list[Frame] = [np.ascontiguousarray(gradient).view(np.uint8).data]
        if opaque is not None and self._layout.opaque_size:
            payload.append(np.ascontiguousarray(opaque).data)
        self._pairs.reverse()
        return payload

    def _gather(self, gradient: Gradient, state: Float32Array | None, scale: float) -> Float32Array:
        """The update as one vector, in the free buffer."""
        vector, split = self.free[0], self._layout.trainable_size
        if isinstance(gradient, np.ndarray):
            np.multiply(gradient[:split], np.float32(scale), out=vector[:split])
            vector[split:] = gradient[split:]
            return vector
        if len(self._tensors) != len(gradient):
            raise ValueError(f"gradient: expected {len(self._tensors)} arrays, got {len(gradient)}")
        for tensor, part in zip(self._tensors, gradient, strict=True):
            np.multiply(part.reshape(-1), np.float32(scale), out=vector[tensor.offset : tensor.offset + tensor.size])
        if state is not None:
            vector[split:] = state
        return vector


def _same(one: Float32Array, other: Float32Array) -> bool:
    """Whether both begin at the same address."""
    return bool(one.__array_interface__["data"][0] == other.__array_interface__["data"][0])
