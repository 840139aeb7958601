"""A worker's model: one round of training, gradients, evaluation and prediction on flat weights."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from elephas_fast import _core
from elephas_fast.keras_bridge import custom_gradients, local_state, metrics, runtime, steps, xla
from elephas_fast.keras_bridge.class_weight import sample_weights
from elephas_fast.keras_bridge.generation import use_sampler
from elephas_fast.keras_bridge.local_state import LaneState, LocalState
from elephas_fast.keras_bridge.metrics import MetricState
from elephas_fast.keras_bridge.model_spec import ModelSpec, rebuild
from elephas_fast.keras_bridge.structure import structure_of
from elephas_fast.keras_bridge.weights import BoundWeights
from elephas_fast.layout import ByteArray, Float32Array, Layout

Batches = Sequence[tuple[int, int]]
Indices = NDArray[np.int64]
Progress = Callable[[int], None]
Rows_ = TypeVar("Rows_", bound="Rows")

_CHUNK_BYTES = 1 << 23
_CACHED = 2
_TRIED_BATCHES = 4


class Rows(steps.Batch, Protocol):
    """The rows of a partition (``elephas_fast.batches.Arrays``, a dataclass)."""

    def slice(self: Rows_, begin: int, end: int) -> Rows_: ...
    def take(self: Rows_, indices: Indices) -> Rows_: ...


@dataclass(frozen=True)
class RoundLogs:
    """What a round did. ``nonfinite`` counts NaN and infinite elements of the trainable part of the delta."""

    rows: int
    batches: int
    nonfinite: int


@dataclass(frozen=True)
class Update:
    """What a round of one batch sends: ``scale`` times ``gradient``.

    ``gradient``: float32[layout.size], or one float32 array for each trainable tensor in the layout's order, valid
    until the next call, with the values of the state tensors in ``state`` (``None`` where there are none). ``finite``:
    it is known that the gradient is.
    """

    gradient: Float32Array | Sequence[NDArray[Any]]
    state: Float32Array | None = None
    scale: float = 1.0
    finite: bool = False


class Trainer:
    """The model of a description in this process, trained and evaluated on flat weights.

    Between calls it keeps optimizer variables, seeds and metrics, but no weights: every call that computes loads
    ``flat`` (float32[layout.size]) and ``opaque`` (uint8[layout.opaque_size]) first, which must hold still during the
    call and are never written; ``live_in`` makes that free for one buffer. Not thread-safe; ``optimizer_state`` lets
    several partitions take turns.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.layout = Layout.from_json(spec.layout_json)
        self.model = rebuild(spec)
        self._weights = BoundWeights(self.model, self.layout)
        self._local = LocalState(self.model, self.layout)
        self._half_precision = any(t.role == "trainable" and t.dtype != "float32" for t in self.layout.tensors)
        structure = self._structure = structure_of(self.model)
        self._outputs = runtime.keras().tree.flatten(structure.output_template)
        self._train = steps.train_function(self.model, structure)
        self._test = steps.test_function(self.model, structure)
        self._gradients = steps.gradient_function(self.model, structure)
        self._predict = steps.predict_function(self.model, structure)
        self._xla_is_faster: dict[tuple[bool, steps.Signature, int], bool] = {}

    def reset(self, seed: int, *, single_batches: bool = False) -> None:
        """Return to the freshly built state: optimizer, learning rate, metrics; seeds drawn from ``seed``.

        Seeds that the model fixes itself return to their own value. ``single_batches``: until the next reset all
        training is by ``single_round``.
        """
        self._local.reset(seed, single_batches=single_batches)

    def use_xla(self, on: bool | None) -> None:
        """Train by what XLA has compiled, or not; ``None``: as ``Model.compile(jit_compile=...)`` said."""
        self._train.use_xla(on)
        self._gradients.use_xla(on)

    @property
    def uses_xla(self) -> bool:
        """Whether XLA compiles the steps of training."""
        return self._train.uses_xla

    def measure_xla(
        self, arrays: Rows, batch_size: int, *, update: str, class_weight: Mapping[int, float] | None = None
    ) -> None:
        """Train by what XLA has compiled from now on if the first batches of ``arrays`` are faster so.

        Is tried once for each kind of rows and batch size and then remembered; where there is no whole batch, or the
        model traces its own steps, nothing is tried. Leaves optimizer, seeds and metrics anyhow: ``reset`` before and
        after it. Not while the weights ``live_in`` somebody's memory.
        """
        whole = arrays.rows // batch_size
        function = self._gradients if update == "gradient" or self._local.rule is not None else self._train
        self.use_xla(None)
        if not whole or not function.is_traced:
            return
        rows = _weighted(arrays.slice(0, min(whole, _TRIED_BATCHES) * batch_size), class_weight)
        key = (function is self._train, steps.Signature.of(rows), batch_size)

        def run() -> None:
            if function is self._train:
                function.repeat(rows, batch_size)
                return
            for begin in range(0, rows.rows, batch_size):
                function.call(rows.slice(begin, begin + batch_size))

        if key not in self._xla_is_faster:
            self._weights.written()
            self._xla_is_faster[key] = xla.is_faster(function, run)
        self.use_xla(self._xla_is_faster[key])

    def live_in(self, flat: Float32Array) -> bool:
        """Let the trainable weights live in ``flat`` (``Layout.new_flat``, a store's segment), so that the calls that
        are given it need not copy it. It stays the caller's, who keeps it until ``leave``. Returns whether this
        TensorFlow can do so; where it cannot, everything works by copies."""
        return self._weights.live_in(flat)

    def leave(self) -> None:
        """End ``live_in``, and let go of the vectors that rounds were written to."""
        self._weights.leave()
        if self._local.rule is not None:
            self._local.rule.leave()

    def reads_only(self, update: str) -> bool:
        """Whether ``single_round`` leaves the variables alone, so that the weights may change under it."""
        return update == "gradient" or self._local.rule is not None

    def set_learning_rate(self, value: float) -> None:
        """Set the local optimizer's learning rate. Raises ``ValueError`` where it follows a schedule."""
        try:
            self._local.set_learning_rate(value)
        except TypeError as error:
            raise ValueError(
                "learning_rate: expected an optimizer with a plain learning rate, got one with a schedule"
            ) from error

    def begin_epoch(self) -> None:
        """Start the metrics of an epoch."""
        self._local.begin_epoch()

    def train_round(
        self,
        arrays: Rows,
        indices: Indices,
        batches: Batches,
        flat: Float32Array,
        opaque: ByteArray,
        out_delta: Float32Array,
        out_opaque: ByteArray | None = None,
        *,
        class_weight: Mapping[int, float] | None = None,
        progress: Progress | None = None,
    ) -> RoundLogs:
        """Train the batches with the model's own optimizer and ``train_step``.

        ``indices``: int64[rows], the order of the epoch; ``batches``: ``(begin, end)`` into it. Writes, the buffers
        staying the caller's: ``out_delta`` (float32[layout.size]) = weights before - after, for the trainable part,
        and the new values themselves for the state part; ``out_opaque`` (uint8[layout.opaque_size]) = new bytes.
        Metrics go on counting since ``begin_epoch``. ``progress`` is called now and then with the rows done so far.
        """
        self._load(flat, opaque)
        self._weights.written()
        self._run(self._train, arrays, indices, batches, class_weight, progress)
        nonfinite = self._weights.write_delta(flat, out_delta)
        self._weights.write_state(out_delta, out_opaque)
        return RoundLogs(_rows(batches), len(batches), nonfinite)

    def gradient_round(
        self,
        arrays: Rows,
        indices: Indices,
        batches: Batches,
        flat: Float32Array,
        opaque: ByteArray,
        out_delta: Float32Array,
        out_opaque: ByteArray | None = None,
        *,
        class_weight: Mapping[int, float] | None = None,
        progress: Progress | None = None,
    ) -> RoundLogs:
        """The gradient of the loss, regularization included, at the given weights.

        As ``train_round``, but ``out_delta[:trainable_size]`` is the gradient, for several batches their mean weighted
        by rows, and no optimizer runs.
        """
        self._load(flat, opaque)
        total = _rows(batches)
        if not total:
            out_delta[: self.layout.trainable_size] = 0.0
        for number, (begin, end) in enumerate(batches):
            batch = _weighted(arrays.take(indices[begin:end]), class_weight)
            gradients = self._gradients.call(batch)
            self._local.signature = steps.Signature.of(batch)
            self._weights.write_gradients(gradients, (end - begin) / total, number > 0, out_delta)
            if progress is not None:
                progress(end - batches[0][0])
        self._weights.write_state(out_delta, out_opaque)
        nonfinite = _core.count_nonfinite(out_delta[: self.layout.trainable_size])
        return RoundLogs(total, len(batches), nonfinite)

    def single_round(
        self,
        arrays: Rows,
        indices: Indices,
        batch: tuple[int, int],
        flat: Float32Array,
        opaque: ByteArray,
        out_delta: Float32Array,
        out_opaque: ByteArray | None = None,
        *,
        update: str,
        class_weight: Mapping[int, float] | None = None,
    ) -> Update:
        """A round of one batch, as ``train_round`` (``update='delta'``) or ``gradient_round`` (``'gradient'``).

        What comes out may be in ``out_delta`` or still be TensorFlow's own gradients, which saves their way there.
        """
        rule = self._local.rule
        if update == "delta" and rule is None:
            logs = self.train_round(
                arrays, indices, [batch], flat, opaque, out_delta, out_opaque, class_weight=class_weight
            )
            return Update(out_delta, finite=not logs.nonfinite)
        self._load(flat, opaque)
        rows = _weighted(arrays.take(indices[batch[0] : batch[1]]), class_weight)
        signature = self._local.signature = steps.Signature.of(rows)
        gradients = [np.asarray(tensor) for tensor in self._gradients.call_flat(rows, signature)]
        if self._half_precision:
            gradients = [gradient.astype(np.float32, copy=False) for gradient in gradients]
        self._weights.write_state(out_delta, out_opaque)
        state = out_delta[self.layout.trainable_size :]
        factor = 1.0
        if update == "delta":
            assert rule is not None
            plain = rule.factor()
            if plain is None:
                return Update(out_delta, scale=rule.pseudo_gradient(gradients, flat, out_delta))
            factor = plain
        return Update(gradients, state if len(state) else None, factor)

    def evaluate(self, arrays: Rows, flat: Float32Array, opaque: ByteArray, batch_size: int) -> MetricState:
        """The metrics over all rows, for ``merge_metrics``; the running metrics of training are left as they are."""
        self._load(flat, opaque)
        local = self._local
        kept = (local_state.read(local_state.metric_variables(self.model)), local.signature, local.logs)
        local.begin_epoch()
        batches = [(begin, min(begin + batch_size, arrays.rows)) for begin in range(0, arrays.rows, batch_size)]
        self._run(self._test, arrays, np.arange(arrays.rows), batches, None)
        state = self.metric_state()
        local.restore_metrics(*kept)
        return state

    def predict(
        self, x: tuple[NDArray[Any], ...], flat: Float32Array, opaque: ByteArray, batch_size: int
    ) -> list[NDArray[Any]]:
        """The model's outputs in flat order, each with all rows on axis 0."""
        self._load(flat, opaque)
        rows = len(x[0])
        if not rows:
            return [np.empty((0, *(axis or 0 for axis in t.shape[1:])), str(t.dtype)) for t in self._outputs]
        parts = [
            [np.asarray(out) for out in self._predict.call(_Features(tuple(a[begin : begin + batch_size] for a in x)))]
            for begin in range(0, rows, batch_size)
        ]
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def generate(
        self,
        x: tuple[NDArray[Any], ...],
        flat: Float32Array,
        opaque: ByteArray,
        sampler: dict[str, Any] | None,
        options: Mapping[str, Any],
    ) -> Any:
        """What the model's own ``generate(inputs, **options)`` makes of a batch, with a sampler of ``sampler_of``."""
        self._load(flat, opaque)
        use_sampler(self.model, sampler)
        return self.model.generate(self._structure.pack_inputs(x), **options)

    def read_weights(self, flat: Float32Array, opaque: ByteArray) -> None:
        """Copy the model's present weights, such as ``train_round`` has left them, into the caller's buffers."""
        self._weights.read(flat, opaque)

    def metric_state(self) -> MetricState:
        """The metrics since ``begin_epoch`` as arrays for ``merge_metrics``; ``[]`` before the first batch."""
        return metrics.metric_state(self.model, self._local.signature, self._local.logs)

    def logs(self) -> dict[str, float]:
        """The present metric values of this process; ``{}`` before the first batch."""
        return metrics.results(self.model, self._local.logs) if self._local.signature else {}

    def optimizer_state(self) -> LaneState:
        """A copy of what a partition must find again when it takes its next turn: optimizer, seeds and metrics."""
        return self._local.save()

    def set_optimizer_state(self, state: LaneState) -> None:
        """Continue as the partition that ``optimizer_state`` was taken from."""
        self._local.restore(state)

    def check_home(self) -> None:
        """Raise ``RuntimeError`` where weights that live in a buffer have been written to from inside the model."""
        self._weights.check_home()

    def _load(self, flat: Float32Array, opaque: ByteArray) -> None:
        if self._weights.load(flat, opaque):
            for function in (self._train, self._test, self._gradients, self._predict):
                function.forget()

    def _run(
        self,
        function: steps.StepFunction,
        arrays: Rows,
        indices: Indices,
        batches: Batches,
        class_weight: Mapping[int, float] | None,
        progress: Progress | None = None,
    ) -> None:
        done = 0
        for begin, end, batch_size in _chunks(batches, _CHUNK_BYTES // _row_bytes(arrays)):
            chunk = _weighted(arrays.take(indices[begin:end]), class_weight)
            self._local.signature = steps.Signature.of(chunk)
            if function.logs_are_metrics(self._local.signature):
                function.repeat(chunk, batch_size)
            else:
                for at in range(0, end - begin, batch_size):
                    batch = chunk.slice(at, at + batch_size)
                    metrics.add_logs(self._local.logs, function.call(batch), batch.rows)
            done += end - begin
            if progress is not None:
                progress(done)


_trainers: OrderedDict[str, Trainer] = OrderedDict()


def trainer_for(spec: ModelSpec, threads: int | None = None) -> Trainer:
    """The trainer of a description in this process, built at its first use and kept while it is among the last used.

    ``threads``: TensorFlow's thread pools, set once per process before TensorFlow starts. Call ``reset`` before a fit.
    """
    runtime.start(threads, lean=True)
    trainer = _trainers.pop(spec.digest, None) or Trainer(spec)
    _trainers[spec.digest] = trainer
    while len(_trainers) > _CACHED:
        _trainers.popitem(last=False)
        custom_gradients.release()
    return trainer


@dataclass(frozen=True)
class _Features:
    x: tuple[NDArray[Any], ...]
    y: tuple[NDArray[Any], ...] = ()
    sample_weight: tuple[NDArray[Any], ...] | None = None

    @property
    def rows(self) -> int:
        return len(self.x[0])


def _rows(batches: Batches) -> int:
    return sum(end - begin for begin, end in batches)


def _row_bytes(arrays: Rows) -> int:
    parts = (*arrays.x, *arrays.y, *(arrays.sample_weight or ()))
    return max(1, sum(part.nbytes for part in parts) // max(1, arrays.rows))


def _chunks(batches: Batches, limit: int) -> Iterator[tuple[int, int, int]]:
    """Neighbouring batches of one size, the last may be shorter, as ``(begin, end, batch size)`` of ``limit`` rows."""
    number = 0
    while number < len(batches):
        begin, end = batches[number]
        size, last = end - begin, end - begin
        number += 1
        while number < len(batches) and last == size and batches[number][0] == end:
            last = batches[number][1] - end
            if last > size or end + last - begin > limit:
                break
            end += last
            number += 1
        yield begin, end, size


def _weighted(batch: Any, class_weight: Mapping[int, float] | None) -> Any:
    if not class_weight:
        return batch
    if batch.sample_weight is not None:
        raise ValueError("class_weight: expected rows without sample weights, got both")
    if len(batch.y) != 1:
        raise ValueError(f"class_weight: expected a model with one output, got {len(batch.y)}")
    return dataclasses.replace(batch, sample_weight=(sample_weights(batch.y[0], class_weight),))
