"""Model weights in and out of the flat buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast import _core
from elephas_fast.keras_bridge import private, runtime
from elephas_fast.layout import ByteArray, Float32Array, Layout, Tensor, TensorSpec

_ALIGNMENT = 64


def layout_of(model: Any) -> Layout:
    """The layout of a built model's weights.

    Raises ``ValueError`` for a model without weights yet, or with a weight of a dtype the store cannot hold.
    """
    if not model.built:
        raise ValueError(
            f"model: '{model.name}' has no weights yet; start it with keras.Input or call model.build(input_shape)"
        )
    trainable = {id(v) for v in model.trainable_weights}
    specs = []
    for variable in model.weights:
        trains = id(variable) in trainable
        constraint = _serialized(variable.constraint) if trains else None
        shape = tuple(int(axis) for axis in variable.shape)
        specs.append(TensorSpec(variable.path, shape, str(variable.dtype), trains, constraint))
    return Layout.build(specs)


def weights_of(
    model: Any, layout: Layout, flat: Float32Array | None = None, opaque: ByteArray | None = None
) -> tuple[Float32Array, ByteArray]:
    """Copy the model's weights into ``flat`` (float32[layout.size]) and ``opaque`` (uint8[layout.opaque_size])."""
    return layout.flatten([np.asarray(v.value.read_value()) for v in model.weights], flat, opaque)


def set_weights(model: Any, layout: Layout, flat: Float32Array, opaque: ByteArray) -> None:
    """Copy the buffers into the model; shapes and dtypes of its weights stay as they are."""
    values = layout.unflatten(flat, opaque)
    if len(values) != len(model.weights):
        raise ValueError(f"model: expected {len(values)} weights, got {len(model.weights)}")
    for variable, value in zip(model.weights, values, strict=True):
        variable.assign(value)
    for layer in finalizers(model):
        layer.finalize_state()


def finalizers(model: Any) -> list[Any]:
    """Layers that keep values computed from their weights (Normalization): call ``finalize_state()`` after a load."""
    return [layer for layer in private.layers_of(model) if layer.built and hasattr(layer, "finalize_state")]


class BoundWeights:
    """The variables of one model, bound to their places in the buffers: fast loads and reads by plain copies.

    Not thread-safe. No buffer is kept after a call.
    """

    def __init__(self, model: Any, layout: Layout) -> None:
        tf = runtime.tensorflow()
        self._read_op = tf.raw_ops.ReadVariableOp
        self._assign_op = tf.raw_ops.AssignVariableOp
        self._layout = layout
        self._bound = [
            (tensor, variable.value.handle, variable.value.dtype)
            for tensor, variable in zip(layout.tensors, model.weights, strict=True)
        ]
        self._finalizers = finalizers(model)
        self._finalized: bytes | None = None
        self._gaps = _gaps(layout)

    def load(self, flat: Float32Array, opaque: ByteArray) -> bool:
        """Copy the buffers into the variables.

        Returns whether graphs traced before are stale: a layer has computed constants from other weights.
        """
        for tensor, handle, dtype in self._bound:
            value = _aligned_copy(tensor, flat, opaque, dtype.as_numpy_dtype)
            self._assign_op(resource=handle, value=value)
        if not self._finalizers:
            return False
        state = flat[self._layout.trainable_size :].tobytes() + opaque.tobytes()
        if state == self._finalized:
            return False
        for layer in self._finalizers:
            layer.finalize_state()
        stale, self._finalized = self._finalized is not None, state
        return stale

    def write_delta(self, before: Float32Array, out_delta: Float32Array) -> int:
        """``out_delta = before - now`` for the trainable weights (what the local training moved them by).

        Returns the number of non-finite differences. Padding is set to zero.
        """
        nonfinite = 0
        for tensor, handle, dtype in self._bound:
            if tensor.role == "trainable":
                now = np.asarray(self._read_op(resource=handle, dtype=dtype)).reshape(-1)
                place = slice(tensor.offset, tensor.offset + tensor.size)
                start = before[place]
                if tensor.dtype != "float32":  # the weights this half-precision model really started from
                    start = start.astype(now.dtype).astype(np.float32)
                    now = now.astype(np.float32)
                nonfinite += _core.subtract(start, now, out_delta[place])
        self._clear_padding(out_delta)
        return nonfinite

    def write_gradients(self, gradients: list[Any], share: float, add: bool, out_delta: Float32Array) -> None:
        """Put (or add) ``share`` times the gradients, in the order of the trainable weights, into ``out_delta``."""
        trainable = (tensor for tensor, _, _ in self._bound if tensor.role == "trainable")
        for tensor, gradient in zip(trainable, gradients, strict=True):
            place = out_delta[tensor.offset : tensor.offset + tensor.size]
            value = np.asarray(gradient).reshape(-1)
            if add:
                place += value * np.float32(share)
            elif share == 1.0:
                place[:] = value
            else:
                np.multiply(value, np.float32(share), out=place)
        self._clear_padding(out_delta)

    def write_state(self, out_delta: Float32Array, out_opaque: ByteArray | None) -> None:
        """Copy the present values of the state tensors, and the bytes of the opaque ones, to their places."""
        for tensor, handle, dtype in self._bound:
            if tensor.role == "trainable":
                continue
            value = np.asarray(self._read_op(resource=handle, dtype=dtype)).reshape(-1)
            if tensor.role == "state":
                out_delta[tensor.offset : tensor.offset + tensor.size] = value
            elif out_opaque is not None:
                raw = value.view(np.uint8)
                out_opaque[tensor.offset : tensor.offset + tensor.nbytes] = raw

    def _clear_padding(self, out_delta: Float32Array) -> None:
        for begin, end in self._gaps:
            out_delta[begin:end] = 0.0


def _aligned_copy(tensor: Tensor, flat: Float32Array, opaque: ByteArray, dtype: Any) -> NDArray[Any]:
    """A private copy of one weight where TensorFlow can adopt the memory: it would copy unaligned memory once more,
    and it would share aligned memory of the caller."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.empty(tensor.size * itemsize + _ALIGNMENT, np.uint8)
    offset = -raw.__array_interface__["data"][0] % _ALIGNMENT
    copy: NDArray[Any] = raw[offset : offset + tensor.size * itemsize].view(dtype)
    if tensor.role == "opaque":
        copy[:] = opaque[tensor.offset : tensor.offset + tensor.nbytes].view(dtype)
    else:
        copy[:] = flat[tensor.offset : tensor.offset + tensor.size]
    return copy.reshape(tensor.shape)


def _gaps(layout: Layout) -> list[tuple[int, int]]:
    """The padding between and after the tensors of the flat buffer."""
    gaps = []
    end = 0
    for begin, stop in (*layout.ranges, (layout.size, layout.size)):
        if begin > end:
            gaps.append((end, begin))
        end = stop
    return gaps


def _serialized(constraint: Any) -> dict[str, Any] | None:
    if constraint is None:
        return None
    return {"class_name": type(constraint).__name__, "config": dict(constraint.get_config())}
