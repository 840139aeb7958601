"""One script for both: what a user of Elephas 7.3.0 writes. It runs in Elephas' environment as it is, and in ours, by
`benchmarks.ours.dropin`, with `elephas` meaning this package.

Every fit has a new network and a new model on a free port: a second fit of one asynchronous model of Elephas raises. A
short call of the same kind comes before each that is timed, because Spark ends Python workers that have had nothing
to do for a minute.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"

import numpy as np
from elephas.ml_model import ElephasEstimator, ElephasTransformer  # type: ignore[import-not-found]
from elephas.spark_model import AsynchronousSparkModel, SparkModel  # type: ignore[import-not-found]
from elephas.utils.model_utils import ModelType  # type: ignore[import-not-found]
from elephas.utils.rdd_utils import to_simple_rdd  # type: ignore[import-not-found]
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

from benchmarks.conversation import serve
from benchmarks.peers.task import Rows, free_port, network

UNITS = [128, 128]
FEW = 640
BATCH = 32


def seconds_of(call: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begin


class Session:
    """One Spark session over the rows of one file and, where `write` has made them, the frames of one folder."""

    def open(self, data: str, workers: int) -> dict[str, Any]:
        builder = SparkSession.builder.appName("dropin").master(f"local[{workers}]").config("spark.ui.enabled", "false")
        builder = builder.config("spark.driver.memory", "4g").config("spark.driver.bindAddress", "127.0.0.1")
        self.spark = builder.getOrCreate()
        self.context = self.spark.sparkContext
        self.context.setLogLevel("ERROR")
        self.workers = workers
        self.rows = Rows(data)
        return {"rows": len(self.rows.x_train)}

    def write(self, data: str, folder: str) -> dict[str, Any]:
        """Parquet of the rows (`train`, `few`, `test`: number, ml vector, label) and weights for the network."""
        parts = 4 * self.workers
        for name, part, rows in (
            ("train", "train", len(self.rows.x_train)), ("few", "train", FEW), ("test", "test", len(self.rows.x_test)),
        ):  # fmt: skip
            bounds = [(rows * i // parts, rows * (i + 1) // parts) for i in range(parts)]

            def read(bound: tuple[int, int], part: str = part) -> Any:
                with np.load(data) as file:
                    x, y = file[f"x_{part}"][slice(*bound)], file[f"y_{part}"][slice(*bound)]
                for number, (row, label) in enumerate(zip(x, y, strict=True), bound[0]):
                    yield number, Vectors.dense(row), float(label)

            rdd = self.context.parallelize(bounds, parts).flatMap(read)
            self.spark.createDataFrame(rdd, ["row", "features", "label"]).write.parquet(f"{folder}/{name}")
        model = network(UNITS, "adam", seed=1)
        model.fit(self.rows.x_train[:5000], self.rows.y_train[:5000], verbose=0)
        np.savez(Path(folder) / "weights.npz", *model.get_weights())
        return {}

    def fit(self, mode: str, epochs: int) -> dict[str, Any]:
        """`SparkModel.fit` or `AsynchronousSparkModel.fit` by epochs: seconds, and the accuracy on the test rows."""

        def train(rdd: Any, epochs: int) -> tuple[Any, float]:
            model = network(UNITS, "adam", seed=0)
            if mode == "synchronous":
                spark_model = SparkModel(model, num_workers=self.workers)
            else:
                spark_model = AsynchronousSparkModel(
                    model, num_workers=self.workers, mode=mode, frequency="epoch", port=free_port()
                )
            _, seconds = seconds_of(
                lambda: spark_model.fit(rdd, epochs=epochs, batch_size=BATCH, verbose=0, validation_split=0.0)
            )
            return spark_model.master_network, seconds

        x, y = self.rows.x_train, self.rows.y_train
        train(to_simple_rdd(self.context, x[:FEW], y[:FEW]), 1)
        model, seconds = train(to_simple_rdd(self.context, x, y), epochs)
        return {"seconds": seconds, "accuracy": self.rows.accuracy(model)}

    def predict(self, source: str, folder: str, outputs: str) -> dict[str, Any]:
        """`SparkModel.predict` of all rows from an 'array' or an 'rdd': seconds; writes what it predicts."""
        model = network(UNITS, "adam", seed=0)
        model.set_weights(weights_of(folder))
        spark_model = SparkModel(model, num_workers=self.workers)
        x = self.rows.x_train
        spark_model.predict(self.context.parallelize(x[:FEW]))
        data = self.context.parallelize(x) if source == "rdd" else x
        rows, seconds = seconds_of(lambda: spark_model.predict(data))
        np.save(outputs, np.stack(rows))
        return {"seconds": seconds}

    def fit_estimator(self, folder: str, epochs: int) -> dict[str, Any]:
        """`ElephasEstimator.fit` of the frame, synchronously as Elephas 7 always does."""
        import keras

        def train(name: str, epochs: int) -> tuple[Any, float]:
            model = network(UNITS, "adam", seed=0)
            estimator = ElephasEstimator(
                keras_model_config=model.to_json(), optimizer_config=keras.optimizers.serialize(model.optimizer),
                loss="categorical_crossentropy", metrics=["acc"], mode="synchronous", frequency="epoch",
                num_workers=self.workers, epochs=epochs, batch_size=BATCH, validation_split=0.0, verbose=0,
                categorical=True, nb_classes=10, featuresCol="features", labelCol="label",
            )  # fmt: skip
            frame = self.spark.read.parquet(f"{folder}/{name}")
            return seconds_of(lambda: estimator.fit(frame))

        train("few", 1)
        transformer, seconds = train("train", epochs)
        model = transformer.get_model()
        model.set_weights(transformer.weights)
        return {"seconds": seconds, "accuracy": self.rows.accuracy(model)}

    def transform(self, folder: str, outputs: str) -> dict[str, Any]:
        """`ElephasTransformer.transform` of the frame, all of it computed and thrown away: seconds; writes what it
        makes of the test rows."""
        transformer = ElephasTransformer(
            keras_model_config=network(UNITS, "adam", seed=0).to_json(), weights=weights_of(folder),
            model_type=ModelType.CLASSIFICATION, featuresCol="features", labelCol="label", outputCol="prediction",
        )  # fmt: skip
        test = transformer.transform(self.spark.read.parquet(f"{folder}/test")).select("row", "prediction").collect()
        np.save(outputs, np.array([row.prediction for row in sorted(test, key=lambda row: row.row)]))
        frame = self.spark.read.parquet(f"{folder}/train")
        _, seconds = seconds_of(lambda: transformer.transform(frame).write.format("noop").mode("overwrite").save())
        return {"seconds": seconds}


def weights_of(folder: str) -> list[np.ndarray]:
    """What `Session.write` left for the network."""
    with np.load(Path(folder) / "weights.npz") as file:
        return [file[name] for name in file.files]


def versions() -> dict[str, Any]:
    from importlib.metadata import version

    return {name: version(name) for name in ("elephas", "tensorflow", "keras", "pyspark", "numpy")}


def main() -> None:
    session = Session()
    serve(
        {
            "open": session.open, "write": session.write, "fit": session.fit, "predict": session.predict,
            "fit_estimator": session.fit_estimator, "transform": session.transform, "versions": versions,
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
