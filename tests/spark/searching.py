"""Elephas' two functions on digits, as a user writes them: small enough for two cores."""

from __future__ import annotations

import pickle

from hyperopt import STATUS_OK


def data():
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.data[order] / 16.0).astype(np.float32)
    y = np.eye(10, dtype=np.float32)[digits.target[order]]
    x_train, y_train, x_test, y_test = x[:1437], y[:1437], x[1437:], y[1437:]
    return x_train, y_train, x_test, y_test


def model(x_train, y_train, x_test, y_test):
    from keras import Input
    from keras.layers import Activation, Dense, Dropout
    from keras.models import Sequential
    from keras.optimizers import Adam

    model = Sequential([Input((64,))])
    model.add(Dense({{choice([16, 64])}}))
    model.add(Activation("relu"))
    model.add({{choice([Dropout(0.2), Activation("linear")])}})
    model.add(Dense(10, activation="softmax"))
    model.compile(Adam({{loguniform(-7, -3)}}), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size={{choice([32, 64])}}, epochs=2, verbose=0)
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    weights = pickle.dumps(model.get_weights())
    return {"loss": -accuracy, "status": STATUS_OK, "model": model.to_json(), "weights": weights}
