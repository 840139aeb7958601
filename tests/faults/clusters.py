"""Spark clusters of the tests' own, each with its driver in a child process: ``local[n, failures]``,
``local-cluster[n, 1, memory]`` (executors that can be lost) and a standalone master whose workers have host names of
their own, without which Spark never starts a speculative copy."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext, find_spark_home

ROOT = Path(__file__).parents[2]
_READY_SECONDS = 180.0


def run_child(module: str, *arguments: object, timeout: float) -> dict[str, Any]:
    """What ``python -m tests.faults.<module>`` prints in its last line, as JSON. Fails with all it printed if it ends
    otherwise or takes longer than ``timeout`` seconds; none of its processes outlives this call."""
    child = start_child(module, *arguments)
    try:
        output, errors = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        end_group(child)
        output, errors = child.communicate(timeout=20)
        raise AssertionError(f"{module}: still running after {timeout:.0f} s\n{output}{errors}") from None
    finally:
        end_group(child)
    lines = output.strip().splitlines()
    if child.returncode or not lines:
        raise AssertionError(f"{module}: ended with status {child.returncode}\n{output}{errors}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def start_child(module: str, *arguments: object) -> subprocess.Popen[str]:
    """``python -m tests.faults.<module>`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable},
        start_new_session=True,
    )


def end_group(child: subprocess.Popen[str]) -> None:
    """Kill what is left of a child's process group; stopped processes too."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def context(master: str, **settings: object) -> SparkContext:
    """A context whose Python workers are forked from a process that has Keras already, because each kill is followed
    by a new worker, and importing Keras takes as long as twenty of these tests' fits. Dots in ``settings`` are written
    as double underscores and ``spark.`` is left out."""
    conf = (
        SparkConf()
        .setMaster(master)
        .setAppName("elephas_fast faults")
        .set("spark.ui.enabled", "false")
        .set("spark.ui.showConsoleProgress", "false")
        .set("spark.log.level", "OFF")
        .set("spark.driver.host", "127.0.0.1")
        .set("spark.driver.bindAddress", "127.0.0.1")
        .set("spark.python.daemon.module", "elephas_fast.spark.daemon")
        .set("spark.executorEnv.PYTHONPATH", str(ROOT))
        .set("spark.executorEnv.TF_CPP_MIN_LOG_LEVEL", "3")
    )
    for name, value in settings.items():
        conf.set("spark." + name.replace("__", "."), str(value))
    return SparkContext(conf=conf)


def await_executors(sc: SparkContext, count: int) -> None:
    """Wait until so many executors have come."""
    deadline = time.monotonic() + _READY_SECONDS
    while len(sc._jsc.sc().statusTracker().getExecutorInfos()) <= count:  # the driver is counted too
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected {count} executors within {_READY_SECONDS:.0f} s")
        time.sleep(0.1)


def failed_tasks(sc: SparkContext) -> int:
    """Tasks that failed, over all stages of this context; killed ones do not count."""
    tracker = sc.statusTracker()
    stages = [tracker.getStageInfo(stage) for stage in range(1000)]
    return sum(stage.numFailedTasks for stage in stages if stage is not None)


class Standalone:
    """A master on 127.0.0.1 and ``workers`` workers on 127.0.0.2 and following; use as a context manager.

    ``url``: for ``setMaster``; ``workers``: their processes. Logs and work files are in ``folder``.
    """

    def __init__(self, folder: Path, workers: int, cores: int) -> None:
        self._folder = folder
        self._count, self._cores = workers, cores
        self._master: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self.url = ""

    def __enter__(self) -> Standalone:
        try:
            place = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
            self._master = self._start("master.Master", "master", *place)
            self.url = self._said("master", r"Starting Spark master at (spark://\S+)")
            for number in range(self._count):
                host = f"127.0.0.{number + 2}"
                room = ["--cores", str(self._cores), "--memory", "2g", "--work-dir", str(self._folder / "work")]
                place = ["--host", host, "--port", "0", "--webui-port", "0"]
                self.workers.append(self._start("worker.Worker", host, *place, *room, self.url))
            for number in range(self._count):
                self._said(f"127.0.0.{number + 2}", r"(Successfully registered with master)")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for process in filter(None, [*self.workers, self._master]):
            process.kill()
            process.wait(20)

    def _start(self, kind: str, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self._folder / f"{name}.log", "wb") as log:
            return subprocess.Popen(
                [
                    f"{find_spark_home._find_spark_home()}/bin/spark-class",
                    f"org.apache.spark.deploy.{kind}",
                    *arguments,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
            )

    def _said(self, name: str, pattern: str) -> str:
        deadline = time.monotonic() + _READY_SECONDS
        while not (found := re.search(pattern, (self._folder / f"{name}.log").read_text())):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name}: {(self._folder / f'{name}.log').read_text()}")
            time.sleep(0.1)
        return found[1]
