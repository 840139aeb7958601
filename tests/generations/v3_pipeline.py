"""A script for Elephas 3.x (2022): ElephasEstimator as a stage of a Pipeline, labels as words, probabilities out."""

import numpy as np
from pyspark.ml import Pipeline
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import StandardScaler, StringIndexer
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession
from sklearn.datasets import load_digits
from tensorflow.keras import Input, optimizers
from tensorflow.keras.layers import Dense, Dropout
from tensorflow.keras.models import Sequential
from tensorflow.keras.utils import set_random_seed, to_categorical

from elephas.ml_model import ElephasEstimator
from elephas.utils.model_utils import argmax

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
batch_size = 32
epochs = 15
validation_split = 0.1


def load_data():
    digits = load_digits()
    x = (digits.data / 16).astype("float32")
    y = to_categorical(digits.target, 10)
    order = np.random.RandomState(5).permutation(len(x))
    return x[order[:1437]], y[order[:1437]], x[order[1437:]], y[order[1437:]]


def build_model():
    model = Sequential()
    model.add(Input((64,)))
    model.add(Dense(128, activation="relu"))
    model.add(Dropout(0.3))
    model.add(Dense(10, activation="softmax"))
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def frame(spark, x, y):
    rows = [(Vectors.dense(row.tolist()), WORDS[label]) for row, label in zip(x, y.argmax(axis=1))]
    return spark.createDataFrame(rows, ["pixels", "word"])


if __name__ == "__main__":
    spark = SparkSession.builder.appName("Digits_Pipeline").master("local[2]").getOrCreate()
    x_train, y_train, x_test, y_test = load_data()
    set_random_seed(3)

    string_indexer = StringIndexer(inputCol="word", outputCol="label")
    scaler = StandardScaler(inputCol="pixels", outputCol="features", withStd=True, withMean=True)

    estimator = ElephasEstimator()
    estimator.set_keras_model_config(build_model().to_json())
    estimator.set_optimizer_config(optimizers.serialize(optimizers.Adam(learning_rate=0.001)))
    estimator.set_loss("categorical_crossentropy")
    estimator.set_metrics(["acc"])
    estimator.set_categorical_labels(True)
    estimator.set_nb_classes(10)
    estimator.set_num_workers(2)
    estimator.set_mode("synchronous")
    estimator.set_epochs(epochs)
    estimator.set_batch_size(batch_size)
    estimator.set_validation_split(validation_split)
    estimator.set_verbosity(0)

    fitted_pipeline = Pipeline(stages=[string_indexer, scaler, estimator]).fit(frame(spark, x_train, y_train))
    prediction = fitted_pipeline.transform(frame(spark, x_test, y_test))
    prediction = prediction.withColumn("prediction", argmax("prediction").cast("double"))

    evaluator = MulticlassClassificationEvaluator(metricName="accuracy")
    print("Test accuracy:", evaluator.evaluate(prediction))
    spark.stop()
