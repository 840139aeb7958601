"""Variables that live in a buffer of ours: TensorFlow reads the buffer's memory itself, nothing is copied.

A variable is made an alias by assigning it a tensor that TensorFlow adopted over DLPack. Whatever TensorFlow writes to
such a variable later goes to memory of its own (copy on write), so the buffer never changes under its owner; the alias
is then gone until it is made again, which costs some microseconds a variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from elephas_fast.keras_bridge import runtime
from elephas_fast.layout import ALIGNMENT, Float32Array, Tensor


class Aliases:
    """Aliases of float32 variables in one flat buffer.

    ``handles``: (place in the buffer, handle of the variable). ``flat`` stays the caller's, who may write to it at any
    time and must keep it until ``release`` has returned. Not thread-safe.
    """

    def __init__(self, handles: Sequence[tuple[Tensor, Any]], flat: Float32Array) -> None:
        tf = runtime.tensorflow()
        self._assign = tf.raw_ops.AssignVariableOp
        self._read = tf.raw_ops.ReadVariableOp
        self._float32 = tf.float32
        self._handles = handles
        adopt = tf.experimental.dlpack.from_dlpack
        # TensorFlow aborts the process where a tensor does not begin on its alignment.
        if any(_address(_place(tensor, flat)) % ALIGNMENT for tensor, _ in handles):
            raise ValueError(f"flat: expected memory where every tensor begins on {ALIGNMENT} bytes (layout.new_flat)")
        self._views = [adopt(_place(tensor, flat).reshape(tensor.shape).__dlpack__()) for tensor, _ in handles]
        self._flat = flat

    def make(self) -> None:
        """Let every variable be the buffer's memory, whatever it held before."""
        for (_, handle), view in zip(self._handles, self._views, strict=True):
            self._assign(resource=handle, value=view)

    def hold(self) -> bool:
        """Whether every variable is the buffer's memory now."""
        return all(
            _address(np.asarray(self._read(resource=handle, dtype=self._float32)))
            == _address(_place(tensor, self._flat))
            for tensor, handle in self._handles
        )

    def release(self) -> None:
        """Give every variable memory of its own with the present values, and let go of the buffer."""
        for tensor, handle in self._handles:
            self._assign(resource=handle, value=_place(tensor, self._flat).reshape(tensor.shape).copy())
        self._views.clear()
        self._handles = ()
        del self._flat


def _place(tensor: Tensor, flat: Float32Array) -> Float32Array:
    return flat[tensor.offset : tensor.offset + tensor.size]


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
