"""An optimizer applied to lists of arrays, one update after another, as Elephas 0.2 to 0.4 called it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast.layout import Layout, TensorSpec
from elephas_fast.optimizers.flat import FlatOptimizer

if TYPE_CHECKING:
    from elephas_fast.optimizers.base import Optimizer

Array = NDArray[Any]


class Updates:
    """The slots and the number of updates of one optimizer on weights of the given shapes. Not thread-safe."""

    def __init__(self, optimizer: Optimizer, shapes: Sequence[tuple[int, ...]]) -> None:
        specs = [TensorSpec(f"params[{i}]", tuple(shape), "float32", True) for i, shape in enumerate(shapes)]
        self._layout = Layout.build(specs)
        self._flat = FlatOptimizer(optimizer, self._layout)
        self.slots = self._flat.initial_slots()
        self.iterations = 0

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the weights."""
        return [tensor.shape for tensor in self._layout.tensors]

    def apply(self, params: Sequence[Array], grads: Sequence[Array]) -> list[Array]:
        """The new weights, in the dtypes of ``params``; computed in float32."""
        opaque = np.zeros(0, np.uint8)
        weights, _ = self._layout.flatten([np.asarray(p, np.float32) for p in params], self._layout.new_flat(), opaque)
        gradient = [np.ascontiguousarray(g, np.float32) for g in grads]
        self._flat.apply(self.iterations, weights, self.slots, gradient)
        self.iterations += 1
        new = self._layout.unflatten(weights, opaque)
        return [value.astype(np.asarray(p).dtype, copy=False) for value, p in zip(new, params, strict=True)]

    def state(self) -> list[Array]:
        """The number of updates, then each slot of each weight, slot by slot; copies."""
        opaque = np.zeros(0, np.uint8)
        parts = [part for slot in self.slots for part in self._layout.unflatten(slot, opaque)]
        return [np.array(self.iterations, np.int64), *parts]

    def restore(self, values: Sequence[Array]) -> None:
        """Go on from what ``state`` gave."""
        count = len(self._layout.tensors)
        for slot, begin in zip(self.slots, range(1, len(values), max(count, 1)), strict=True):
            parts = [np.asarray(value, np.float32) for value in values[begin : begin + count]]
            self._layout.flatten(parts, slot, np.zeros(0, np.uint8))
        self.iterations = int(values[0])


class EarlierCalls:
    """What an optimizer of Elephas 0.2 to 0.4 could be asked. Its memory is that of this object alone: it takes no part
    in comparisons and is not pickled, copied or sent to a server."""

    def get_updates(
        self, params: Sequence[Any], constraints: Sequence[Callable[[Any], Any] | None] | None, grads: Sequence[Any]
    ) -> list[Array]:
        """The weights after one more update.

        ``params``, ``grads``: one array for each weight; a gradient may be a delta, weights before less after.
        ``constraints``: what each new weight is put through, ``None`` for none. Slots and the number of updates are
        kept from call to call. Raises ``ValueError`` where shapes or numbers do not fit.
        """
        shapes = [np.shape(p) for p in params]
        given = [np.shape(g) for g in grads]
        if shapes != given:
            raise ValueError(f"grads: expected the shapes of params, {shapes}, got {given}")
        projections = list(constraints or [None] * len(shapes))
        if len(projections) != len(shapes):
            raise ValueError(f"constraints: expected {len(shapes)} or none, got {len(projections)}")
        new = self._updates_for(shapes).apply(params, grads)
        return [
            value if project is None else np.asarray(project(value)).astype(value.dtype, copy=False)
            for value, project in zip(new, projections, strict=True)
        ]

    def get_state(self) -> list[Array]:
        """What ``get_updates`` remembers: the number of updates, then each slot of each weight, slot by slot; ``[]``
        before the first update."""
        updates = self._updates
        return [] if updates is None else updates.state()

    def set_state(self, value_list: Sequence[Any]) -> None:
        """Go on from what ``get_state`` of an equal optimizer gave; ``[]`` begins anew.

        Raises ``ValueError`` for a list of another length.
        """
        values = [np.asarray(value) for value in value_list]
        slots = len(self.slot_names)  # type: ignore[attr-defined]
        if not values:
            self._keep(None)
            return
        weights, rest = divmod(len(values) - 1, slots) if slots else (0, len(values) - 1)
        if rest:
            raise ValueError(
                f"value_list: expected the number of updates and {slots} slots for each weight, "
                f"got {len(values)} arrays"
            )
        updates = self._updates
        if slots or updates is None:
            updates = Updates(self, [value.shape for value in values[1 : 1 + weights]])  # type: ignore[arg-type]
        updates.restore(values)
        self._keep(updates)

    def _updates_for(self, shapes: list[tuple[int, ...]]) -> Updates:
        updates = self._updates
        if updates is None or not updates.shapes:
            fresh = Updates(self, shapes)  # type: ignore[arg-type]
            fresh.iterations = 0 if updates is None else updates.iterations
            self._keep(fresh)
            return fresh
        if updates.shapes != shapes:
            raise ValueError(f"params: expected the shapes of the first call, {updates.shapes}, got {shapes}")
        return updates

    @property
    def _updates(self) -> Updates | None:
        kept: Updates | None = self.__dict__.get("_kept_updates")
        return kept

    def _keep(self, updates: Updates | None) -> None:
        object.__setattr__(self, "_kept_updates", updates)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept_updates"}
