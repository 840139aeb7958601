"""A Spark job beside the driver's own loop: started in a thread, watched, cancelled alone."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Final, Protocol

from pyspark import InheritableThread, SparkContext
from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote

_AGAIN_SECONDS: Final = 0.5
log = logging.getLogger("elephas_fast")


class Mark(Protocol):
    """How Spark knows the jobs of one thread, to cancel them and no others."""

    def set(self) -> None:
        """Mark the jobs that this thread starts from now on."""

    def cancel(self) -> None:
        """End the jobs that are marked."""


class JobGroup:
    """The mark of a SparkContext."""

    def __init__(self, sc: SparkContext, description: str) -> None:
        self._sc = sc
        self._name = f"elephas_fast-{uuid.uuid4().hex}"
        self._description = description

    def set(self) -> None:
        """See ``Mark``."""
        self._sc.setJobGroup(self._name, self._description, interruptOnCancel=True)

    def cancel(self) -> None:
        """See ``Mark``."""
        self._sc.cancelJobGroup(self._name)


class Tag:
    """The mark of a session of Spark Connect, which has no SparkContext. Not of a classic one: its tags belong to the
    thread that set them, and no other can cancel by them."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._name = f"elephas_fast-{uuid.uuid4().hex}"

    def set(self) -> None:
        """See ``Mark``."""
        self._spark.addTag(self._name)

    def cancel(self) -> None:
        """See ``Mark``."""
        self._spark.interruptTag(self._name)


def mark_of(spark: SparkSession, description: str) -> Mark:
    """A mark for jobs of a session, by its context where it has one."""
    context = context_of(spark)
    return Tag(spark) if context is None else JobGroup(context, description)


def context_of(spark: SparkSession) -> SparkContext | None:
    """The SparkContext of a session; ``None`` for one of Spark Connect."""
    try:
        context = spark.sparkContext
    except Exception:  # each version says in its own way that there is none
        return None
    return context if isinstance(context, SparkContext) else None


def thread_of(target: Callable[[], None], name: str) -> threading.Thread:
    """A daemon thread whose Spark jobs have the settings of this one's; with Spark Connect, which has none that matter
    here, a plain one."""
    kind = threading.Thread if is_remote() else InheritableThread
    made: threading.Thread = kind(target=target, name=name, daemon=True)
    return made


class JobCancelled(Exception):
    """The result of a job that was cancelled before it was submitted."""


class Job:
    """``collect()``, which runs Spark jobs and returns what their tasks returned, in a thread of its own. ``ended`` is
    called there when the result is known and the job no longer ``running``."""

    def __init__(self, collect: Callable[[], list[Any]], mark: Mark, ended: Callable[[], None] | None = None) -> None:
        self._mark = mark
        self._result: list[Any] = []
        self._error: BaseException | None = None
        self._cancelled = threading.Event()
        self._ended = threading.Event()

        def run() -> None:
            try:
                mark.set()
                if self._cancelled.is_set():
                    raise JobCancelled
                self._result = collect()
            except BaseException as error:
                self._error = error
            finally:
                self._ended.set()
                if ended is not None:
                    ended()

        self._thread = thread_of(run, "elephas_fast-job")

    def start(self) -> None:
        """Submit the job."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the job is still under way."""
        return self._thread.ident is not None and not self._ended.is_set()

    def wait(self, timeout: float) -> None:
        """Wait for the job's end, ``timeout`` seconds at most."""
        self._ended.wait(timeout)

    def result(self) -> list[Any]:
        """What the tasks returned; raises what ended the job. Only when not ``running``."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result

    def cancel(self, timeout: float) -> None:
        """Cancel this job only, and wait for its end up to ``timeout`` seconds.

        Spark forgets a cancellation of jobs it does not know yet, and the thread may be about to submit one: it is said
        again until the thread has ended.
        """
        self._cancelled.set()
        deadline = time.monotonic() + timeout
        while self._thread.is_alive():
            try:
                self._mark.cancel()
            except Exception:
                log.debug("cancelling a job failed", exc_info=True)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._thread.join(min(left, _AGAIN_SECONDS))
