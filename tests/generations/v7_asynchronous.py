"""A script for Elephas 7.x (2025): regression by AsynchronousSparkModel, with an enum beside a string, then by
SparkModel."""

import keras
import numpy as np
from pyspark.sql import SparkSession
from sklearn.datasets import load_diabetes

from elephas.enums.modes import Mode
from elephas.spark_model import AsynchronousSparkModel, SparkModel
from elephas.utils.rdd_utils import to_simple_rdd

batch_size = 16
epochs = 60
validation_split = 0.0


def load_data():
    diabetes = load_diabetes()
    x = (diabetes.data / diabetes.data.std(axis=0)).astype("float32")
    y = (diabetes.target / 100).astype("float32")
    order = np.random.RandomState(7).permutation(len(x))
    return x[order[:342]], y[order[:342]], x[order[342:]], y[order[342:]]


def build_model():
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [keras.Input((10,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)],
    )
    model.compile(keras.optimizers.Adam(0.002), "mse", metrics=["mae"])
    return model


if __name__ == "__main__":
    spark = SparkSession.builder.appName("Diabetes_Asynchronous").master("local[2]").getOrCreate()
    x_train, y_train, x_test, y_test = load_data()
    rdd = to_simple_rdd(spark.sparkContext, x_train, y_train)
    how = dict(epochs=epochs, batch_size=batch_size, verbose=0, validation_split=validation_split)

    asynchronous = AsynchronousSparkModel(
        build_model(), num_workers=2, mode=Mode.HOGWILD, frequency="batch", parameter_server_mode="http"
    )
    asynchronous.fit(rdd, **how)
    mse, _ = asynchronous.evaluate(x_test, y_test)
    print("Test RMSE:", mse**0.5)

    synchronous = SparkModel(build_model(), num_workers=2)
    synchronous.fit(rdd, **how)
    predictions = np.array(synchronous.predict(x_test)).ravel()
    print("Synchronous RMSE:", np.mean((predictions - y_test) ** 2) ** 0.5)
    spark.stop()
