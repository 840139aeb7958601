"""An optimizer bound to a layout: one compiled pass over the flat buffers per update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from elephas_fast import _core
from elephas_fast._core import Kernel, Parts, Stripes
from elephas_fast.layout import Layout
from elephas_fast.optimizers.constraints import projection

if TYPE_CHECKING:
    from elephas_fast.optimizers.base import Optimizer

Float32Array = NDArray[np.float32]
Gradient = Float32Array | Sequence[Float32Array]


class FlatOptimizer:
    """Applies an `Optimizer` to the trainable part of a layout's flat buffer, as Keras 3 applies its own.

    Holds no buffers and never changes after construction: one instance may serve any number of threads, with
    what ``access`` promises where they share buffers (`_core.Kernel`). Elements that belong to no tensor
    (padding) are neither read nor written.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        layout: Layout,
        *,
        access: str = "racy",
        isa: str = "auto",
        threads: int = 1,
    ) -> None:
        self.optimizer = optimizer
        self.layout = layout
        self.slot_names = optimizer.slot_names
        self.threads = threads
        self._kernel = Kernel(optimizer.rule, access, isa)
        tensors = sorted((t for t in layout.tensors if t.role == "trainable" and t.size), key=lambda t: t.offset)
        self._parts = Parts(
            [(t.offset, t.offset + t.size) for t in tensors], [optimizer.decays(t.name) for t in tensors]
        )
        order = [t.offset for t in layout.tensors if t.role == "trainable" and t.size]
        self._in_order = order == sorted(order) and len(order) == sum(t.role == "trainable" for t in layout.tensors)
        projections = [(t.offset, t.offset + t.size, projection(t)) for t in tensors]
        self._projections = [(begin, end, project) for begin, end, project in projections if project is not None]

    def initial_slots(self, out: Sequence[Float32Array] | None = None) -> tuple[Float32Array, ...]:
        """The slots before the first update, each ``float32[trainable_size]``, in `slot_names` order.

        Written to ``out`` if given (the caller's buffers), else to new arrays.
        """
        size = self.layout.trainable_size
        slots = [np.empty(size, np.float32) for _ in self.slot_names] if out is None else list(out)
        if len(slots) != len(self.slot_names):
            raise ValueError(f"out: expected {len(self.slot_names)} slots, got {len(slots)}")
        for slot, value in zip(slots, self.optimizer.slot_initial, strict=True):
            if slot.dtype != np.float32 or slot.shape != (size,):
                raise ValueError(f"out: expected float32[{size}], got {slot.dtype}{list(slot.shape)}")
            slot.fill(value)
        return tuple(slots)

    def check(self, gradient: Sequence[Float32Array]) -> None:
        """Raise ``ValueError`` unless there is one contiguous float32 array of the right number of elements for each
        trainable tensor, in the layout's order.
        """
        self._parts.check(gradient if self._in_order else self._in_offset_order(gradient))

    def _in_offset_order(self, gradient: Sequence[Float32Array]) -> Sequence[Float32Array]:
        """Those of the trainable tensors' gradients that have elements, by ascending offset."""
        trainable = [t for t in self.layout.tensors if t.role == "trainable"]
        if len(gradient) != len(trainable):
            raise ValueError(f"gradient: expected {len(trainable)} arrays, got {len(gradient)}")
        given = sorted(zip(trainable, gradient, strict=True), key=lambda pair: pair[0].offset)
        return [array for tensor, array in given if tensor.size]

    def _clip_scales(self, gradient: Gradient, scale: float) -> list[float] | None:
        """What clipping by norm multiplies each tensor's gradient by, after ``scale``."""
        own, together = self.optimizer.clipnorm, self.optimizer.global_clipnorm
        sums = self._parts.sums_of_squares(gradient)
        if own is not None:
            return [own / max(math.sqrt(s) * abs(scale), own) for s in sums]
        if together is None:
            return None
        norm = math.sqrt(math.fsum(sums)) * abs(scale)
        # A gradient of infinite norm has no direction: Keras makes all of it NaN, which the caller then sees
        # counted.
        factor = together / max(norm, together) if math.isfinite(norm) else math.nan
        return [factor] * len(sums)

    def bind(
        self,
        weights: Float32Array,
        slots: Sequence[Float32Array],
        *,
        weights_out: Float32Array | None = None,
        slots_out: Sequence[Float32Array] | None = None,
        stripes: Stripes | None = None,
    ) -> BoundOptimizer:
        """This optimizer for buffers that stay: they are checked here, once, and held as long as the result lives.

        ``weights`` and ``slots`` are ``float32[trainable_size]``, contiguous. Results go to ``weights_out`` and
        ``slots_out``, which may overlap nothing but their own inputs, or back to the inputs. ``stripes``: locks over
        ``weights``, under which concurrent writers lose nothing. Raises ``ValueError`` naming the argument.
        """
        return BoundOptimizer(self, weights, slots, weights_out, slots_out, stripes)

    def apply(
        self,
        step: int,
        weights: Float32Array,
        slots: Sequence[Float32Array],
        gradient: Gradient,
        *,
        weights_out: Float32Array | None = None,
        slots_out: Sequence[Float32Array] | None = None,
        scale: float = 1.0,
    ) -> int:
        """One update of buffers that are not kept: ``bind(...)`` and ``BoundOptimizer.apply``."""
        bound = self.bind(weights, slots, weights_out=weights_out, slots_out=slots_out)
        return bound.apply(step, gradient, scale=scale)


class BoundOptimizer:
    """A `FlatOptimizer` and its buffers; made by ``FlatOptimizer.bind``. Thread-safe as ``access`` and ``stripes``
    promise."""

    def __init__(
        self,
        flat: FlatOptimizer,
        weights: Float32Array,
        slots: Sequence[Float32Array],
        weights_out: Float32Array | None,
        slots_out: Sequence[Float32Array] | None,
        stripes: Stripes | None,
    ) -> None:
        size = flat.layout.trainable_size
        if len(weights) != size:
            raise ValueError(f"weights: expected the layout's {size} trainable elements, got {len(weights)}")
        self._flat = flat
        self._optimizer = flat.optimizer
        self._changed = weights if weights_out is None else weights_out
        self._stripes = stripes
        self._apply = flat._kernel.bind(
            weights,
            slots,
            weights_out=weights_out,
            slots_out=slots_out,
            parts=flat._parts,
            stripes=stripes,
            threads=flat.threads,
        ).apply
        clip = flat.optimizer.clipvalue
        self._clip = math.inf if clip is None else clip
        self._numbers = (flat.optimizer.scalars(0), flat.optimizer.decay_at(0)) if flat.optimizer.steady else None
        self._by_norm = flat.optimizer.clipnorm is not None or flat.optimizer.global_clipnorm is not None

    def apply(
        self,
        step: int,
        gradient: Gradient,
        *,
        scale: float = 1.0,
        start: int = 0,
        copy_to: Float32Array | None = None,
    ) -> int:
        """One update; returns the number of elements whose new weight or slot is not finite.

        ``gradient``: ``float32[trainable_size]``, or one float32 array for each trainable tensor, in the layout's order
        and of any shape; contiguous, not kept. ``step`` is the number of updates applied before (Keras'
        ``iterations``). The gradient is first multiplied by ``scale``. Then, in Keras' order: clipping, weight decay,
        the rule, the layout's constraints. The new weights are also copied to ``copy_to``, float32[trainable_size].
        ``start``: a number of this writer's own, see `_core.Kernel`. Raises ``ValueError`` naming the argument, with
        nothing written, and ``TimeoutError`` where a stripe stays locked.
        """
        if step < 0:
            raise ValueError(f"step: expected the number of updates applied before, >= 0, got {step}")
        flat, optimizer = self._flat, self._optimizer
        if not flat._in_order and isinstance(gradient, (list, tuple)):
            gradient = flat._in_offset_order(gradient)
        scales = flat._clip_scales(gradient, scale) if self._by_norm else None
        scalars, decay = self._numbers or (optimizer.scalars(step), optimizer.decay_at(step))
        bad = self._apply(scalars, gradient, scale, self._clip, decay, scales, start, copy_to)
        for begin, end, project in flat._projections:
            with nullcontext() if self._stripes is None else self._stripes.hold(begin, end):
                project(self._changed[begin:end])
                if copy_to is not None:
                    _core.copy(self._changed[begin:end], copy_to[begin:end])
        return bad
