"""Estimators and transformers that Elephas saved."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

from elephas_fast import ElephasTransformer, load_ml_estimator, load_ml_transformer
from elephas_fast.keras_bridge.model_type import ModelType

SAVED = Path(__file__).parent.parent / "fixtures" / "elephas_7_3"
COMPARED = (
    "mode", "frequency", "num_workers", "categorical", "loss", "metrics", "validation_split", "featuresCol",
    "labelCol", "epochs", "batch_size", "verbose", "nb_classes", "outputCol",
)  # fmt: skip


def frame_of(sc, x):
    return SparkSession(sc).createDataFrame([(Vectors.dense(row.tolist()),) for row in x], ["features"])


@pytest.mark.parametrize(("kind", "model_type"), [("classification", 1), ("regression", 2)])
def test_transformers_of_7_3_predict_as_they_did(sc, tmp_path, kind, model_type):
    data = np.load(SAVED / f"transformer_{kind}.npz")
    transformer = load_ml_transformer(str(SAVED / f"transformer_{kind}.h5"))
    assert transformer.model_type is ModelType(model_type)
    frame = frame_of(sc, data["x"]).withColumnRenamed("features", transformer.getFeaturesCol())
    rows = transformer.transform(frame).select(transformer.getOutputCol()).collect()
    np.testing.assert_allclose([row[0] for row in rows], data["predicted"], atol=1e-6)
    transformer.save(str(tmp_path / "stage"))
    again = ElephasTransformer.load(str(tmp_path / "stage")).transform(frame).select(transformer.getOutputCol())
    np.testing.assert_allclose([row[0] for row in again.collect()], data["predicted"], atol=1e-6)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_estimators_of_7_3_keep_what_was_set(kind):
    path = SAVED / f"estimator_{kind}.h5"
    with h5py.File(path) as file:
        saved = json.loads(file.attrs["distributed_config"])["config"]
    config = load_ml_estimator(str(path)).get_config()
    assert {name: config[name] for name in COMPARED} == {name: saved[name] for name in COMPARED}


def test_a_transformer_of_keras_2(sc, tmp_path):
    """As Elephas 2 to 6 wrote it: Keras 2's JSON and weights as lists."""
    dense = {"dtype": "float32", "use_bias": True, "trainable": True, "activation": "softmax"}
    model = {
        "class_name": "Sequential",
        "config": {
            "name": "sequential",
            "layers": [
                {
                    "class_name": "InputLayer",
                    "config": {"batch_input_shape": [None, 3], "dtype": "float32", "sparse": False, "name": "in"},
                },
                {"class_name": "Dense", "config": {"name": "dense", "units": 2, **dense}},
            ],
        },
        "keras_version": "2.4.0",
        "backend": "tensorflow",
    }
    kernel, bias = np.arange(6.0).reshape(3, 2) / 10, np.array([0.5, -0.5])
    content = {
        "class_name": "ElephasTransformer",
        "config": {
            "keras_model_config": json.dumps(model), "labelCol": "label", "outputCol": "prediction",
            "weights": [kernel.tolist(), bias.tolist()], "model_type": {"__enum__": "ModelType.CLASSIFICATION"},
        },
    }  # fmt: skip
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.attrs["distributed_config"] = json.dumps(content).encode()
    x = np.random.default_rng(0).normal(size=(9, 3))
    scores = np.exp(x @ kernel + bias)
    rows = load_ml_transformer(str(tmp_path / "t.h5")).transform(frame_of(sc, x)).select("prediction").collect()
    np.testing.assert_allclose([row.prediction for row in rows], scores / scores.sum(axis=1, keepdims=True), atol=1e-6)
