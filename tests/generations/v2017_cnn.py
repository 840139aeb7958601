"""A script for Elephas' master branch of 2017: a convolutional network, compiled by SparkModel, trained until it is
good enough."""

import numpy as np
from keras import Input
from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D
from keras.models import Sequential
from keras.optimizers import Adam
from keras.utils import to_categorical
from pyspark import SparkConf, SparkContext
from sklearn.datasets import load_digits

from elephas import optimizers as elephas_optimizers
from elephas.spark_model import SparkModel
from elephas.utils.rdd_utils import to_simple_rdd

batch_size = 32
nb_epoch = 30
rounds = [2, 14, 14]
validation_split = 0.1


def load_data():
    digits = load_digits()
    x = (digits.images / 16).astype("float32").reshape(-1, 8, 8, 1)
    y = to_categorical(digits.target, 10)
    order = np.random.RandomState(1).permutation(len(x))
    return x[order[:1437]], y[order[:1437]], x[order[1437:]], y[order[1437:]]


def build_model():
    model = Sequential()
    model.add(Input((8, 8, 1)))
    model.add(Conv2D(16, (3, 3), activation="relu"))
    model.add(Conv2D(32, (3, 3), activation="relu"))
    model.add(MaxPooling2D((2, 2)))
    model.add(Flatten())
    model.add(Dense(10, activation="softmax"))
    model.compile(optimizer=Adam(0.004), loss="categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    sc = SparkContext(conf=SparkConf().setAppName("Digits_Spark_CNN").setMaster("local[2]"))
    x_train, y_train, x_test, y_test = load_data()
    rdd = to_simple_rdd(sc, x_train, y_train)

    spark_model = SparkModel(
        sc,
        build_model(),
        optimizer=elephas_optimizers.SGD(lr=1.0),
        frequency="epoch",
        mode="synchronous",
        num_workers=2,
        master_optimizer=Adam(0.004),
        master_loss="categorical_crossentropy",
        master_metrics=["accuracy"],
    )
    accuracies = []
    for epochs_of_round in rounds:
        spark_model.train(
            rdd, nb_epoch=epochs_of_round, batch_size=batch_size, verbose=0, validation_split=validation_split
        )
        accuracies.append(spark_model._master_network.evaluate(x_test, y_test, verbose=0)[1])

    print("Accuracy after each round:", accuracies)
    assert accuracies[-1] > accuracies[0]
    print("Test accuracy:", accuracies[-1])
    sc.stop()
