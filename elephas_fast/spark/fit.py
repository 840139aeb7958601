"""One ``fit`` on the driver: check, start a server, run the workers as a Spark job, watch, bring the weights home."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from pyspark import RDD, SparkContext, TaskContext

from elephas_fast.batches import collect
from elephas_fast.client import Client, connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.config import TrainingConfig
from elephas_fast.keras_bridge import describe, layout_of, merge_metrics, set_weights, weights_of
from elephas_fast.keras_bridge.driver import DriverCallbacks, optimizer_slots, set_optimizer_slots
from elephas_fast.layout import Float32Array, Layout
from elephas_fast.optimizers.constraints import can_project
from elephas_fast.server import FOREVER
from elephas_fast.spark.epochs import EpochBook
from elephas_fast.spark.interpreter import is_local, use_driver_python
from elephas_fast.spark.job import Job
from elephas_fast.spark.progress import Progress
from elephas_fast.spark.rows import blocks_of, first_row, split_tagged, spread, tagged
from elephas_fast.spark.slots import pool_of, task_slots
from elephas_fast.store import Counter
from elephas_fast.worker import PartitionSummary, WorkerTask, run_worker

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
    """What to train: a compiled ``model`` (whose weights are replaced), on ``rdd``, with ``num_workers`` partitions
    (``None``: those of the RDD), by ``optimizer`` on the server (``None``: plain subtraction). Where that is the
    model's own optimizer, its slots are taken from the model and given back."""

    model: Any
    rdd: RDD[Any]
    config: TrainingConfig
    num_workers: int | None
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
    partitions: list[PartitionSummary] = field(default_factory=list)


def fit(request: FitRequest) -> FitResult:
    """Train and put the new weights into ``request.model``.

    Raises, before the training job starts, ``ValueError`` or ``TypeError`` for input that cannot be trained on. If a
    worker fails the Spark error is raised and the model keeps its old weights. An interrupt cancels this fit's job
    only and leaves the last weights in the model. In every case server, port and memory are gone on return.
    """
    return _Fit(request).run()


class _Fit:
    def __init__(self, request: FitRequest) -> None:
        self._request = request
        self._config = request.config
        self._model = request.model
        self._sc: SparkContext = _context_of(request.rdd)
        use_driver_python(self._sc)
        self._spec = describe(request.model, request.custom_objects, update=request.config.update)  # type: ignore[arg-type]
        self._layout = layout_of(request.model)
        self._check_rows()
        self._callbacks = DriverCallbacks(
            request.model, request.callbacks, epochs=self._config.epochs, verbose=self._config.verbose
        )
        self._progress = Progress(self._config.verbose, self._config.epochs)
        self._rdd = spread(request.rdd, request.num_workers)
        self._partitions = self._rdd.getNumPartitions()
        self._slots = task_slots(self._sc)
        self._tasks = min(self._partitions, self._slots)
        self._book = EpochBook(self._partitions)
        self._seen = 0
        self._epoch = 0
        self._epoch_began = 0.0
        self._began = False
        self._stop_at = FOREVER
        self._histories: list[dict[str, list[float]]] = [{} for _ in range(self._partitions)]

    def _check_rows(self) -> None:
        first = first_row(self._request.rdd)
        if first is None:
            raise ValueError("rdd: expected at least one row to train on, got an empty RDD")
        blocks = blocks_of(self._request.rdd)
        collect([first], inputs=self._spec.inputs, outputs=self._spec.outputs)
        self._rows_known = None if blocks is None else blocks.rows

    def run(self) -> FitResult:
        """Train; see ``fit``."""
        flat, opaque = weights_of(self._model, self._layout)
        with ExitStack() as stack:
            stack.enter_context(pool_of(self._sc).take(self._tasks, self._slots, self._config.straggler_timeout))
            cluster = stack.enter_context(self._cluster(flat, opaque))
            observer = stack.enter_context(
                connect(
                    cluster.address,
                    transport=self._config.transport,
                    rounds=0,
                    timeout=self._config.server_timeout,
                    while_silent=cluster.check,
                )
            )
            self._announce(cluster)
            self._callbacks.train_begin()
            self._begin_epoch(observer)
            job = self._job(cluster)
            try:
                self._watch(job, cluster, observer)
            except BaseException as error:
                cluster.close()
                job.cancel(_CANCEL_SECONDS)
                if isinstance(error, KeyboardInterrupt):
                    self._load(cluster)
                raise
            cluster.close()
            self._drain(observer)
            self._finish_epochs(cluster, observer)
            if not self._callbacks.given:
                self._load(cluster)
            self._callbacks.train_end()
            return self._result(cluster, job.result())

    def _cluster(self, flat: Float32Array, opaque: Any) -> ParameterCluster:
        config = self._config
        cluster = ParameterCluster(
            flat,
            opaque=opaque,
            layout=_servable(self._layout, config.update),
            optimizer=self._request.optimizer,
            mode=config.mode,
            transport=config.transport,
            host=_driver_host(self._sc),
            port=config.port,
            access=config.access,
            on_nonfinite=config.on_nonfinite,
            staleness=config.staleness,
            workers=self._partitions,
            partitions=self._partitions,
            state_rate=1.0 if config.mode == "synchronous" else 1.0 / self._partitions,
        )
        state = self._request.state
        if self._by_model_optimizer:
            cluster.restore(*optimizer_slots(self._model, self._layout))
        elif state is not None and state.optimizer == cluster.settings.optimizer:
            cluster.restore(state.version, state.slots)
        self._first_version = cluster.version
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
            config.seed if config.seed is not None else int(np.random.SeedSequence().generate_state(1)[0] >> 1),
            self._threads(),
        )
        description = f"fit: {config.epochs} epochs, {config.mode}, {self._partitions} workers"
        job = Job(self._sc, tagged(self._rdd, self._tasks), _train_function(task), description)
        job.start()
        return job

    def _threads(self) -> int:
        """TensorFlow's threads in each worker: this machine's cores shared out, or what Spark gives a task."""
        if is_local(self._sc):
            return max(1, (os.cpu_count() or 1) // self._tasks)
        return int(self._sc.getConf().get("spark.task.cpus", "1") or 1)

    def _announce(self, cluster: ParameterCluster) -> None:
        config = self._config
        rhythm = f"one {config.frequency}" if isinstance(config.frequency, str) else f"{config.frequency} batches"
        tasks = "" if self._tasks == self._partitions else f" in {self._tasks} tasks at a time"
        self._progress.say(
            f"elephas_fast: {config.mode}, a round is {rhythm}, {self._partitions} workers{tasks} on "
            f"{self._sc.master}; parameter server at {cluster.address} (pid {cluster.pid}), "
            f"{self._layout.size:,} float32 parameters"
        )

    def _watch(self, job: Job, cluster: ParameterCluster, observer: Client) -> None:
        """Until the job ends: take reports, finish epochs, draw, see that nothing has died."""
        while job.running:
            cluster.check()
            self._drain(observer)
            self._finish_epochs(cluster, observer)
            self._draw()
            if self._config.on_nonfinite == "raise" and cluster.faults[Counter.NONFINITE.name.lower()]:
                raise NonFiniteUpdate(
                    "a worker's update held NaN or infinity; the weights before it are kept on the server "
                    "(on_nonfinite='reject' goes on without such updates)"
                )
            time.sleep(_POLL_SECONDS)
        job.result()

    def _drain(self, observer: Client) -> None:
        while True:
            observed, report, states = observer.observe(self._seen)
            self._seen = observed.seen
            if report is not None:
                self._book.take(report, states)
            if not observed.more:
                return

    def _draw(self) -> None:
        rows = self._book.rows_done(self._epoch)
        if rows and not self._began:
            self._began, self._epoch_began = True, time.monotonic()
        total = self._total_rows()
        seconds = time.monotonic() - self._epoch_began if self._began else 0.0
        self._progress.draw(self._epoch, rows, total, seconds, self._book.loss_so_far(self._epoch))

    def _total_rows(self) -> int | None:
        if self._epoch and self._book.complete(self._epoch - 1):
            return sum(entry.rows for entry in self._book.epoch(self._epoch - 1).values())
        if self._rows_known is None:
            return None
        return round(self._rows_known * (1.0 - self._config.validation_split))

    def _finish_epochs(self, cluster: ParameterCluster, observer: Client) -> None:
        """Finish every epoch that all partitions have reported, in order."""
        while self._epoch < min(self._config.epochs, self._stop_at) and self._book.complete(self._epoch):
            epoch = self._epoch
            entries = self._book.epoch(epoch)
            logs = merge_metrics(self._model, [entry.training for entry in entries.values()])
            validation = merge_metrics(self._model, [entry.validation for entry in entries.values()])
            logs.update({f"val_{name}": value for name, value in validation.items()})
            self._note_histories(epoch)
            if self._callbacks.given or self._request.validation_data is not None:
                self._load(cluster)
            if self._request.validation_data is not None:
                logs.update(self._validate())
            rows = sum(entry.rows for entry in entries.values())
            self._progress.epoch(epoch, rows, self._book.seconds(epoch), logs)
            self._callbacks.epoch_end(epoch, logs)
            self._epoch += 1
            self._began = False
            if self._callbacks.stopped:
                self._stop_at = self._epoch
                self._steer(observer)
            elif self._epoch < self._config.epochs:
                self._begin_epoch(observer)

    def _begin_epoch(self, observer: Client) -> None:
        self._callbacks.epoch_begin(self._epoch)
        if self._callbacks.given:
            self._steer(observer)

    def _steer(self, observer: Client) -> None:
        """Tell the workers how far they may go; with callbacks an epoch begins when those of the last are done."""
        rate = self._callbacks.new_learning_rate
        local = self._config.update == "delta"
        observer.steer(
            released=self._epoch + 1 if self._callbacks.given else FOREVER,
            stop_at=self._stop_at,
            learning_rate=rate if local else 0.0,
            server_learning_rate=0.0 if local else rate,
        )

    def _note_histories(self, epoch: int) -> None:
        for partition, entry in self._book.epoch(epoch).items():
            logs = merge_metrics(self._model, [entry.training])
            logs.update({f"val_{k}": v for k, v in merge_metrics(self._model, [entry.validation]).items()})
            for name, value in logs.items():
                self._histories[partition].setdefault(name, []).append(value)

    def _validate(self) -> dict[str, float]:
        data = self._request.validation_data
        assert data is not None
        logs = self._model.evaluate(*data[:2], sample_weight=data[2] if len(data) > 2 else None,
                                    batch_size=self._config.batch_size, verbose=0, return_dict=True)  # fmt: skip
        return {f"val_{name}": float(value) for name, value in logs.items()}

    def _load(self, cluster: ParameterCluster) -> None:
        """Put the server's present weights into the driver's model."""
        opaque = np.zeros(self._layout.opaque_size, np.uint8)
        set_weights(self._model, self._layout, cluster.pull(opaque=opaque), opaque)

    def _result(self, cluster: ParameterCluster, summaries: list[PartitionSummary]) -> FitResult:
        history = self._callbacks.history
        partitions = sorted(summaries, key=lambda s: s.partition)
        history.faults = cluster.faults
        history.partitions = partitions
        history.staleness = [self._book.staleness(epoch) for epoch in range(self._epoch)]
        history.updates = cluster.version - self._first_version
        state = ServerState(cluster.settings.optimizer, cluster.version, cluster.slots)
        if self._by_model_optimizer:
            set_optimizer_slots(self._model, self._layout, state.version, state.slots)
        return FitResult(history, [logs or None for logs in self._histories], state, partitions)


def _train_function(task: WorkerTask) -> Callable[[Iterable[Any]], Iterator[PartitionSummary]]:
    def train(items: Iterable[Any]) -> Iterator[PartitionSummary]:
        context = TaskContext.get()
        assert context is not None
        return iter(run_worker(task, split_tagged(items), attempt=context.taskAttemptId()))

    return train


def _context_of(rdd: Any) -> SparkContext:
    if not isinstance(rdd, RDD):
        raise TypeError(
            f"rdd: expected a Spark RDD of (x, y) rows, got {type(rdd).__name__}; "
            "make one with elephas_fast.utils.rdd_utils.to_simple_rdd(sc, x, y)"
        )
    return rdd.context


def _servable(layout: Layout, update: str) -> Layout:
    """The layout for the server. With ``update='delta'`` a constraint the server cannot apply (one that only exists in
    Python) is left to the workers' local training; with ``'gradient'`` it is an error, raised by the store."""
    if update == "gradient":
        return layout
    tensors = [t if t.constraint is None or can_project(t) else replace(t, constraint=None) for t in layout.tensors]
    return replace(layout, tensors=tuple(tensors))


def _driver_host(sc: SparkContext) -> str:
    """The address to listen on: loopback where driver and workers share a machine, else the driver's own."""
    if is_local(sc):
        return "127.0.0.1"
    conf = sc.getConf()
    host = conf.get("spark.driver.bindAddress") or conf.get("spark.driver.host")
    return host or urlsplit(sc.uiWebUrl or "").hostname or ""
