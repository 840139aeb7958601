"""Elephas 7.3.0's fit on local[2], as a script of that release calls it. Runs in its environment.

Every fit has a new network and a new SparkModel on a free port: a second fit of one asynchronous SparkModel
raises 'process object is closed'. The session, its Python workers and the RDD stay.
"""

from __future__ import annotations

import os
import time
from typing import Any

os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"

from elephas.spark_model import (  # type: ignore[import-not-found]
    AsynchronousSparkModel,
    SparkModel,
)
from elephas.utils.rdd_utils import to_simple_rdd  # type: ignore[import-not-found]
from pyspark import SparkConf, SparkContext

from benchmarks.conversation import serve
from benchmarks.peers.elephas_transport import versions
from benchmarks.peers.task import Rows, free_port, network

FEW = 640


class Session:
    """One Spark session over the rows of one file."""

    def open(self, data: str, workers: int, rows: int | None = None) -> dict[str, Any]:
        conf = SparkConf().setAppName("elephas").setMaster(f"local[{workers}]")
        conf.set("spark.driver.memory", "4g").set("spark.ui.enabled", "false")
        conf.set("spark.driver.bindAddress", "127.0.0.1")
        self.context = SparkContext.getOrCreate(conf)
        self.context.setLogLevel("ERROR")
        self.workers = workers
        self.rows = Rows(data)
        self.count = rows or len(self.rows.x_train)
        x, y = self.rows.x_train[: self.count], self.rows.y_train[: self.count]
        self.rdd = to_simple_rdd(self.context, x, y)
        self.few = to_simple_rdd(self.context, x[:FEW], y[:FEW])
        return {"rows": self.count}

    def fit(
        self, mode: str, frequency: str, epochs: int, batch_size: int, units: list[int],
        optimizer: str = "adam", seed: int = 0, server: str = "http", warm: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        """One fit. Returns seconds of `fit` alone, rows/s over all epochs, accuracy on the test rows. warm: a short fit
        before it is not counted, because Spark ends Python workers that have had nothing to do for a minute.
        """

        def train(rdd: Any, epochs: int) -> tuple[Any, float]:
            model = network(units, optimizer, seed)
            if mode == "synchronous":
                spark_model = SparkModel(model, num_workers=self.workers)
            else:
                spark_model = AsynchronousSparkModel(
                    model, num_workers=self.workers, mode=mode, frequency=frequency,
                    parameter_server_mode=server, port=free_port(),
                )  # fmt: skip
            begin = time.perf_counter()
            spark_model.fit(rdd, epochs=epochs, batch_size=batch_size, verbose=0, validation_split=0.0)
            return spark_model, time.perf_counter() - begin

        if warm:
            train(self.few, 1)
        spark_model, seconds = train(self.rdd, epochs)
        return {
            "seconds": seconds,
            "rows_per_second": self.count * epochs / seconds,
            "accuracy": self.rows.accuracy(spark_model.master_network),
        }


if __name__ == "__main__":
    session = Session()
    serve({"open": session.open, "fit": session.fit, "versions": versions})
