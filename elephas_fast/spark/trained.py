"""The weights of a trained model and what Spark needs to predict with them, made once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pyspark import Broadcast
from pyspark.sql import DataFrame

from elephas_fast.keras_bridge import ModelSpec, describe
from elephas_fast.keras_bridge.configured import flattened, output_axes, unweighted
from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.spark.transform import Output, predictions

_BATCH_SIZE: Final = 256


@dataclass(frozen=True)
class _Ready:
    config: str
    objects: dict[str, Any]
    spec: ModelSpec
    buffers: tuple[Float32Array, ByteArray]
    axes: list[tuple[str, int, int]]


class Trained:
    """Weights (``None``: there are none; in a broadcast variable, as up to Elephas 1.4.1) as arrays in Keras' order.
    Thread-safe."""

    def __init__(self, weights: Any) -> None:
        if isinstance(weights, Broadcast):
            weights = weights.value
        self._given = weights is not None
        self.weights: list[Any] = [np.asarray(weight) for weight in weights or []]
        self._ready: _Ready | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"weights": self.weights if self._given else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["weights"])  # type: ignore[misc]

    def model(self, config: str, custom_objects: Mapping[str, Any]) -> Any:
        """A new Keras model with the weights."""
        model = unweighted(config, custom_objects)
        flattened(model, self._checked())
        model.set_weights(self.weights)
        return model

    def transform(
        self,
        df: DataFrame,
        column: str,
        names: Sequence[str],
        config: str,
        custom_objects: Mapping[str, Any],
        form: str,
        batch_size: int | None,
    ) -> DataFrame:
        """``df`` with a ``column`` of predictions for the columns ``names``, in ``form`` 'class', 'number' (where it is
        one number per row) or 'array'."""
        ready = self._prepared(config, dict(custom_objects))
        outputs = [
            Output(name, axes, "array" if form == "number" and (axes, last) != (1, 1) else form)
            for name, axes, last in ready.axes
        ]
        found = predictions(df, names, ready.spec, ready.buffers, outputs, batch_size or _BATCH_SIZE)
        return df.withColumn(column, found)

    def _prepared(self, config: str, custom_objects: dict[str, Any]) -> _Ready:
        with self._lock:
            ready = self._ready
            if ready is None or ready.config != config or ready.objects != custom_objects:
                model = unweighted(config, custom_objects)
                buffers = flattened(model, self._checked())
                spec = describe(model, custom_objects, update=None)
                self._ready = ready = _Ready(config, custom_objects, spec, buffers, output_axes(model))
            return ready

    def _checked(self) -> list[Any]:
        if not self._given:
            raise ValueError("weights: expected those of a trained model, got none; fit an ElephasEstimator first")
        return self.weights
