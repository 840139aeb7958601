"""An optimizer bound to a layout: one compiled pass over the flat buffers per update."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from elephas_fast._core import Kernel, Parts
from elephas_fast.layout import Layout
from elephas_fast.optimizers.base import Optimizer
from elephas_fast.optimizers.constraints import projection

Float32Array = NDArray[np.float32]


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

    def apply(
        self,
        step: int,
        weights: Float32Array,
        slots: Sequence[Float32Array],
        gradient: Float32Array,
        *,
        weights_out: Float32Array | None = None,
        slots_out: Sequence[Float32Array] | None = None,
        scale: float = 1.0,
    ) -> int:
        """One update; returns the number of elements whose new weight or slot is not finite.

        ``weights``, ``slots`` and ``gradient`` are ``float32[trainable_size]``, contiguous; nothing is kept.
        ``step`` is the number of updates applied before (Keras' ``iterations``). The gradient is first
        multiplied by ``scale``. Then, in Keras' order: clipping, weight decay, the rule, the layout's
        constraints. Results go to ``weights_out`` and ``slots_out``, which may overlap nothing but their own
        inputs, or back to the inputs. Raises ``ValueError`` naming the argument; nothing is written then.
        """
        if step < 0:
            raise ValueError(f"step: expected the number of updates applied before, >= 0, got {step}")
        if len(weights) != self.layout.trainable_size:
            raise ValueError(
                f"weights: expected the layout's {self.layout.trainable_size} trainable elements, got {len(weights)}"
            )
        optimizer = self.optimizer
        decay = 0.0
        if optimizer.weight_decay is not None:
            decay = float(np.float32(optimizer.weight_decay) * optimizer.learning_rate_at(step))
        bad = self._kernel(
            optimizer.scalars(step),
            weights,
            slots,
            gradient,
            weights_out=weights_out,
            slots_out=slots_out,
            scale=scale,
            scales=self._clip_scales(gradient, scale),
            clip=math.inf if optimizer.clipvalue is None else optimizer.clipvalue,
            decay=decay,
            parts=self._parts,
            threads=self.threads,
        )
        changed = weights if weights_out is None else weights_out
        for begin, end, project in self._projections:
            project(changed[begin:end])
        return bad

    def _clip_scales(self, gradient: Float32Array, scale: float) -> list[float] | None:
        """What clipping by norm multiplies each tensor's gradient by, after ``scale``."""
        own, together = self.optimizer.clipnorm, self.optimizer.global_clipnorm
        if own is not None:
            sums = self._parts.sums_of_squares(gradient)
            return [own / max(math.sqrt(s) * abs(scale), own) for s in sums]
        if together is None:
            return None
        sums = self._parts.sums_of_squares(gradient)
        norm = math.sqrt(math.fsum(sums)) * abs(scale)
        # A gradient of infinite norm has no direction: Keras makes all of it NaN, which the caller then sees
        # counted.
        factor = together / max(norm, together) if math.isfinite(norm) else math.nan
        return [factor] * len(sums)
