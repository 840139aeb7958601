"""Weights on their way out of the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from elephas_fast.layout import ByteArray, Float32Array, Layout
from elephas_fast.wire import Frame, Message, Part, Weights

PART: Final = 2**18  # elements: 1 MiB, which a client receives into memory that is still in its cache
_WHOLE: Final = 2 * PART  # elements: a vector up to this long travels in one message


class Outgoing:
    """The vectors of one reply, fresh ones each time: the transport sends from them after the call has returned."""

    def __init__(self, layout: Layout) -> None:
        self.flat: Float32Array = np.empty(layout.size, np.float32)
        self.opaque: ByteArray = np.empty(layout.opaque_size, np.uint8)

    def messages(self, weights: Weights) -> Iterator[tuple[Message, list[Frame]]]:
        """``weights`` and what follows it, each with its payload."""
        size = len(self.flat)
        opaque: list[Frame] = [self.opaque.data] if len(self.opaque) else []
        if size <= _WHOLE:
            yield weights, [_raw(self.flat), *opaque]
            return
        yield replace(weights, in_parts=True), opaque
        for offset in range(0, size, PART):
            yield Part(request=weights.request, offset=offset), [_raw(self.flat[offset : offset + PART])]


def _raw(vector: Float32Array) -> Frame:
    return vector.view(np.uint8).data
