"""Estimators and transformers that Elephas saved."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession
from tensorflow.python.trackable import data_structures

from elephas_fast import ElephasEstimator, ElephasTransformer, load_ml_estimator, load_ml_transformer
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


def as_yaml(model):
    """As ``to_yaml`` of TensorFlow 2.0 to 2.5 wrote it: shapes are tuples, lists are those that TensorFlow tracks."""
    first = model["config"]["layers"][0]["config"]
    first["batch_input_shape"] = tuple(first["batch_input_shape"])
    model["config"]["layers"] = data_structures.ListWrapper(model["config"]["layers"])
    text = yaml.dump(model)
    assert "!!python/tuple" in text
    assert "!!python/object/apply:tensorflow.python.trackable.data_structures.ListWrapper" in text
    return text.replace("python.trackable", "python.training.tracking")


@pytest.mark.parametrize("text", [json.dumps, as_yaml])
def test_a_transformer_of_keras_2(sc, tmp_path, text):
    """As Elephas wrote it: up to 2.1 Keras 2's YAML, then its JSON, and weights as lists."""
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
            "keras_model_config": text(model), "labelCol": "label", "outputCol": "prediction",
            "weights": [kernel.tolist(), bias.tolist()], "model_type": {"__enum__": "ModelType.CLASSIFICATION"},
        },
    }  # fmt: skip
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.attrs["distributed_config"] = json.dumps(content).encode()
    x = np.random.default_rng(0).normal(size=(9, 3))
    scores = np.exp(x @ kernel + bias)
    rows = load_ml_transformer(str(tmp_path / "t.h5")).transform(frame_of(sc, x)).select("prediction").collect()
    np.testing.assert_allclose([row.prediction for row in rows], scores / scores.sum(axis=1, keepdims=True), atol=1e-6)


def test_tags_of_yaml_that_are_no_data_are_refused():
    model = "class_name: Sequential\nconfig: "
    for text, tag in (
        ("!!python/object/apply:os.system ['exit 1']", "python/object/apply:os.system"),
        ("!!python/object/apply:builtins.eval ['1']", "python/object/apply:builtins.eval"),
        ("!!python/object/new:subprocess.Popen\n  args: [[ls]]", "python/object/new:subprocess.Popen"),
        ("!!python/name:os.system", "python/name:os.system"),
        ("!!python/module:os", "python/module:os"),
        ("!!python/object:tests.ours.Any {}", "python/object:tests.ours.Any"),
    ):
        with pytest.raises(ValueError, match=f"strings and numbers, got the tag {re.escape(tag)}, which is not run"):
            ElephasEstimator(model + text)
    for text in ("[", "!!python/object/apply:builtins.list [1, 2]", "!!python/long five"):
        with pytest.raises(ValueError, match="expected JSON or YAML, got 'class_name"):
            ElephasEstimator(model + text)
    read = "{a: !!python/unicode b, c: !!python/long 5, d: !!python/object/new:builtins.tuple [[1]]}"
    assert json.loads(ElephasEstimator(model + read).get_keras_model_config())["config"] == {"a": "b", "c": 5, "d": [1]}
