"""A model's own optimizer as a compiled rule, for rounds of one batch.

Keras' optimizer step costs more than the gradient of a small model, and it writes to the variables, which ends their
being aliases. Where the round is one batch, the local step is this rule instead: it equals Keras' to float32 rounding
(``optimizers``), and the weights it would lead to are only used to form the pseudo-gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast import _core
from elephas_fast.keras_bridge import runtime
from elephas_fast.layout import Float32Array, Layout
from elephas_fast.optimizers import SGD, BoundOptimizer, FlatOptimizer, Optimizer, Schedule
from elephas_fast.optimizers import get as get_optimizer


class LocalRule:
    """Optimizer slots and step count of one worker, from the first step on. Not thread-safe."""

    def __init__(self, optimizer: Optimizer, layout: Layout) -> None:
        self._layout = layout
        self._constrained = any(tensor.constraint is not None for tensor in layout.tensors)
        self._flat = FlatOptimizer(optimizer, layout)
        self._slots = self._flat.initial_slots()
        self._zeros: Float32Array = np.zeros(layout.trainable_size, np.float32)
        self._before: Float32Array | None = None
        self._from_zero: dict[int, BoundOptimizer] = {}
        self._step = 0

    @classmethod
    def of(cls, model: Any, layout: Layout) -> LocalRule | None:
        """The rule of a compiled model that trains as ``keras.Model`` does, with an optimizer, constraints and dtypes
        that have a compiled form; ``None`` for any other model."""
        base = runtime.keras().Model
        if not model.compiled or model.run_eagerly or type(model).train_step is not base.train_step:
            return None
        if any(tensor.role == "trainable" and tensor.dtype != "float32" for tensor in layout.tensors):
            return None
        try:
            return cls(get_optimizer(model.optimizer), layout)
        except ValueError:
            return None

    def set_learning_rate(self, value: float) -> None:
        """Take another constant learning rate. Raises ``TypeError`` where it follows a schedule."""
        optimizer = self._flat.optimizer
        if isinstance(optimizer.learning_rate, Schedule):
            raise TypeError("the optimizer follows a schedule")
        self._flat = FlatOptimizer(replace(optimizer, learning_rate=value), self._layout)
        self._from_zero.clear()

    def factor(self) -> float | None:
        """What a gradient need only be multiplied by to be the pseudo-gradient; ``None`` where more is to be done.

        Plain SGD moves the weights by ``learning_rate * gradient``. Counts as a step.
        """
        optimizer = self._flat.optimizer
        if not isinstance(optimizer, SGD) or optimizer.momentum or optimizer.weight_decay or self._constrained:
            return None
        if optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm:
            return None
        rate = float(optimizer.learning_rate_at(self._step))
        self._step += 1
        return rate

    def pseudo_gradient(self, gradients: Sequence[NDArray[Any]], weights: Float32Array, out: Float32Array) -> float:
        """One step from ``weights`` (float32[trainable_size], read only): before - after is ``out`` times the result.

        ``gradients``: float32, one for each trainable tensor in the layout's order, of any shape. ``out`` is held, so
        give one of a few that stay.
        """
        split = self._layout.trainable_size
        self._step += 1
        if not (self._constrained or self._flat.optimizer.weight_decay):
            # Where the weights do not matter to the step it is made from zeros: the result is minus the step.
            self._bound(out[:split]).apply(self._step - 1, gradients)
            return -1.0
        if self._before is None:
            self._before = np.zeros(split, np.float32)
        before, after = self._before, out[:split]
        _core.copy(weights[:split], before)  # the weights may be others' to change meanwhile
        _core.copy(before, after)
        self._flat.apply(self._step - 1, after, self._slots, gradients)
        _core.subtract(before, after, after)
        return 1.0

    def _bound(self, out: Float32Array) -> BoundOptimizer:
        """The rule from zeros to ``out``."""
        place: int = out.__array_interface__["data"][0]
        bound = self._from_zero.get(place)
        if bound is None:
            out[:] = 0.0  # also between the tensors, where the rule does not write
            bound = self._from_zero[place] = self._flat.bind(self._zeros, self._slots, weights_out=out)
        return bound

    def leave(self) -> None:
        """Let go of the buffers that ``pseudo_gradient`` was given."""
        self._from_zero.clear()

    def save(self) -> tuple[NDArray[Any], ...]:
        """A copy of the state."""
        return (np.array(self._step), *(slot.copy() for slot in self._slots))

    def restore(self, state: Sequence[NDArray[Any]]) -> None:
        """Continue from a saved state."""
        self._step = int(state[0])
        for slot, value in zip(self._slots, state[1:], strict=True):
            slot[:] = value
