"""Train a Keras model on Spark, predict, evaluate, save and load: ``python examples/basic.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import quiet  # before TensorFlow is imported

# isort: split
import keras
import numpy as np
from data import load
from pyspark import SparkConf, SparkContext

from elephas_fast import SparkModel, load_spark_model
from elephas_fast.utils.rdd_utils import to_simple_rdd


def main() -> None:
    # 1. A Spark context: here, two workers on this machine.
    conf = SparkConf().setMaster("local[2]").setAppName("elephas_fast basic").setAll(list(quiet.SPARK.items()))
    sc = SparkContext(conf=conf)

    # 2. Any compiled Keras model.
    data = load()
    model = keras.Sequential(
        [
            keras.Input((data.x_train.shape[1],)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])

    # 3. The rows as an RDD of (x, y).
    rdd = to_simple_rdd(sc, data.x_train, data.y_train)
    print(f"{data.name}: {len(data.x_train):,} images in {rdd.getNumPartitions()} partitions")

    # 4. Train: each worker on its own partition, all on the same weights.
    spark_model = SparkModel(model, mode="asynchronous", frequency="batch", num_workers=2)
    history = spark_model.fit(rdd, epochs=5, batch_size=64, validation_split=0.1, verbose=0)
    for epoch, (loss, accuracy) in enumerate(
        zip(history.history["loss"], history.history["val_accuracy"], strict=True)
    ):
        print(f"epoch {epoch + 1}: loss {loss:.3f}, accuracy on the rows kept for validation {accuracy:.1%}")

    # 5. Use it.
    outputs = spark_model.predict(data.x_test[:5])
    print(f"predicted: {[int(np.argmax(row)) for row in outputs]}, true: {data.y_test[:5].argmax(axis=1).tolist()}")
    loss, accuracy = spark_model.evaluate(data.x_test, data.y_test)
    print(f"{len(data.x_test):,} test images: loss {loss:.3f}, accuracy {accuracy:.1%}")

    # 6. Keep it. The file is a Keras file too: keras.models.load_model reads it.
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "model.keras")
        spark_model.save(file)
        loaded = load_spark_model(file)
        print(f"saved, loaded, and the accuracy is {loaded.evaluate(data.x_test, data.y_test)[1]:.1%} again")
    sc.stop()


if __name__ == "__main__":
    main()
