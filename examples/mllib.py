"""MLlib's LabeledPoints, vectors and matrices: ``python examples/mllib.py``."""

from __future__ import annotations

import quiet  # before TensorFlow is imported

# isort: split
import keras
from data import load
from pyspark import SparkConf, SparkContext

from elephas_fast import SparkMLlibModel
from elephas_fast.mllib import from_matrix, to_matrix, to_vector
from elephas_fast.utils.rdd_utils import to_labeled_point

ROWS = 6_000


def main() -> None:
    conf = SparkConf().setMaster("local[2]").setAppName("elephas_fast MLlib").setAll(list(quiet.SPARK.items()))
    sc = SparkContext(conf=conf)
    data = load()
    model = keras.Sequential(
        [
            keras.Input((data.x_train.shape[1],)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])

    # A LabeledPoint is a class and a vector, dense or sparse. categorical=True: our labels are one-hot.
    points = to_labeled_point(sc, data.x_train[:ROWS], data.y_train[:ROWS], categorical=True)
    first = points.first()
    print(f"first of {points.count():,} points: class {first.label:.0f}, a vector of {len(first.features)} numbers")

    # categorical=True, nb_classes=10: labels are made one-hot again for the model.
    spark_model = SparkMLlibModel(model, mode="hogwild", frequency="batch", num_workers=2)
    spark_model.fit(points, epochs=12, batch_size=32, verbose=0, validation_split=0.1, categorical=True, nb_classes=10)

    # A Matrix of rows gives a Matrix of outputs, a Vector a Vector.
    outputs = spark_model.predict(to_matrix(data.x_test))
    print(f"predicted a {type(outputs).__name__} of {outputs.numRows:,} rows and {outputs.numCols} classes")
    right = from_matrix(outputs).argmax(axis=1) == data.y_test.argmax(axis=1)
    print(f"accuracy on the test images: {right.mean():.1%}")
    one = spark_model.predict(to_vector(data.x_test[0]))
    print(f"the first one is class {one.toArray().argmax()} with probability {one.toArray().max():.2f}")
    sc.stop()


if __name__ == "__main__":
    main()
