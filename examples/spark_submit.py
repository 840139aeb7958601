"""A job for spark-submit, which says where it runs; the script does not:

    spark-submit --master 'local[2]' examples/spark_submit.py --epochs 5
    spark-submit --master spark://HOST:7077 --py-files examples/data.py examples/spark_submit.py --epochs 5

Workers on other machines need the same Python environment with elephas_fast in it (PYSPARK_PYTHON names it).
"""

from __future__ import annotations

import argparse

import keras
from data import load
from pyspark.sql import SparkSession

from elephas_fast import SparkModel
from elephas_fast.utils.rdd_utils import to_simple_rdd


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small network on images.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--save", help="name of a file for the trained model, ending in .keras")
    options = parser.parse_args()

    spark = SparkSession.builder.appName("elephas_fast job").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    data = load()
    model = keras.Sequential(
        [
            keras.Input((data.x_train.shape[1],)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])

    spark_model = SparkModel(model, mode="hogwild", frequency="batch", num_workers=options.workers)
    rdd = to_simple_rdd(spark.sparkContext, data.x_train, data.y_train)
    spark_model.fit(rdd, epochs=options.epochs, batch_size=64, verbose=2)
    loss, accuracy = spark_model.evaluate(data.x_test, data.y_test)
    print(f"{data.name} on {spark.sparkContext.master}: test loss {loss:.3f}, accuracy {accuracy:.1%}")
    if options.save:
        spark_model.save(options.save, overwrite=True)
        print(f"saved as {options.save}")
    spark.stop()


if __name__ == "__main__":
    main()
