"""What the tests of estimators and transformers share: digits as a DataFrame and estimators for them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from pyspark.ml.linalg import Vectors

from elephas_fast import ElephasEstimator


def digits_frame(spark: Any, rows: int = 1797) -> Any:
    """Columns ``features`` (ml vectors), ``label`` (double), ``id`` (in order)."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))[:rows]
    data = [(Vectors.dense((x[i] / 16.0).tolist()), float(y[i]), n) for n, i in enumerate(order)]
    return spark.createDataFrame(data, ["features", "label", "id"])


def dense(*, inputs: int = 64, outputs: int = 10, activation: str = "softmax", seed: int = 1) -> Any:
    """A model with one hidden layer, not compiled."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(outputs, activation=activation),
        ]
    )


def classifier(**params: Any) -> ElephasEstimator:
    """An estimator for ``digits_frame``."""
    given = {
        "keras_model_config": dense().to_json(), "loss": "categorical_crossentropy", "metrics": ["acc"],
        "optimizer_config": {"class_name": "Adam", "config": {"learning_rate": 0.005}}, "epochs": 4, "num_workers": 2,
        "mode": "synchronous", "frequency": "batch", "batch_size": 32, "seed": 1,
    }  # fmt: skip
    return ElephasEstimator(**{**given, **params})


def accuracy(frame: Any) -> float:
    """Of scores in ``prediction`` against ``label``."""
    rows = frame.select("prediction", "label").collect()
    return float(np.mean([np.argmax(row.prediction) == row.label for row in rows]))
