"""elephas_fast's fit on local[2], with the same calls as `benchmarks.peers.elephas_fit`."""

from __future__ import annotations

import os
import time
from typing import Any

os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"

from pyspark import SparkConf, SparkContext

from benchmarks.conversation import serve
from benchmarks.peers.task import Rows, network, peak_memory
from elephas_fast import SparkModel
from elephas_fast.optimizers import SGD
from elephas_fast.utils.rdd_utils import to_simple_rdd

FEW = 640


class Session:
    """One Spark session over the rows of one file."""

    def open(self, data: str, workers: int, rows: int | None = None) -> dict[str, Any]:
        conf = SparkConf().setAppName("elephas_fast").setMaster(f"local[{workers}]")
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
        optimizer: str = "adam", seed: int = 0, share: float = 1.0, warm: bool = True, **options: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """One fit of a new network. Returns seconds of `fit` alone, rows/s over all epochs, accuracy on test
        rows. share: what of each worker's change the server applies; warm: a short fit before it is not counted,
        because Spark ends Python workers that have had nothing to do for a minute.
        """

        def train(rdd: Any, epochs: int) -> tuple[SparkModel, float]:
            spark_model = SparkModel(
                network(units, optimizer, seed), mode=mode, frequency=frequency, num_workers=self.workers,
                server_optimizer=SGD(share), seed=seed, **options,
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

    def memory(self) -> dict[str, Any]:
        """The peak memory of the workers so far, MiB, and what their rows take."""
        peaks = self.context.parallelize(range(self.workers), self.workers).map(lambda _: peak_memory()).collect()
        rows = (self.rows.x_train[: self.count].nbytes + self.rows.y_train[: self.count].nbytes) / self.workers
        return {"peaks": peaks, "rows": rows / 2**20}


if __name__ == "__main__":
    session = Session()
    serve({"open": session.open, "fit": session.fit, "memory": session.memory})
