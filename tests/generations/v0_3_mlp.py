"""A script for Elephas 0.3 (2016): a multilayer perceptron, an optimizer on the server, train with nb_epoch."""

import numpy as np
from keras import Input
from keras.layers import Activation, Dense, Dropout
from keras.models import Sequential
from keras.optimizers import RMSprop
from keras.utils import to_categorical
from pyspark import SparkConf, SparkContext
from sklearn.datasets import load_digits

from elephas import optimizers as elephas_optimizers
from elephas.spark_model import SparkModel
from elephas.utils.rdd_utils import to_simple_rdd

batch_size = 32
nb_classes = 10
nb_epoch = 20
validation_split = 0.1


def load_data():
    digits = load_digits()
    X = digits.data.astype("float32") / 16
    Y = to_categorical(digits.target, nb_classes)
    order = np.random.RandomState(0).permutation(len(X))
    train, test = order[:1437], order[1437:]
    return X[train], Y[train], X[test], Y[test]


def build_model():
    model = Sequential()
    model.add(Input((64,)))
    model.add(Dense(128))
    model.add(Activation("relu"))
    model.add(Dropout(0.2))
    model.add(Dense(128))
    model.add(Activation("relu"))
    model.add(Dropout(0.2))
    model.add(Dense(nb_classes))
    model.add(Activation("softmax"))
    model.compile(loss="categorical_crossentropy", optimizer=RMSprop(), metrics=["accuracy"])
    return model


if __name__ == "__main__":
    conf = SparkConf().setAppName("Digits_Spark_MLP").setMaster("local[2]")
    sc = SparkContext(conf=conf)
    X_train, Y_train, X_test, Y_test = load_data()
    rdd = to_simple_rdd(sc, X_train, Y_train)

    sgd = elephas_optimizers.SGD(lr=0.5, momentum=0.5)
    spark_model = SparkModel(sc, build_model(), optimizer=sgd, frequency="epoch", mode="asynchronous", num_workers=2)
    spark_model.train(
        rdd, nb_epoch=nb_epoch, batch_size=batch_size, verbose=0, validation_split=validation_split, num_workers=2
    )

    score = spark_model.get_network().evaluate(X_test, Y_test, verbose=0)
    classes = spark_model.predict_classes(X_test)
    assert abs(np.mean(classes == Y_test.argmax(axis=1)) - score[1]) < 1e-6
    print("Test accuracy:", score[1])
    sc.stop()
