"""Search hyper-parameters with Elephas' own calls, then vote: ``python -m elephas_fast examples/hyperparam.py``.

Written as for Elephas 0.3 to 2.1 and the Keras of then, which only that command, or ``install_as_elephas``, makes run
here; on scikit-learn's digits in place of a download.
"""

from __future__ import print_function

import six.moves.cPickle as pickle
import warnings

warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

from hyperas import optim
from hyperas.distributions import choice, uniform
from hyperopt import STATUS_OK, Trials, tpe

from elephas.hyperparam import HyperParamModel
from pyspark import SparkConf, SparkContext

# Create Spark context
conf = SparkConf().setAppName("Elephas_Hyperparameter_Optimization").setMaster("local[2]")
conf.set("spark.ui.showConsoleProgress", "false").set("spark.log.level", "ERROR")


def data():
    """Runs once; what it returns goes to each worker once. Imports belong inside."""
    import numpy as np
    from keras.utils import np_utils
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.data[order] / 16.0).astype("float32")
    y = np_utils.to_categorical(digits.target[order], 10)
    x_train, y_train, x_test, y_test = x[:1437], y[:1437], x[1437:], y[1437:]
    return x_train, y_train, x_test, y_test


def model(x_train, y_train, x_test, y_test):
    """A Keras model with hyper-parameters in double braces; returns its loss, and itself for later use."""
    from keras.layers.core import Activation, Dense, Dropout
    from keras.models import Sequential
    from keras.optimizers import RMSprop

    model = Sequential()
    model.add(Dense(128, input_shape=(64,)))
    model.add(Activation("relu"))
    model.add(Dropout({{uniform(0, 1)}}))
    model.add(Dense({{choice([32, 64, 128])}}))
    model.add(Activation("relu"))
    model.add(Dropout({{uniform(0, 1)}}))
    model.add(Dense(10))
    model.add(Activation("softmax"))

    model.compile(loss="categorical_crossentropy", optimizer=RMSprop(), metrics=["accuracy"])
    model.fit(
        x_train, y_train, batch_size={{choice([32, 64])}}, nb_epoch=5, verbose=0, validation_data=(x_test, y_test)
    )
    score, acc = model.evaluate(x_test, y_test, verbose=0)
    return {
        "loss": -acc, "status": STATUS_OK, "model": model.to_yaml(), "weights": pickle.dumps(model.get_weights()),
    }  # fmt: skip


if __name__ == "__main__":
    sc = SparkContext(conf=conf)

    # Search on two workers: four trials for each
    hyperparam_model = HyperParamModel(sc, num_workers=2)
    best = hyperparam_model.minimize(model=model, data=data, max_evals=4)
    x_train, y_train, x_test, y_test = data()
    best.compile(loss="categorical_crossentropy", optimizer="rmsprop", metrics=["accuracy"])
    print("best model: accuracy {:.1%}".format(best.evaluate(x_test, y_test, verbose=0)[1]))

    # Let the three best vote
    ensemble = hyperparam_model.best_ensemble(nb_ensemble_models=3, model=model, data=data, max_evals=4, voting="hard")
    predicted = ensemble.predict(sc.parallelize(list(x_test)))
    print("three best, majority: accuracy {:.1%}".format((predicted == y_test.argmax(axis=1)).mean()))
    sc.stop()
