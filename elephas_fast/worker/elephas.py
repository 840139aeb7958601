"""Elephas' own workers, for scripts that drive them by hand: Keras trains a partition's rows in this process.

``SparkModel.fit`` does not use them; it has ``worker.run_worker``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from elephas_fast.batches import Arrays, collect, rounds
from elephas_fast.config import FREQUENCIES
from elephas_fast.keras_bridge.local_model import LocalModel
from elephas_fast.weight_service import WeightClient

Delta = list[NDArray[Any]]


class SparkWorker:
    """Trains a partition by itself, for a synchronous average.

    Args:
        json: ``model.to_json()``.
        parameters: the first weights: a list of arrays, or a Spark broadcast of one.
        train_config: keywords of ``keras.Model.fit``; ``nb_epoch`` means ``epochs``.
        master_optimizer: serialized by Keras, a name, or a Keras optimizer. ``master_loss``, ``master_metrics``: as
            for ``compile``.
        custom_objects: layers and functions of one's own.
    """

    def __init__(
        self,
        json: str,
        parameters: Any,
        train_config: Mapping[str, Any],
        master_optimizer: Any = "adam",
        master_loss: Any = "categorical_crossentropy",
        master_metrics: Any = None,
        custom_objects: Mapping[str, Any] | None = None,
    ) -> None:
        self.json = json
        self.parameters = parameters
        self.train_config = _fit_options(train_config)
        self.master_optimizer = master_optimizer
        self.master_loss = master_loss
        self.master_metrics = master_metrics
        self.custom_objects = custom_objects
        self.model: Any = None

    def train(self, data_iterator: Iterable[Any]) -> Iterator[list[Any]]:
        """Yields one ``[delta, history]``: for each weight before less after, and Keras' history by metric, ``None``
        where there are no rows. ``data_iterator``: ``(x, y)`` or ``(x, y, sample_weight)`` rows."""
        local, arrays = _prepared(self, data_iterator)
        before = local.weights
        history = local.fit(arrays, **self.train_config) if arrays.rows else None
        yield [_delta(before, local.weights), history]


class AsynchronousSparkWorker:
    """Trains a partition against a parameter server (``elephas_fast.parameter``), pulling before and pushing after
    each epoch or batch.

    Args as for ``SparkWorker``, and:
        client: an object with ``get_parameters`` and ``update_parameters``, or ``'http'`` or ``'socket'`` for the
            server of this host on port 4000.
        frequency: ``'epoch'``, ``'batch'`` or a number of batches.
    """

    def __init__(
        self,
        json: str,
        parameters: Any,
        client: Any,
        train_config: Mapping[str, Any],
        frequency: Any,
        master_optimizer: Any = "adam",
        master_loss: Any = "categorical_crossentropy",
        master_metrics: Any = None,
        custom_objects: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(client, str):
            if client not in ("http", "socket"):
                raise ValueError(f"client: expected 'http', 'socket' or a client, got {client!r}")
            client = WeightClient()
        frequency = getattr(frequency, "value", frequency)
        if isinstance(frequency, str) and frequency not in FREQUENCIES:
            raise ValueError(f"frequency: expected 'epoch', 'batch' or a number of batches, got {frequency!r}")
        self.json = json
        self.parameters = parameters
        self.client = client
        self.train_config = _fit_options(train_config)
        self.frequency = frequency
        self.master_optimizer = master_optimizer
        self.master_loss = master_loss
        self.master_metrics = master_metrics
        self.custom_objects = custom_objects
        self.model: Any = None

    def train(self, data_iterator: Iterable[Any]) -> Iterator[list[Any]]:
        """Yields one empty list when all has been pushed; what came of it is in the server."""
        local, arrays = _prepared(self, data_iterator)
        if arrays.rows:
            options = dict(self.train_config)
            epochs = options.pop("epochs", 1)
            for _ in range(epochs):
                if self.frequency == "epoch":
                    self._round(local, lambda: local.fit(arrays, epochs=1, **options))
                else:
                    self._batches(local, arrays, options)
        yield []

    def _batches(self, local: LocalModel, arrays: Arrays, options: Mapping[str, Any]) -> None:
        train, _ = arrays.split(options.get("validation_split", 0.0))

        def steps(batches: list[tuple[int, int]]) -> None:
            for begin, end in batches:
                local.train_on_batch(train.slice(begin, end))

        for batches in rounds(train.rows, options.get("batch_size") or 32, self.frequency):
            self._round(local, lambda batches=batches: steps(batches))

    def _round(self, local: LocalModel, train: Any) -> None:
        before = self.client.get_parameters()
        local.weights = before
        train()
        self.client.update_parameters(_delta(before, local.weights))


def _prepared(worker: SparkWorker | AsynchronousSparkWorker, rows: Iterable[Any]) -> tuple[LocalModel, Arrays]:
    """The worker's model with the first weights, and its rows."""
    local = LocalModel(
        worker.json, worker.master_optimizer, worker.master_loss, worker.master_metrics, worker.custom_objects
    )
    worker.model = local.model
    if worker.parameters is not None:
        local.weights = getattr(worker.parameters, "value", worker.parameters)
    return local, collect(rows, inputs=local.inputs, outputs=local.outputs)


def _fit_options(train_config: Mapping[str, Any]) -> dict[str, Any]:
    options = {"verbose": 0, **train_config}
    if "nb_epoch" in options:
        options["epochs"] = options.pop("nb_epoch")
    return options


def _delta(before: Delta, after: Delta) -> Delta:
    return [one - other for one, other in zip(before, after, strict=True)]
