"""A model that Keras itself trains in this process, on rows read by ``batches``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast.input_spec import InputSpec
from elephas_fast.keras_bridge import runtime
from elephas_fast.keras_bridge.serialization import model_of
from elephas_fast.keras_bridge.structure import structure_of


class LocalModel:
    """Built from ``model.to_json()`` and compiled; its optimizer is its own and goes on from call to call.

    ``optimizer``: serialized, a name, or a Keras optimizer, which is copied. Not thread-safe. Raises ``ValueError`` for
    a description that Keras cannot build.
    """

    def __init__(
        self, json: str, optimizer: Any, loss: Any, metrics: Any, custom_objects: Mapping[str, Any] | None
    ) -> None:
        keras = runtime.keras()
        self.model = model_of("json", json, custom_objects)
        with keras.saving.custom_object_scope(dict(custom_objects or {})):
            if isinstance(optimizer, keras.optimizers.Optimizer):
                optimizer = keras.optimizers.serialize(optimizer)
            self.model.compile(optimizer=keras.optimizers.get(optimizer), loss=loss, metrics=metrics)
        self._structure = structure_of(self.model)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What rows are to be read as x."""
        return self._structure.inputs

    @property
    def outputs(self) -> tuple[InputSpec, ...]:
        """What rows are to be read as y."""
        return self._structure.outputs

    @property
    def weights(self) -> list[NDArray[Any]]:
        """Copies of the weights."""
        return [np.array(weight) for weight in self.model.get_weights()]

    @weights.setter
    def weights(self, weights: Sequence[NDArray[Any]]) -> None:
        self.model.set_weights(weights)

    def fit(self, arrays: Any, **options: Any) -> dict[str, list[float]]:
        """``keras.Model.fit`` on ``batches.Arrays``; the history by metric."""
        x, y, sample_weight = self._packed(arrays)
        history: dict[str, list[float]] = self.model.fit(x, y, sample_weight=sample_weight, **options).history
        return history

    def train_on_batch(self, arrays: Any) -> None:
        """One step on all the rows."""
        self.model.train_on_batch(*self._packed(arrays))

    def _packed(self, arrays: Any) -> tuple[Any, Any, Any]:
        weights = arrays.sample_weight
        if weights is not None:
            weights = weights[0] if len(weights) == 1 else self._structure.pack_outputs(weights)
        return self._structure.pack_inputs(arrays.x), self._structure.pack_outputs(arrays.y), weights
