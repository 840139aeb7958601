"""A Keras model as a stage of a Spark ML pipeline: ``python examples/ml_pipeline.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import quiet  # before TensorFlow is imported

# isort: split
import keras
from data import Images, load
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import IndexToString, StandardScaler, StringIndexer
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession

from elephas_fast.ml_model import ElephasEstimator

ROWS = 6_000
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CLOTHES = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]


def frame(spark: SparkSession, data: Images, x: Any, y: Any) -> DataFrame:
    """A DataFrame with the pixels of each image as a vector, and the name of what it shows."""
    names = CLOTHES if data.name == "Fashion-MNIST" else DIGITS
    rows = [(Vectors.dense(image), names[label]) for image, label in zip(x, y.argmax(axis=1), strict=True)]
    return spark.createDataFrame(rows, ["pixels", "name"])


def main() -> None:
    builder = SparkSession.builder.master("local[2]").appName("elephas_fast pipeline")
    spark = builder.config(map=quiet.SPARK).getOrCreate()
    data = load()
    train = frame(spark, data, data.x_train[:ROWS], data.y_train[:ROWS])
    test = frame(spark, data, data.x_test[:1000], data.y_test[:1000])

    model = keras.Sequential(
        [
            keras.Input((data.x_train.shape[1],)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )

    # Names become numbers, pixels are scaled, Keras learns, numbers become names again.
    indexer = StringIndexer(inputCol="name", outputCol="label").fit(train)
    scaler = StandardScaler(inputCol="pixels", outputCol="features", withMean=True, withStd=True)
    estimator = ElephasEstimator(
        keras_model_config=model.to_json(),
        loss="categorical_crossentropy",
        optimizer_config="adam",
        metrics=["accuracy"],
        categorical=True,
        nb_classes=10,
        epochs=10,
        batch_size=64,
        num_workers=2,
        mode="synchronous",
        frequency="batch",
        verbose=0,
        predict_classes=True,
    )
    names = IndexToString(inputCol="prediction", outputCol="predicted", labels=indexer.labels)
    fitted = Pipeline(stages=[indexer, scaler, estimator, names]).fit(train)
    print(f"{data.name}: the pipeline has learnt from {train.count():,} rows")

    predictions = fitted.transform(test).cache()
    predictions.select("name", "predicted").show(5)
    accuracy = MulticlassClassificationEvaluator(metricName="accuracy").evaluate(predictions)
    print(f"accuracy on {test.count():,} test rows: {accuracy:.1%}")

    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "pipeline")
        fitted.save(place)
        again = PipelineModel.load(place).transform(test)
        accuracy = MulticlassClassificationEvaluator(metricName="accuracy").evaluate(again)
    print(f"saved, loaded, and the accuracy is {accuracy:.1%} again")
    spark.stop()


if __name__ == "__main__":
    main()
