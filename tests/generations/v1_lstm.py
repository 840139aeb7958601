"""A script for Elephas 1.x (2021): a recurrent network, the parameter server on a socket, predictions as a list."""

import numpy as np
from pyspark.sql import SparkSession
from sklearn.datasets import load_digits
from tensorflow.keras import Input
from tensorflow.keras.layers import LSTM, Dense
from tensorflow.keras.models import Sequential
from tensorflow.keras.optimizers import Adam
from tensorflow.keras.utils import to_categorical

from elephas.spark_model import SparkModel
from elephas.utils.rdd_utils import to_simple_rdd

batch_size = 32
epochs = 15
validation_split = 0.1


def load_data():
    digits = load_digits()
    x = (digits.images / 16).astype("float32")  # eight rows of eight pixels: a sequence
    y = to_categorical(digits.target, 10)
    order = np.random.RandomState(3).permutation(len(x))
    return x[order[:1437]], y[order[:1437]], x[order[1437:]], y[order[1437:]]


def build_model():
    model = Sequential()
    model.add(Input((8, 8)))
    model.add(LSTM(48))
    model.add(Dense(10, activation="softmax"))
    model.compile(optimizer=Adam(0.005), loss="categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    spark = SparkSession.builder.appName("Digits_LSTM").master("local[2]").getOrCreate()
    sc = spark.sparkContext
    x_train, y_train, x_test, y_test = load_data()
    rdd = to_simple_rdd(sc, x_train, y_train)

    spark_model = SparkModel(
        build_model(), frequency="batch", mode="asynchronous", parameter_server_mode="socket", num_workers=2
    )
    spark_model.fit(rdd, epochs=epochs, batch_size=batch_size, verbose=0, validation_split=validation_split)

    predictions = spark_model.predict(sc.parallelize(list(x_test), 3))
    classes = [np.argmax(prediction) for prediction in predictions]
    accuracy = np.mean(np.array(classes) == y_test.argmax(axis=1))
    loss, measured = spark_model.evaluate(x_test, y_test)
    assert abs(accuracy - measured) < 1e-6
    print("Test accuracy:", accuracy)
    spark.stop()
