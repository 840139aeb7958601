"""Trials of a hyper-parameter search as Spark tasks, or in the driver."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import sys
import sysconfig
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import cloudpickle
import pyarrow as pa
from pyspark import SparkContext, TaskContext
from pyspark.sql import SparkSession

from elephas_fast.keras_bridge import runtime
from elephas_fast.spark.interpreter import use_driver_python
from elephas_fast.spark.job import Job, JobGroup, mark_of, thread_of
from elephas_fast.transport import Address
from elephas_fast.tuning.desk import Listening
from elephas_fast.tuning.reporting import DeskClient
from elephas_fast.tuning.trial import Order, failed, run, worker_name
from elephas_fast.wire.objects import pack_object, unpack_object

_OBJECTIVES: Final = 2
log = logging.getLogger("elephas_fast")
Objective = Callable[[Any], Any]


@dataclass(frozen=True)
class Parcel:
    """The objective, with what it closes over, on its way to the workers: by ``broadcast``, or fetched from the desk
    where there is none. ``digest``: SHA-256 of its pickle."""

    digest: str
    address: Address
    broadcast: Any = None


class ContextTrials:
    """Each trial is a task of a SparkContext, in a job of its own. The objective is broadcast."""

    def __init__(self, sc: SparkContext, pickled: bytes, address: Address) -> None:
        use_driver_python(sc)
        self._sc = sc
        self._broadcast = sc.broadcast(pickled)
        self._parcel = Parcel(hashlib.sha256(pickled).hexdigest(), address, self._broadcast)

    def start(self, order: Order, done: Callable[[], None]) -> TaskRun:
        """See ``loop.Place``."""
        parcel, sc = self._parcel, self._sc

        def task(rows: Iterable[Any]) -> Iterator[bytes]:
            for _ in rows:  # Spark uses a worker again only where the last task read all its input
                pass
            yield _run_task(parcel, order)

        def collect() -> list[Any]:
            return list(sc.parallelize([0], 1).mapPartitions(task).collect())

        return TaskRun(Job(collect, JobGroup(sc, f"trial {order.number}"), done))

    def close(self) -> None:
        """Give the broadcast's memory back; a context that has been stopped has done so."""
        try:
            self._broadcast.destroy()
        except Exception:  # py4j raises anything here
            log.debug("destroying a broadcast failed", exc_info=True)


class SessionTrials:
    """Each trial is a task of a session, which needs no SparkContext. The objective is fetched from the desk."""

    def __init__(self, spark: SparkSession, pickled: bytes, address: Address) -> None:
        use_driver_python()
        self._spark = spark
        self._parcel = Parcel(hashlib.sha256(pickled).hexdigest(), address)

    def start(self, order: Order, done: Callable[[], None]) -> TaskRun:
        """See ``loop.Place``."""
        parcel, spark = self._parcel, self._spark

        def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for _ in batches:
                pass
            yield pa.RecordBatch.from_pydict({"result": [_run_task(parcel, order)]})

        def collect() -> list[Any]:
            rows = spark.range(0, 1, 1, 1).mapInArrow(task, "result binary").collect()
            return [bytes(row["result"]) for row in rows]

        return TaskRun(Job(collect, mark_of(spark, f"trial {order.number}"), done))

    def close(self) -> None:
        """Nothing is held."""


class TaskRun:
    """A trial in a Spark job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        job.start()

    @property
    def running(self) -> bool:
        """See ``loop.Run``."""
        return self._job.running

    def result(self) -> dict[str, Any]:
        """See ``loop.Run``."""
        (packed,) = self._job.result()
        found: dict[str, Any] = unpack_object(packed)
        return found

    def cancel(self, timeout: float) -> None:
        """See ``loop.Run``. Spark ends the task's Python worker."""
        self._job.cancel(timeout)


class DriverTrials:
    """Each trial runs in a thread of the driver, where it may train on all workers with ``SparkModel.fit``."""

    def __init__(self, objective: Objective, told: Listening) -> None:
        self._objective = objective
        self._told = told

    def start(self, order: Order, done: Callable[[], None]) -> ThreadRun:
        """See ``loop.Place``."""
        return ThreadRun(self._objective, self._told, order, done)

    def close(self) -> None:
        """Nothing is held."""


class TrialCancelled(BaseException):
    """Raised within a driver's trial that has been given up."""


class ThreadRun:
    """A trial in a thread of the driver."""

    def __init__(self, objective: Objective, told: Listening, order: Order, done: Callable[[], None]) -> None:
        self._result: dict[str, Any] = {}
        self._error: BaseException | None = None
        self._cancelled = False
        self._ended = threading.Event()

        def body() -> None:
            try:
                told.begun(order.number, 0, f"{worker_name()} (driver)")

                def send(epoch: int, loss: float) -> bool:
                    return told.reported(order.number, 0, epoch, loss)

                self._result = run(objective, order, send, first=False)
            except BaseException as error:
                self._error = error
            finally:
                self._ended.set()
                done()

        self._thread = thread_of(body, f"elephas_fast-trial-{order.number}")
        self._thread.start()

    @property
    def running(self) -> bool:
        """See ``loop.Run``."""
        return not self._ended.is_set()

    def result(self) -> dict[str, Any]:
        """See ``loop.Run``."""
        self._thread.join()
        if self._error is not None:
            raise RuntimeError(f"{type(self._error).__name__}: {self._error}") from self._error
        return self._result

    def cancel(self, timeout: float) -> None:
        """See ``loop.Run``. Raises ``TrialCancelled`` in the thread, at its next step of Python; a fit then ends as by
        Ctrl-C. A thread that does not come back from foreign code is left to itself. Once only: a second one would
        break off the clearing up after the first, and leave a job running."""
        if self._thread.ident is None or not self._thread.is_alive():
            return
        if not self._cancelled:
            self._cancelled = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident), ctypes.py_object(TrialCancelled)
            )
        self._thread.join(timeout)


def pickled(objective: Objective) -> bytes:
    """The objective for the workers: what it uses of the user's own modules by value, as workers may not find them;
    where a module holds what cannot be pickled, of the objective's own module alone.

    Raises ``ValueError`` for one that cannot be pickled.
    """
    own = _users_own()
    problem: Exception | None = None
    for by_value in (own, [module for module in own if module.__name__ == getattr(objective, "__module__", None)]):
        try:
            for module in by_value:
                cloudpickle.register_pickle_by_value(module)
            found: bytes = cloudpickle.dumps(objective)
            return found
        except Exception as error:  # anything, from the user's objects
            problem = problem or error
        finally:
            for module in by_value:
                cloudpickle.unregister_pickle_by_value(module)
    raise ValueError(
        f"objective: could not be sent to the workers ({type(problem).__name__}: {problem}); make what it uses within "
        "it, or search with trials_on='driver'"
    ) from problem


def _users_own() -> list[ModuleType]:
    """The modules that are neither ``__main__``, which is pickled by value anyway, nor installed, nor a part of one
    that is."""
    installed = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    installed.append(str(Path(__file__).parents[1]))
    folders = tuple(path + os.sep for folder in installed for path in (folder, os.path.realpath(folder)))
    known = {"__main__", *cloudpickle.list_registry_pickle_by_value()}
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        named = isinstance(module, ModuleType) and module.__name__ == name and name not in known
        if not named or not isinstance(file, str) or file.startswith(folders):
            continue
        if not os.path.realpath(file).startswith(folders):
            found.append(module)
    return found


_known: OrderedDict[str, Objective] = OrderedDict()
_lock = threading.Lock()


def _run_task(parcel: Parcel, order: Order) -> bytes:
    context = TaskContext.get()
    attempt = 0 if context is None else context.taskAttemptId()
    line = DeskClient(parcel.address, order.number, attempt)
    try:
        with _lock:
            first = parcel.digest not in _known
            objective = _unpacked(parcel, line, order.threads)
        if line.begin(worker_name()):
            return pack_object(failed("the driver has given it up"))
        return pack_object(run(objective, order, line.report, first=first))
    finally:
        line.close()


def _unpacked(parcel: Parcel, line: DeskClient, threads: int | None) -> Objective:
    """The objective, read once in each Python worker. One that names Keras has it imported before the trial begins."""
    if parcel.digest not in _known:
        data = line.fetch() if parcel.broadcast is None else parcel.broadcast.value
        if hashlib.sha256(data).hexdigest() != parcel.digest:
            raise ValueError("objective: expected what the driver pickled, got other bytes")
        if any(name in data for name in (b"keras", b"tensorflow")):
            runtime.start(threads, lean=True)
        _known[parcel.digest] = cloudpickle.loads(data)
        while len(_known) > _OBJECTIVES:
            _known.popitem(last=False)
    return _known[parcel.digest]
