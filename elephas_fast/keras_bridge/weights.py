"""Model weights in and out of the flat buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast import _core
from elephas_fast.keras_bridge import private, runtime
from elephas_fast.keras_bridge.aliases import Aliases
from elephas_fast.layout import ByteArray, Float32Array, Layout, Tensor, TensorSpec, aligned_empty


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
    """The variables of one model, bound to their places in the buffers.

    Not thread-safe. Between calls no buffer is kept but the one that ``live_in`` was given.
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
        # What TensorFlow writes itself (moving statistics, counters) and what is no float32 cannot be an alias.
        self._aliasable = [
            (tensor, handle)
            for tensor, handle, _ in self._bound
            if tensor.role == "trainable" and tensor.dtype == "float32" and tensor.size
        ]
        aliasable = {id(tensor) for tensor, _ in self._aliasable}
        self._copied = [entry for entry in self._bound if id(entry[0]) not in aliasable]
        self._finalizers = finalizers(model)
        theirs = {id(variable) for layer in self._finalizers for variable in layer.non_trainable_weights}
        self._to_finalize = [
            tensor for tensor, variable in zip(layout.tensors, model.weights, strict=True) if id(variable) in theirs
        ]
        self._finalized: list[bytes] | None = None
        self._gaps = _gaps(layout)
        self._home: Float32Array | None = None
        self._aliases: Aliases | None = None
        self._at_home = False

    def live_in(self, flat: Float32Array) -> bool:
        """Let the trainable weights live in ``flat``, so that loading it costs nothing.

        float32[layout.size], every tensor on 64 bytes (``Layout.new_flat``, a store's segment); the caller's, who keeps
        it until ``leave`` and may change its values between calls, or at any time if the reader may see that. Returns
        whether this TensorFlow can do so; where it cannot, ``load`` copies as ever.
        """
        self.leave()
        aliases = Aliases(self._aliasable, flat)
        aliases.make()
        if not aliases.hold():
            aliases.release()
            return False
        self._aliases, self._home = aliases, flat
        return True

    def leave(self) -> None:
        """End ``live_in``: the variables get memory of their own."""
        if self._aliases is not None:
            self._aliases.release()
        self._aliases = self._home = None
        self._at_home = False

    def written(self) -> None:
        """To be called when TensorFlow may have written to trainable weights."""
        self._at_home = False

    def load(self, flat: Float32Array, opaque: ByteArray) -> bool:
        """Let the variables hold the buffers' values: by copies, or, in the buffer they live in, as it is.

        Returns whether graphs traced before are stale: a layer has computed constants from other weights.
        """
        here = flat is self._home
        for tensor, handle, dtype in self._copied if here else self._bound:
            value = _aligned_copy(tensor, flat, opaque, dtype.as_numpy_dtype)
            self._assign_op(resource=handle, value=value)
        if here and not self._at_home:
            assert self._aliases is not None
            self._aliases.make()
        self._at_home = here
        if not self._finalizers:
            return False
        state = [_part(tensor, flat, opaque).tobytes() for tensor in self._to_finalize]
        if state == self._finalized:
            return False
        for layer in self._finalizers:
            layer.finalize_state()
        stale, self._finalized = self._finalized is not None, state
        return stale

    def check_home(self) -> None:
        """Raise ``RuntimeError`` where variables that live in a buffer have been written to unnoticed."""
        if self._at_home and self._aliases is not None and not self._aliases.hold():
            raise RuntimeError(
                "model: a layer wrote to trainable weights outside the optimizer; train it with update='delta' and "
                "frequency > 1 batch, or make those weights non-trainable"
            )

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

    def read(self, flat: Float32Array, opaque: ByteArray) -> None:
        """Copy all variables' present values to their places; padding is left as it is."""
        for tensor, handle, dtype in self._bound:
            value = np.asarray(self._read_op(resource=handle, dtype=dtype)).reshape(-1)
            if tensor.role == "opaque":
                opaque[tensor.offset : tensor.offset + tensor.nbytes] = value.view(np.uint8)
            else:
                flat[tensor.offset : tensor.offset + tensor.size] = value

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
        """Copy the present values of the state tensors, and the bytes of the opaque ones, to their places.

        Padding between and after the state tensors is set to zero."""
        out_delta[self._layout.trainable_size :] = 0.0
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
    copy: NDArray[Any] = aligned_empty(tensor.size * itemsize).view(dtype)
    part = _part(tensor, flat, opaque)
    copy[:] = part.view(dtype) if tensor.role == "opaque" else part
    return copy.reshape(tensor.shape)


def _part(tensor: Tensor, flat: Float32Array, opaque: ByteArray) -> NDArray[Any]:
    """The elements of a weight in the flat buffer, or its bytes in the opaque one."""
    if tensor.role == "opaque":
        return opaque[tensor.offset : tensor.offset + tensor.nbytes]
    return flat[tensor.offset : tensor.offset + tensor.size]


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
