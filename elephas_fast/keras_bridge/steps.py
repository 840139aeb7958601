"""Keras' batch steps as TensorFlow functions, traced once per signature of the data and called with little overhead.

A signature is the dtypes and row shapes of a batch; the number of rows is left open, so that a short last batch needs
no second trace. Many batches of one size run as a single call that loops in the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elephas_fast.keras_bridge import private, runtime
from elephas_fast.keras_bridge.structure import Structure
from elephas_fast.layout import ALIGNMENT, aligned_empty

Array = NDArray[Any]
Part = tuple[tuple[str, tuple[int, ...]], ...]


class Batch(Protocol):
    """Arrays of one or more batches, rows on axis 0 (``elephas_fast.batches.Arrays``)."""

    @property
    def x(self) -> tuple[Array, ...]: ...
    @property
    def y(self) -> tuple[Array, ...]: ...
    @property
    def sample_weight(self) -> tuple[Array, ...] | None: ...
    @property
    def rows(self) -> int: ...


@dataclass(frozen=True)
class Signature:
    """(dtype, row shape) of every input, target and sample weight of a batch."""

    x: Part
    y: Part
    sample_weight: Part

    @classmethod
    def of(cls, batch: Batch) -> Signature:
        """The signature of a batch."""
        return cls(_part(batch.x), _part(batch.y), _part(batch.sample_weight or ()))

    def tensor_specs(self) -> list[Any]:
        """TensorFlow's description of the flat arguments, with an open number of rows."""
        tf = runtime.tensorflow()
        parts = (*self.x, *self.y, *self.sample_weight)
        return [tf.TensorSpec((None, *shape), "string" if dtype == "object" else dtype) for dtype, shape in parts]


@dataclass(frozen=True)
class _Traced:
    call: Callable[..., Any]
    loop: Callable[..., Any] | None
    flat: Callable[[list[Any]], Sequence[Any]] | None
    logs_are_metrics: bool


class StepFunction:
    """One batch step of a model: ``step(data)`` with ``data`` as Keras passes it to ``train_step``.

    ``own``: the step is the user's, its logs may be other than the model's metrics. ``whole`` is called instead of a
    function traced here where the user has taken over the tracing. Not thread-safe.
    """

    def __init__(
        self,
        model: Any,
        structure: Structure,
        step: Callable[[Any], Any],
        *,
        own: bool = False,
        whole: Callable[[Any], Any] | None = None,
    ) -> None:
        self._model = model
        self._structure = structure
        self._step = step
        self._own = own
        self._whole = whole
        self._kept: dict[bool, dict[Signature, _Traced]] = {}
        self.use_xla(None)

    @property
    def is_traced(self) -> bool:
        """Whether functions are traced here, so that it is up to ``use_xla`` how they are compiled."""
        return self._whole is None and not self._model.run_eagerly

    @property
    def uses_xla(self) -> bool:
        """Whether XLA compiles the step."""
        return bool(self._model.jit_compile if self._xla is None else self._xla)

    def use_xla(self, on: bool | None) -> None:
        """From now on run what XLA has compiled, or not; ``None``: as the model was compiled. What has been traced
        either way is kept."""
        self._xla = on
        self._traced = self._kept.setdefault(self.uses_xla, {})

    def forget(self) -> None:
        """Trace anew at the next call: constants in the graphs are stale."""
        for traced in self._kept.values():
            traced.clear()

    def call(self, batch: Batch) -> Any:
        """Run the step on all rows as one batch and return what it returns (tensors)."""
        return self.prepare(Signature.of(batch)).call(*_tensors(batch))

    def call_flat(self, batch: Batch, signature: Signature) -> Sequence[Any]:
        """As ``call`` for a step that returns a list of tensors, with the least overhead TensorFlow allows."""
        traced = self.prepare(signature)
        tensors = _tensors(batch)
        return traced.call(*tensors) if traced.flat is None else traced.flat(tensors)

    def repeat(self, batch: Batch, batch_size: int) -> None:
        """Run the step on every ``batch_size`` rows in turn, the last batch being short if it must."""
        tf = runtime.tensorflow()
        traced = self.prepare(Signature.of(batch))
        tensors = _tensors(batch)
        if batch.rows <= batch_size:
            traced.call(*tensors)
        elif traced.loop is not None:
            traced.loop(tf.constant(batch_size), *tensors)
        else:
            for begin in range(0, batch.rows, batch_size):
                traced.call(*[tensor[begin : begin + batch_size] for tensor in tensors])

    def logs_are_metrics(self, signature: Signature) -> bool:
        """Whether the logs the step returns can be read from the model's metrics instead."""
        return self.prepare(signature).logs_are_metrics

    def prepare(self, signature: Signature) -> _Traced:
        """Trace for this signature, creating what variables the model makes on its first batch, without running."""
        traced = self._traced.get(signature)
        if traced is None:
            traced = self._traced[signature] = self._trace(signature)
        return traced

    def _trace(self, signature: Signature) -> _Traced:
        def one(*flat: Any) -> Any:
            return (self._whole or self._step)(self._nest(signature, flat))

        if not self.is_traced:
            return _Traced(one, None, None, not self._own)
        tf = runtime.tensorflow()
        specs = signature.tensor_specs()
        self._build_metrics(signature)
        call = tf.function(one, autograph=False, jit_compile=self.uses_xla).get_concrete_function(*specs)
        as_metrics = not self._own or _names(call.structured_outputs) == set(private.metric_results(self._model))

        def loop(batch_size: Any, *flat: Any) -> Any:
            rows = tf.shape(flat[0])[0]

            def body(begin: Any) -> Any:
                call(*[tensor[begin : begin + batch_size] for tensor in flat])
                return begin + batch_size

            return tf.while_loop(lambda begin: begin < rows, body, [tf.constant(0)], parallel_iterations=1)

        lazy = tf.function(loop, autograph=False, input_signature=[tf.TensorSpec((), tf.int32), *specs])
        return _Traced(call, lazy, private.flat_call(call), as_metrics)

    def _build_metrics(self, signature: Signature) -> None:
        """Let the compiled metrics make their variables now: TensorFlow traces a function that makes some twice."""
        tensor, outputs = runtime.keras().KerasTensor, getattr(self._model, "outputs", None)
        if outputs and signature.y and not _overrides(self._model, "train_step", "test_step", "compute_metrics"):
            targets = [tensor((None, *shape), dtype) for dtype, shape in signature.y]
            pack = self._structure.pack_outputs
            private.build_metrics(self._model, pack(targets), pack(outputs))

    def _nest(self, signature: Signature, flat: tuple[Any, ...]) -> Any:
        structure = self._structure
        targets_at = len(signature.x)
        weights_at = targets_at + len(signature.y)
        x = structure.pack_inputs(flat[:targets_at])
        if not signature.y:
            return (x,)
        y = structure.pack_outputs(flat[targets_at:weights_at])
        weights = flat[weights_at:]
        if not weights:
            return x, y
        shared = len(weights) == 1 and len(signature.y) > 1
        return x, y, structure.pack_outputs(weights * len(signature.y) if shared else weights)


def train_function(model: Any, structure: Structure) -> StepFunction:
    """The model's ``train_step``, or its own train function where it overrides ``make_train_function``."""
    return _function_of(model, structure, "train")


def test_function(model: Any, structure: Structure) -> StepFunction:
    """The model's ``test_step``, or its own test function where it overrides ``make_test_function``."""
    return _function_of(model, structure, "test")


def _function_of(model: Any, structure: Structure, kind: str) -> StepFunction:
    def whole(data: Any) -> Any:
        return getattr(model, f"{kind}_function")(iter([data]))

    own = _overrides(model, f"{kind}_step", "compute_metrics")
    if not _overrides(model, f"make_{kind}_function"):
        return StepFunction(model, structure, getattr(model, f"{kind}_step"), own=own)
    getattr(model, f"make_{kind}_function")()
    return StepFunction(model, structure, getattr(model, f"{kind}_step"), own=own, whole=whole)


def predict_function(model: Any, structure: Structure) -> StepFunction:
    """The model's ``predict_step``; returns its outputs as a flat list."""
    flatten = runtime.keras().tree.flatten
    return StepFunction(model, structure, lambda data: flatten(model.predict_step(data)))


def gradient_function(model: Any, structure: Structure) -> StepFunction:
    """Keras' ``train_step`` up to the optimizer: metrics and layer state move on, the weights stay.

    Returns the dense gradients of the loss, regularization included, in the order of ``model.trainable_variables``; a
    weight the loss does not depend on has a gradient of zeros.
    """
    tf = runtime.tensorflow()
    keras = runtime.keras()
    options = {"training": True} if private.calls_with_training(model) else {}
    tracker = private.loss_tracker(model)

    def step(data: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            y_pred = model(x, **options)
            loss = model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
        if tracker is not None:
            tracker.update_state(loss, sample_weight=tf.shape(keras.tree.flatten(x)[0])[0])
        model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        weights = [variable.value for variable in model.trainable_variables]
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    return StepFunction(model, structure, step)


def _overrides(model: Any, *methods: str) -> bool:
    base = runtime.keras().Model
    return any(getattr(type(model), method) is not getattr(base, method) for method in methods)


def _names(logs: Any) -> set[str]:
    return set(logs) if isinstance(logs, Mapping) else set()


def _part(arrays: tuple[Array, ...]) -> Part:
    return tuple([(_name(array.dtype), array.shape[1:]) for array in arrays])


@cache
def _name(dtype: np.dtype[Any]) -> str:
    return dtype.name


def _tensors(batch: Batch) -> list[Any]:
    arrays = batch.x + batch.y if batch.sample_weight is None else batch.x + batch.y + batch.sample_weight
    return [_tensor(array) for array in arrays]


def _tensor(array: Array) -> Any:
    """The array as a tensor that shares its memory where that is aligned, and else the memory of an aligned copy:
    ``tf.constant`` would copy twice."""
    tf = runtime.tensorflow()
    if array.dtype.kind not in "iuf" or not array.size:
        return tf.constant(array)
    flags = array.flags
    if not (flags.c_contiguous and flags.writeable) or array.__array_interface__["data"][0] % ALIGNMENT:
        aligned = aligned_empty(array.nbytes).view(array.dtype).reshape(array.shape)
        aligned[...] = array
        array = aligned
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
