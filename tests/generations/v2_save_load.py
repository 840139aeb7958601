"""A script for Elephas 2.x (2021): a port of one's own; one process trains and saves, another one loads and goes on.

v2_save_load.py          trains, saves, and starts the second process
v2_save_load.py FILE     loads FILE, evaluates, trains one more epoch
"""

import os
import socket
import subprocess
import sys
import tempfile

import numpy as np
from pyspark import SparkConf, SparkContext
from sklearn.datasets import load_digits
from tensorflow.keras import Input
from tensorflow.keras.layers import Dense, Dropout
from tensorflow.keras.models import Sequential
from tensorflow.keras.utils import to_categorical

from elephas.spark_model import SparkModel, load_spark_model
from elephas.utils.rdd_utils import to_simple_rdd

batch_size = 32
epochs = 15
validation_split = 0.1


def load_data():
    digits = load_digits()
    x = (digits.data / 16).astype("float32")
    y = to_categorical(digits.target, 10)
    order = np.random.RandomState(4).permutation(len(x))
    return x[order[:1437]], y[order[:1437]], x[order[1437:]], y[order[1437:]]


def build_model():
    model = Sequential()
    model.add(Input((64,)))
    model.add(Dense(128, activation="relu"))
    model.add(Dropout(0.2))
    model.add(Dense(10, activation="softmax"))
    model.compile("adam", "categorical_crossentropy", metrics=["acc"])
    return model


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train(file):
    sc = SparkContext(conf=SparkConf().setAppName("Digits_Save").setMaster("local[2]"))
    x_train, y_train, x_test, y_test = load_data()
    spark_model = SparkModel(
        build_model(), mode="asynchronous", frequency="epoch", num_workers=2, batch_size=batch_size, port=free_port()
    )
    spark_model.fit(
        to_simple_rdd(sc, x_train, y_train),
        epochs=epochs,
        batch_size=batch_size,
        verbose=0,
        validation_split=validation_split,
    )
    for history in spark_model.training_histories:
        assert len(history["val_acc"]) == epochs
    accuracy = spark_model.evaluate(x_test, y_test)[1]
    spark_model.save(file)
    sc.stop()
    subprocess.run([sys.executable, __file__, file], check=True)
    print("Test accuracy:", accuracy)


def go_on(file):
    sc = SparkContext(conf=SparkConf().setAppName("Digits_Load").setMaster("local[2]"))
    x_train, y_train, x_test, y_test = load_data()
    spark_model = load_spark_model(file)
    assert (spark_model.mode, spark_model.num_workers, spark_model.batch_size) == ("asynchronous", 2, batch_size)
    print("Accuracy as loaded:", spark_model.evaluate(x_test, y_test)[1], flush=True)
    spark_model.fit(to_simple_rdd(sc, x_train, y_train), epochs=1, batch_size=batch_size, verbose=0)
    print("Accuracy one epoch later:", spark_model.evaluate(x_test, y_test)[1], flush=True)
    sc.stop()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        go_on(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            train(os.path.join(folder, "digits.h5"))
