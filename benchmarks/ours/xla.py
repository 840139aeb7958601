"""Fits of three kinds of networks on local[2], with and without the trial of XLA, in a process of their own."""

from __future__ import annotations

import os
import time
from typing import Any

os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"

from pyspark import SparkConf, SparkContext

from benchmarks.conversation import serve
from benchmarks.peers.task import Rows
from elephas_fast import SparkModel
from elephas_fast.utils.rdd_utils import to_simple_rdd

SHAPES = {"MLP 784-128-128": (784,), "LSTM of 32, 28 steps": (28, 28), "CNN of 16 and 32": (28, 28, 1)}


def network(kind: str) -> Any:
    """A compiled classifier of the 784 pixels, in the shape of SHAPES."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    inside = {
        "MLP": [layers.Dense(128, activation="relu"), layers.Dense(128, activation="relu")],
        "LSTM": [layers.LSTM(32)],
        "CNN": [
            layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
        ],
    }[kind.split()[0]]  # fmt: skip
    model = keras.Sequential([keras.Input(SHAPES[kind]), *inside, layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Session:
    """One Spark session over the rows of one file."""

    def open(self, data: str, workers: int) -> dict[str, Any]:
        conf = SparkConf().setAppName("xla").setMaster(f"local[{workers}]").set("spark.ui.enabled", "false")
        conf.set("spark.driver.bindAddress", "127.0.0.1")
        self.context = SparkContext.getOrCreate(conf)
        self.context.setLogLevel("ERROR")
        self.workers = workers
        self.rows = Rows(data)
        self.rdds: dict[tuple[str, int], Any] = {}
        return {"rows": len(self.rows.x_train)}

    def fit(self, kind: str, rows: int, epochs: int, frequency: str, xla: str) -> dict[str, Any]:
        """One fit of a new network: its seconds and losses."""
        key = (kind, rows)
        if key not in self.rdds:
            x = self.rows.x_train[:rows].reshape(-1, *SHAPES[kind])
            self.rdds[key] = to_simple_rdd(self.context, x, self.rows.y_train[:rows]).cache()
            self.rdds[key].count()
        spark_model = SparkModel(
            network(kind), mode="synchronous", frequency=frequency, num_workers=self.workers, xla=xla, seed=0
        )
        begin = time.perf_counter()
        history = spark_model.fit(self.rdds[key], epochs=epochs, batch_size=32, verbose=0)
        return {"seconds": time.perf_counter() - begin, "loss": [float(loss) for loss in history.history["loss"]]}


if __name__ == "__main__":
    session = Session()
    serve({"open": session.open, "fit": session.fit})
