"""A script for Elephas 5.x (2024): regression, with a CrossValidator that chooses the number of epochs; enums where
earlier scripts had strings."""

import numpy as np
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import SparkSession
from sklearn.datasets import load_diabetes
from tensorflow.keras import Input, optimizers
from tensorflow.keras.layers import Dense
from tensorflow.keras.models import Sequential
from tensorflow.keras.utils import set_random_seed

from elephas.enums.frequency import Frequency
from elephas.enums.modes import Mode
from elephas.ml_model import ElephasEstimator

batch_size = 16
epochs = 30
validation_split = 0.0


def load_data():
    diabetes = load_diabetes()
    x = (diabetes.data / diabetes.data.std(axis=0)).astype("float32")
    y = (diabetes.target / 100).astype("float32")
    order = np.random.RandomState(6).permutation(len(x))
    return x[order[:342]], y[order[:342]], x[order[342:]], y[order[342:]]


def build_model():
    set_random_seed(6)
    model = Sequential()
    model.add(Input((10,)))
    model.add(Dense(16, activation="relu"))
    model.add(Dense(1))
    model.compile(optimizers.SGD(learning_rate=0.01), "mean_squared_error", metrics=["mae"])
    return model


def frame(spark, x, y):
    rows = [(Vectors.dense(row.tolist()), float(value)) for row, value in zip(x, y)]
    return spark.createDataFrame(rows, ["features", "label"]).repartition(2)


if __name__ == "__main__":
    spark = SparkSession.builder.appName("Diabetes_CrossValidation").master("local[2]").getOrCreate()
    x_train, y_train, x_test, y_test = load_data()

    estimator = ElephasEstimator(
        keras_model_config=build_model().to_json(),
        optimizer_config=optimizers.serialize(optimizers.SGD(learning_rate=0.01)),
        loss="mean_squared_error",
        metrics=["mae"],
        categorical=False,
        nb_classes=1,
        mode=Mode.SYNCHRONOUS,
        frequency=Frequency.EPOCH,
        num_workers=2,
        batch_size=batch_size,
        validation_split=validation_split,
        verbose=0,
    )
    grid = ParamGridBuilder().addGrid(estimator.epochs, [1, epochs]).build()
    evaluator = RegressionEvaluator(metricName="rmse")
    validator = CrossValidator(estimator=estimator, estimatorParamMaps=grid, evaluator=evaluator, numFolds=2, seed=1)
    model = validator.fit(frame(spark, x_train, y_train))

    print("RMSE of 1 and %d epochs: %s" % (epochs, model.avgMetrics))
    assert model.avgMetrics[1] < model.avgMetrics[0]
    print("Test RMSE:", evaluator.evaluate(model.transform(frame(spark, x_test, y_test))))
    spark.stop()
