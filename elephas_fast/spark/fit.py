"""One ``fit`` on the driver: check, start a server, run the workers as a Spark job, watch, bring the weights home."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

from elephas_fast.client import Client, connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.config import TrainingConfig
from elephas_fast.keras_bridge import check_rows, describe, layout_of, set_weights, weights_of
from elephas_fast.keras_bridge.driver import DriverCallbacks, optimizer_slots, set_optimizer_slots
from elephas_fast.layout import Float32Array, Layout
from elephas_fast.optimizers import SGD
from elephas_fast.optimizers import get as get_optimizer
from elephas_fast.optimizers.constraints import can_project
from elephas_fast.spark.checkpoints import Reached, begin, checkpoints_of, refuse_other_rows
from elephas_fast.spark.epoch_loop import EpochLoop
from elephas_fast.spark.job import Job
from elephas_fast.spark.progress import Progress
from elephas_fast.spark.slots import pool_of
from elephas_fast.spark.source import Source
from elephas_fast.store import Counter, Snapshot
from elephas_fast.worker import PartitionSummary, WorkerTask

_POLL_SECONDS: Final = 0.05
_CANCEL_SECONDS: Final = 10.0


class NonFiniteUpdate(ArithmeticError):
    """A worker's update held NaN or infinity, and ``on_nonfinite='raise'`` was asked for."""


@dataclass
class ServerState:
    """What a server optimizer (its configuration in ``optimizer``) remembers from one ``fit`` to the next."""

    optimizer: dict[str, Any]
    version: int
    slots: dict[str, Float32Array]


@dataclass(frozen=True)
class FitRequest:
    """What to train: a compiled ``model`` (whose weights are replaced), on the rows of ``source``, by ``optimizer`` on
    the server (``None``: plain subtraction). Where that is the model's own optimizer, its slots are taken from the
    model and given back."""

    model: Any
    source: Source
    config: TrainingConfig
    optimizer: Any
    custom_objects: Mapping[str, Any] | None = None
    callbacks: Sequence[Any] | None = None
    validation_data: tuple[Any, ...] | None = None
    state: ServerState | None = None


@dataclass
class FitResult:
    """What came of it. ``history``: a Keras ``History``; ``histories``: its like for each partition."""

    history: Any
    histories: list[dict[str, list[float]] | None]
    state: ServerState


def fit(request: FitRequest) -> FitResult:
    """Train and put the new weights into ``request.model``.

    Raises, before the training job starts, ``ValueError`` or ``TypeError`` for input that cannot be trained on. If a
    worker fails the Spark error is raised and the model keeps its old weights. An interrupt cancels this fit's job
    only and leaves the last weights in the model. A resumed fit begins by putting the checkpoint's weights into the
    model. In every case server, port and memory are gone on return.
    """
    return _Fit(request).run()


class _Fit:
    def __init__(self, request: FitRequest) -> None:
        self._request = request
        self._config = request.config
        self._model = request.model
        self._source = request.source
        _check_weights_between_epochs(request)
        self._spec = describe(request.model, request.custom_objects, update=request.config.update)  # type: ignore[arg-type]
        self._layout = layout_of(request.model)
        self._callbacks = DriverCallbacks(
            request.model, request.callbacks, epochs=self._config.epochs, verbose=self._config.verbose
        )
        self._progress = Progress(self._config.verbose, self._config.epochs)
        optimizer = request.optimizer
        self._rule = SGD(learning_rate=1.0) if optimizer is None else get_optimizer(optimizer)
        self._checkpoints = checkpoints_of(
            self._config, self._spec, self._source.partitions, self._rule.to_config(), self._progress.say
        )
        self._start, self._resumed = begin(self._config, self._checkpoints)

    def run(self) -> FitResult:
        """Train; see ``fit``."""
        config = self._config
        if self._resumed is not None:
            set_weights(self._model, self._layout, self._resumed.weights, self._resumed.opaque)
            if self._start.epochs >= config.epochs:
                return self._nothing_left(self._resumed)
        flat, opaque = weights_of(self._model, self._layout)
        with ExitStack() as stack:
            if self._checkpoints is not None:
                stack.callback(self._checkpoints.finish)
            pool = pool_of(self._source.surroundings.application)
            stack.enter_context(pool.take(self._source.tasks, self._source.slots, config.straggler_timeout))
            cluster = self._cluster(flat, opaque)
            stack.callback(cluster.stop)
            cluster.launch()
            self._check_first_row()
            cluster.start()
            if self._resumed is None:
                self._start.first_version = cluster.version
            observer = connect(
                cluster.address,
                transport=config.transport,
                rounds=0,
                timeout=config.server_timeout,
                while_silent=cluster.check,
            )
            loop = self._loop(cluster, stack.enter_context(observer))
            self._announce(cluster)
            loop.begin()
            job = self._job(cluster)
            try:
                self._watch(job, cluster, loop)
            except BaseException as error:
                cluster.close()
                job.cancel(_CANCEL_SECONDS)
                if isinstance(error, KeyboardInterrupt):
                    loop.load_weights()
                if self._resumed is not None:
                    refuse_other_rows(error)
                raise
            cluster.close()
            loop.end()
            state = ServerState(cluster.settings.optimizer, cluster.version, cluster.slots)
            return self._result(loop.reached, job.result(), state)

    def _check_first_row(self) -> None:
        """Raise ``ValueError`` where there is no row, or the first does not fit the model or its loss."""
        first = self._source.first(self._spec)
        if first is None:
            raise ValueError("rdd: expected at least one row to train on, got an empty RDD")
        check_rows(self._model, first)

    def _loop(self, cluster: ParameterCluster, observer: Client) -> EpochLoop:
        return EpochLoop(
            self._model,
            self._config,
            self._layout,
            self._callbacks,
            self._progress,
            partitions=self._source.partitions,
            rows=self._source.rows,
            validation_data=self._request.validation_data,
            start=self._start,
            checkpoints=self._checkpoints,
            cluster=cluster,
            observer=observer,
        )

    def _cluster(self, flat: Float32Array, opaque: Any) -> ParameterCluster:
        config = self._config
        cluster = ParameterCluster(
            flat,
            opaque=opaque,
            layout=_servable(self._layout, config.update),
            optimizer=self._rule,
            mode=config.mode,
            transport=config.transport,
            security=config.security,
            host=self._source.surroundings.host,
            port=config.port,
            access=config.access,
            on_nonfinite=config.on_nonfinite,
            staleness=config.staleness,
            workers=self._source.partitions,
            partitions=self._source.partitions,
            state_rate=1.0 if config.mode == "synchronous" else 1.0 / self._source.partitions,
        )
        state = self._request.state
        if self._resumed is not None:
            cluster.restore(self._resumed.version, self._resumed.slots, self._resumed.lines)
        elif self._by_model_optimizer:
            cluster.restore(*optimizer_slots(self._model, self._layout))
        elif state is not None and state.optimizer == cluster.settings.optimizer:
            cluster.restore(state.version, state.slots)
        return cluster

    @property
    def _by_model_optimizer(self) -> bool:
        return self._request.optimizer is self._model.optimizer

    def _job(self, cluster: ParameterCluster) -> Job:
        config = self._config
        task = WorkerTask(
            cluster.address,
            self._spec,
            config,
            self._start.seed,
            self._threads(),
            self._start.epochs,
            tuple(self._start.rows),
        )
        description = f"fit: {config.epochs} epochs, {config.mode}, {self._source.partitions} workers"
        job = self._source.job(task, description)
        job.start()
        return job

    def _threads(self) -> int:
        """TensorFlow's threads in each worker: this machine's cores shared out, or what Spark gives a task."""
        surroundings = self._source.surroundings
        if surroundings.is_local:
            return max(1, (os.cpu_count() or 1) // self._source.tasks)
        return surroundings.task_cpus

    def _announce(self, cluster: ParameterCluster) -> None:
        config = self._config
        rhythm = f"one {config.frequency}" if isinstance(config.frequency, str) else f"{config.frequency} batches"
        source = self._source
        tasks = "" if source.tasks == source.partitions else f", {source.tasks} at a time,"
        self._progress.say(
            f"elephas_fast: {config.mode}, a round is {rhythm}, {source.partitions} workers{tasks} on "
            f"{source.where}; parameter server at {cluster.address} (pid {cluster.pid}), "
            f"{self._layout.size:,} float32 parameters"
        )

    def _watch(self, job: Job, cluster: ParameterCluster, loop: EpochLoop) -> None:
        """Until the job ends: let the loop take its turns and see that nothing has died."""
        patience = self._config.straggler_timeout
        deadline = time.monotonic() + patience
        while job.running:
            cluster.check()
            loop.turn()
            if not loop.heard and time.monotonic() > deadline:
                raise TimeoutError(
                    f"no worker has trained anything for {patience:.0f} s; see in the Spark UI whether the job's tasks "
                    "run and read their rows (straggler_timeout= waits longer)"
                )
            if self._config.on_nonfinite == "raise" and cluster.faults[Counter.NONFINITE.name.lower()]:
                raise NonFiniteUpdate(
                    "a worker's update held NaN or infinity and was refused; look at the rows and the learning rate "
                    "(on_nonfinite='reject' goes on without such updates)"
                )
            job.wait(_POLL_SECONDS)
        job.result()

    def _nothing_left(self, resumed: Snapshot) -> FitResult:
        """Of a fit whose epochs have all been trained before."""
        self._callbacks.train_begin()
        self._callbacks.go_on(self._start.epochs, self._start.history, self._start.rates)
        self._callbacks.train_end()
        return self._result(self._start, [], ServerState(self._rule.to_config(), resumed.version, resumed.slots))

    def _result(self, reached: Reached, summaries: list[PartitionSummary], state: ServerState) -> FitResult:
        history = self._callbacks.history
        history.faults = reached.faults
        history.partitions = sorted(summaries, key=lambda summary: summary.partition)
        history.staleness = reached.staleness
        history.updates = state.version - reached.first_version
        if self._by_model_optimizer:
            set_optimizer_slots(self._model, self._layout, state.version, state.slots)
        return FitResult(history, [logs or None for logs in reached.histories], state)


def _check_weights_between_epochs(request: FitRequest) -> None:
    """Raise ``ValueError`` where something asks for the weights after each epoch and they are averaged at the end."""
    wanted = "callbacks" if request.callbacks else "validation_data" if request.validation_data is not None else ""
    if wanted and request.config.sync_every == "fit":
        raise ValueError(
            f"{wanted}: need the weights after each epoch, got sync_every='fit', which averages them after the last; "
            "use sync_every='epoch', or validation_split"
        )


def _servable(layout: Layout, update: str) -> Layout:
    """The layout for the server. With ``update='delta'`` a constraint the server cannot apply (one that only exists in
    Python) is left to the workers' local training; with ``'gradient'`` it is an error, raised by the store."""
    if update == "gradient":
        return layout
    tensors = [t if t.constraint is None or can_project(t) else replace(t, constraint=None) for t in layout.tensors]
    return replace(layout, tensors=tuple(tensors))
