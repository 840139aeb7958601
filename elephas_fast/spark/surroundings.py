"""What a fit has to know of the Spark application it runs in, from a context or from a session alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from pyspark import SparkContext
from pyspark.sql import SparkSession

from elephas_fast.spark.interpreter import is_local_master
from elephas_fast.transport import is_this_host, own_address_towards


@dataclass(frozen=True)
class Surroundings:
    """``application``: Spark's id of it; ``setting``: the value of a configuration key, ``None`` where it is not set;
    ``counted``: the tasks that can run at once as the scheduler counts them, ``None`` where it cannot be asked;
    ``far``: a server of Spark Connect on another machine, where Spark's driver is, and this program is not."""

    application: str
    master: str
    setting: Callable[[str], str | None]
    counted: Callable[[], int | None]
    far: str = ""

    @property
    def is_local(self) -> bool:
        """Whether the workers run on the driver's machine, as its own tasks."""
        return not self.far and is_local_master(self.master)

    @property
    def host(self) -> str:
        """The address for a server to listen on: loopback where driver and workers share a machine, else the driver's
        own; that by which a far server sees this machine, or SPARK_LOCAL_IP."""
        if self.is_local:
            return "127.0.0.1"
        if self.far:
            return os.environ.get("SPARK_LOCAL_IP") or _address_towards(self.far)
        return self.setting("spark.driver.bindAddress") or self.setting("spark.driver.host") or ""

    @property
    def task_cpus(self) -> int:
        """Cores that Spark gives a task."""
        return int(self.setting("spark.task.cpus") or 1)

    def slots(self, unknown: int) -> int:
        """Tasks that can run at once, at least 1; ``unknown`` where neither scheduler nor configuration tells."""
        return max(1, self.counted() or self._configured() or unknown)

    def _configured(self) -> int | None:
        local = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\s*\d+)?\])?", self.master)
        if local:
            threads = local[1] or "1"
            return (os.cpu_count() or 1) if threads == "*" else int(threads)
        cores, instances = self.setting("spark.cores.max"), self.setting("spark.executor.instances")
        if cores is None and instances is not None:
            cores = str(int(instances) * int(self.setting("spark.executor.cores") or 1))
        return None if cores is None else int(cores) // self.task_cpus


def of_context(sc: SparkContext) -> Surroundings:
    """Those of a SparkContext."""
    conf = sc.getConf()
    return Surroundings(str(sc.applicationId), str(sc.master), conf.get, lambda: _counted(sc))


def of_session(spark: SparkSession) -> Surroundings:
    """Those of a session. Only its configuration is needed; a SparkContext of this process is asked where there is
    one."""

    def setting(name: str) -> str | None:
        value = spark.conf.get(name, None)
        return None if value is None else str(value)

    return Surroundings(
        setting("spark.app.id") or "",
        setting("spark.master") or "",
        setting,
        lambda: _counted(SparkContext._active_spark_context),
        far_server(spark),
    )


def far_server(spark: SparkSession) -> str:
    """The host of a session's Spark Connect server where that is another machine; else nothing."""
    try:
        host = str(spark.client.host)
    except Exception:  # a classic session says in its own way that it has none
        return ""
    return "" if is_this_host(host) else host


def _address_towards(host: str) -> str:
    try:
        return own_address_towards(host)
    except OSError as error:
        raise ValueError(
            f"host: found no address by which {host} sees this machine ({error}); set the environment variable "
            "SPARK_LOCAL_IP to one"
        ) from None


def _counted(sc: SparkContext | None) -> int | None:
    java = getattr(sc, "_jsc", None)
    try:
        scala = java.sc()  # type: ignore[union-attr]
        return int(scala.maxNumConcurrentTasks(scala.resourceProfileManager().defaultResourceProfile()))
    except Exception:  # py4j, or a gateway that does not admit the call, raises anything here
        return None if sc is None else _parallelism(sc)


def _parallelism(sc: SparkContext) -> int | None:
    try:
        return int(sc.defaultParallelism)
    except Exception:
        return None
