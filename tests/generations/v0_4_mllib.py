"""A script for Elephas 0.4 (2018): MLlib's LabeledPoints with sparse vectors."""

import numpy as np
from keras import Input
from keras.layers import Dense
from keras.models import Sequential
from keras.utils import to_categorical
from pyspark import SparkConf, SparkContext
from pyspark.mllib.linalg import Matrix, Vectors
from pyspark.mllib.regression import LabeledPoint
from sklearn.datasets import load_digits

from elephas.mllib.adapter import from_matrix, to_matrix, to_vector
from elephas.spark_model import SparkMLlibModel

batch_size = 32
epochs = 20
validation_split = 0.1
nb_classes = 10


def load_data():
    digits = load_digits()
    x = (digits.data / 16).astype("float32")
    y = to_categorical(digits.target, nb_classes)
    order = np.random.RandomState(2).permutation(len(x))
    return x[order[:1437]], y[order[:1437]], x[order[1437:]], y[order[1437:]]


def build_model():
    model = Sequential()
    model.add(Input((64,)))
    model.add(Dense(64, activation="relu"))
    model.add(Dense(nb_classes, activation="softmax"))
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def sparse_point(row, label):
    filled = np.flatnonzero(row)
    return LabeledPoint(float(label), Vectors.sparse(len(row), filled.tolist(), row[filled].tolist()))


if __name__ == "__main__":
    sc = SparkContext(conf=SparkConf().setAppName("Digits_MLlib").setMaster("local[2]"))
    x_train, y_train, x_test, y_test = load_data()
    lp_rdd = sc.parallelize([sparse_point(row, label) for row, label in zip(x_train, y_train.argmax(axis=1))], 2)

    spark_model = SparkMLlibModel(
        model=build_model(), frequency="batch", mode="hogwild", parameter_server_mode="http", num_workers=2
    )
    spark_model.fit(
        lp_rdd,
        epochs=epochs,
        batch_size=batch_size,
        verbose=0,
        validation_split=validation_split,
        categorical=True,
        nb_classes=nb_classes,
    )

    predicted = spark_model.predict(to_matrix(x_test))
    assert isinstance(predicted, Matrix)
    probabilities = from_matrix(predicted)
    one = spark_model.predict(to_vector(x_test[0]))
    assert np.allclose(one.toArray(), probabilities[0], atol=1e-5)
    print("Test accuracy:", np.mean(probabilities.argmax(axis=1) == y_test.argmax(axis=1)))
    sc.stop()
