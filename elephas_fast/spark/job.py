"""A Spark job beside the driver's own loop: started in a thread, watched, cancelled as a group."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

from pyspark import RDD, InheritableThread, SparkContext

log = logging.getLogger("elephas_fast")


class Job:
    """``rdd.mapPartitions(function).collect()`` in a thread of its own, under a job group of its own."""

    def __init__(self, sc: SparkContext, rdd: RDD[Any], function: Callable[[Any], Any], description: str) -> None:
        self._sc = sc
        self._group = f"elephas_fast-{uuid.uuid4().hex}"
        self._result: list[Any] = []
        self._error: BaseException | None = None

        def run() -> None:
            try:
                sc.setJobGroup(self._group, description, interruptOnCancel=True)
                self._result = rdd.mapPartitions(function).collect()
            except BaseException as error:
                self._error = error

        self._thread = InheritableThread(target=run, name="elephas_fast-job", daemon=True)

    def start(self) -> None:
        """Submit the job."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the job is still under way."""
        return bool(self._thread.is_alive())

    def wait(self, timeout: float) -> None:
        """Wait for the job's end, ``timeout`` seconds at most."""
        self._thread.join(timeout)

    def result(self) -> list[Any]:
        """What the tasks returned; raises what ended the job. Only when not ``running``."""
        if self._error is not None:
            raise self._error
        return self._result

    def cancel(self, timeout: float) -> None:
        """Cancel this job only, and wait for its end up to ``timeout`` seconds."""
        if self._thread.is_alive():
            try:
                self._sc.cancelJobGroup(self._group)
            except Exception:
                log.debug("cancelling job group failed", exc_info=True)
            self._thread.join(timeout)
