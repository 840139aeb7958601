"""``SparkModel`` itself: a Keras model in the driver, trained by Spark's workers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elephas_fast.config import TrainingConfig, refuse_unknown, whole
from elephas_fast.keras_bridge.compiling import compile_with
from elephas_fast.spark import forms, hadoop, saving
from elephas_fast.spark.earlier import EarlierNames
from elephas_fast.spark.fit import FitRequest, ServerState, fit
from elephas_fast.spark.inference import evaluate, predict
from elephas_fast.spark.source import PairsSource

_CONFIG_OPTIONS = tuple(name for name, _, _ in TrainingConfig.table())
_FIT_ONLY = ("callbacks", "validation_data")
_SERVER_MODES = ("http", "socket", "auto", "shm", "ipc", "tcp")


def _option(name: str, meaning: str) -> Any:
    """A property for one field of ``config``, which checks what it is set to."""

    def get(model: SparkModel) -> Any:
        return getattr(model.config, name)

    def put(model: SparkModel, value: Any) -> None:
        model._config = model._config.with_options(**{name: value})

    return property(get, put, doc=meaning)


class SparkModel(EarlierNames):
    """A compiled Keras model, trained on the partitions of an RDD.

    The arguments below are today's, which those of Elephas 0.4 to 6 are too. The forms of 0.1 to 0.3, which begin with
    a Spark context (``SparkModel(sc, model, optimizer=..., frequency=..., mode=..., num_workers=4, master_loss=...)``),
    and of 7 (``SparkModel(model, num_workers, custom_objects, batch_size)``) are told apart by what stands where.
    Attributes that it does not have itself are those of ``master_network``.

    Args:
        model: a compiled ``keras.Model``; its weights are replaced by each ``fit``.
        mode: ``'synchronous'``, ``'asynchronous'`` or ``'hogwild'``. ``None``: synchronous, as Elephas 7; but
            asynchronous, as Elephas before it, where ``frequency``, ``parameter_server_mode``, ``port`` or
            ``elephas_optimizer`` is given, and in the form that begins with a Spark context.
        frequency: ``'epoch'`` (default), ``'batch'`` or a number of batches: how much is trained between a pull and
            a push.
        parameter_server_mode: Elephas' ``'http'`` and ``'socket'`` are accepted and mean ``'auto'``; otherwise a
            transport: ``'auto'``, ``'shm'``, ``'ipc'``, ``'tcp'``.
        num_workers: partitions to train on; ``None``: those of the RDD.
        custom_objects: layers, losses and metrics of your own that Keras cannot find by itself.
        batch_size: rows per batch, unless ``fit`` is given another.
        port: TCP port of the parameter server; ``None`` takes a free one.
        server_optimizer: what the server does with the workers' updates: an ``elephas_fast.optimizers`` object, a
            Keras optimizer, or a name. ``None``: plain subtraction for ``update='delta'``, the model's own optimizer
            for ``update='gradient'``.
        **options: any field of ``TrainingConfig`` (``update``, ``access``, ``staleness``, ``on_nonfinite``, ...).

    Raises ``TypeError`` for an unknown keyword and ``ValueError`` for a bad value, in one sentence. Separate objects
    may be used in separate threads at once; one object by one thread at a time.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._construct(self._form(arguments, keywords))

    @classmethod
    def _form(cls, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> forms.Construction:
        return forms.construction(cls.__name__, arguments, keywords)

    def _construct(self, form: forms.Construction) -> None:
        if form.compiled:
            compile_with(form.model, form.compiled)
        self._training = form.training
        self._set_up(form.model, **form.options)

    def _set_up(
        self,
        model: Any,
        mode: Any = None,
        frequency: Any = None,
        parameter_server_mode: str | None = None,
        num_workers: int | None = None,
        custom_objects: Mapping[str, Any] | None = None,
        batch_size: int = 32,
        port: int | None = None,
        *,
        server_optimizer: Any = None,
        **options: Any,
    ) -> None:
        options = forms.training(options, {})
        refuse_unknown(options, [*_CONFIG_OPTIONS], "keyword of SparkModel")
        if mode is None:
            older_form = frequency is not None or parameter_server_mode is not None or port is not None
            mode = "asynchronous" if older_form else "synchronous"
        transport = _transport(parameter_server_mode, options.pop("transport", None))
        self._config = TrainingConfig.of(
            mode=mode,
            frequency="epoch" if frequency is None else frequency,
            transport=transport,
            port=port,
            batch_size=batch_size,
            **options,
        )
        self.num_workers = _num_workers(num_workers)
        self.custom_objects = dict(custom_objects or {})
        self.parameter_server_mode = parameter_server_mode or transport
        self.server_optimizer = server_optimizer
        self.training_histories: list[dict[str, list[float]] | None] = []
        self._master_network = model
        self._state: ServerState | None = None
        saving.check_trainable(model, self._config.update, self.custom_objects)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        try:
            return getattr(self._master_network, name)
        except AttributeError:
            raise AttributeError(
                f"'{type(self).__name__}' object has no attribute '{name}', and neither has its master_network"
            ) from None

    @property
    def master_network(self) -> Any:
        """The driver's Keras model, which holds the trained weights."""
        return self._master_network

    @master_network.setter
    def master_network(self, model: Any) -> None:
        saving.check_trainable(model, self._config.update, self.custom_objects)
        self._master_network = model
        self._state = None

    mode = _option("mode", "``'synchronous'``, ``'asynchronous'`` or ``'hogwild'``.")
    frequency = _option("frequency", "``'epoch'``, ``'batch'`` or a number of batches.")
    batch_size = _option("batch_size", "Rows per batch unless ``fit`` is given another.")
    port = _option("port", "The TCP port asked for, or ``None``.")

    @property
    def config(self) -> TrainingConfig:
        """All options."""
        return self._config

    @property
    def weights(self) -> list[Any]:
        """The weights of ``master_network`` as NumPy arrays."""
        weights: list[Any] = self._master_network.get_weights()
        return weights

    @weights.setter
    def weights(self, weights: Sequence[Any]) -> None:
        self._master_network.set_weights(weights)

    def get_config(self) -> dict[str, Any]:
        """What ``save`` writes beside the model."""
        return saving.config_of(self._config, self.parameter_server_mode, self.num_workers, self.server_optimizer)

    def fit(self, rdd: Any, *arguments: Any, **options: Any) -> Any:
        """Train on an RDD of ``(x, y)`` or ``(x, y, sample_weight)`` rows; returns a Keras ``History``.

        By position: ``epochs, batch_size, verbose, validation_split``, as Elephas 0.4 had them.

        Args:
            rdd: made by ``to_simple_rdd``, or any RDD of such rows.
            epochs (or nb_epoch), batch_size, verbose, validation_split, shuffle, class_weight, seed, ...: fields of
                ``TrainingConfig``, for this call.
            checkpoint_dir, checkpoint_every, resume: save the fit in a folder of its own after so many epochs, and go
                on from there; raises ``ValueError`` where the newest checkpoint is of another fit.
            num_workers: for this call and later ones.
            callbacks: Keras callbacks, called in the driver at the beginning and end of training and epochs. With
                callbacks an epoch begins when those of the last have run.
            validation_data: ``(x, y)`` or ``(x, y, sample_weight)``, evaluated in the driver after each epoch.

        The history holds loss and metrics of each epoch over the rows of all workers (``val_*`` for validation),
        ``faults`` (what was refused or repeated), ``partitions`` (rows, host and way of each), ``staleness`` (mean,
        in updates) and ``updates``. ``training_histories`` has the same for each partition.
        """
        options = forms.bind("fit", ("epochs", *forms.TRAINING), arguments, options)
        options = forms.training(options, self._training)
        forms.refuse_keras_only(options)
        if "num_workers" in options:
            self.num_workers = _num_workers(options.pop("num_workers"))
        refuse_unknown(options, [*_CONFIG_OPTIONS, *_FIT_ONLY], "keyword of fit")
        own = {name: options.pop(name, None) for name in _FIT_ONLY}
        config = self._config.with_options(**options)
        request = FitRequest(
            model=self._master_network,
            source=PairsSource(rdd, self.num_workers),
            config=config,
            optimizer=self._server_optimizer(config),
            custom_objects=self.custom_objects,
            callbacks=own["callbacks"],
            validation_data=own["validation_data"],
            state=self._state,
        )
        result = fit(request)
        self.training_histories = result.histories
        self._state = result.state
        return result.history

    def _server_optimizer(self, config: TrainingConfig) -> Any:
        if self.server_optimizer is None and config.update == "gradient":
            return self._master_network.optimizer
        return self.server_optimizer

    def predict(self, data: Any, *, batch_size: int | None = None) -> Any:
        """The output for each row, in order, as a list: of an array or of an RDD of rows.

        A model made in the form of Elephas 0.1 to 0.4 gives one array, as they did.
        """
        rows = predict(
            self._master_network, data, batch_size=batch_size or self.batch_size, custom_objects=self.custom_objects
        )
        return np.asarray(rows) if self._training and len(self._master_network.outputs) == 1 else rows

    def evaluate(
        self,
        x_test: Any,
        y_test: Any = None,
        *,
        batch_size: int | None = None,
        sample_weight: Any = None,
        verbose: int = 0,
        return_dict: bool = False,
        show_accuracy: bool = False,
    ) -> Any:
        """Loss, or ``[loss, metric, ...]``, over all rows of arrays or of an RDD of pairs.

        ``return_dict``: by name instead. ``verbose`` 1 prints the results. ``show_accuracy``, which Keras had before
        metrics, asks that accuracy is among them.
        """
        logs = evaluate(
            self._master_network,
            x_test,
            y_test,
            batch_size=batch_size or self.batch_size,
            sample_weight=sample_weight,
            custom_objects=self.custom_objects,
        )
        if show_accuracy and not any("acc" in name for name in logs):
            raise ValueError("show_accuracy: expected a model compiled with metrics=['accuracy'], got one without")
        if verbose:
            print("  ".join(f"{name} {value:.4f}" for name, value in logs.items()))
        if return_dict:
            return logs
        values = list(logs.values())
        return values[0] if len(values) == 1 else values

    def save(self, file_name: str | os.PathLike[str], overwrite: bool = False, to_hadoop: bool = False) -> None:
        """Save model and configuration to a ``.keras`` or ``.h5`` file, which Keras alone can load too.

        ``to_hadoop``: ``file_name`` is a path of Spark's Hadoop file systems; so is one with ``://`` in it.
        """
        file_name = os.fspath(file_name)
        name, config = type(self).__name__, self.get_config()
        if not (to_hadoop or "://" in file_name):
            saving.save(self._master_network, file_name, name, config, overwrite=overwrite)
            return
        with saving.beside(file_name) as local:
            saving.save(self._master_network, local, name, config, overwrite=False)
            hadoop.upload(local, file_name, overwrite=overwrite)


SparkModel.__signature__ = forms.signature(SparkModel._set_up)  # type: ignore[attr-defined]


class AsynchronousSparkModel(SparkModel):
    """Elephas 7's form of the asynchronous modes: ``AsynchronousSparkModel(model, num_workers, custom_objects,
    batch_size, mode, frequency, parameter_server_mode, port)``; ``mode`` is 'asynchronous' unless given."""

    @classmethod
    def _form(cls, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> forms.Construction:
        return forms.fixed_construction(cls.__name__, forms.ASYNCHRONOUS, "asynchronous", arguments, keywords)


AsynchronousSparkModel.__signature__ = forms.signature(  # type: ignore[attr-defined]
    SparkModel._set_up, forms.ASYNCHRONOUS, mode="asynchronous", frequency="epoch"
)


def _transport(parameter_server_mode: str | None, transport: str | None) -> str:
    if parameter_server_mode is not None and parameter_server_mode not in _SERVER_MODES:
        expected = ", ".join(map(repr, _SERVER_MODES))
        raise ValueError(f"parameter_server_mode: expected one of {expected}, got {parameter_server_mode!r}")
    if transport == "inproc":
        raise ValueError(
            "transport: 'inproc' stays within one process and Spark workers have their own; "
            "use 'auto', 'shm', 'ipc' or 'tcp'"
        )
    if transport is not None:
        return transport
    return "auto" if parameter_server_mode in (None, "http", "socket") else parameter_server_mode


def _num_workers(value: Any) -> int | None:
    return None if value is None else whole("num_workers", value, 1)
