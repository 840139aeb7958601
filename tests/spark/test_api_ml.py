"""Every documented keyword, setter, getter and return value of ``elephas.ml_model`` and ``elephas.ml``."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from pyspark import RDD
from pyspark.ml.linalg import Vectors
from pyspark.ml.param import Param
from pyspark.ml.tuning import ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from elephas_fast.ml import params as mixins
from elephas_fast.ml.adapter import df_to_simple_rdd, from_data_frame, to_data_frame
from elephas_fast.ml_model import ElephasEstimator, ElephasTransformer, load_ml_estimator, load_ml_transformer
from elephas_fast.optimizers import SGD
from elephas_fast.utils.model_utils import ModelType

WIDTH, CLASSES, ROWS = 4, 3, 24


def network(outputs: int = CLASSES, activation: str | None = "softmax") -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(outputs, activation=activation)])


@pytest.fixture(scope="module")
def frame(sc) -> DataFrame:
    rng = np.random.default_rng(0)
    rows = [(Vectors.dense(row), float(i % CLASSES)) for i, row in enumerate(rng.normal(size=(ROWS, WIDTH)))]
    return SparkSession(sc).createDataFrame(rows, ["features", "label"])


KERAS_SGD = keras.optimizers.serialize(keras.optimizers.SGD(0.1))
SHARED: dict[str, Any] = {
    "featuresCol": "features", "labelCol": "label", "mode": "synchronous", "frequency": "epoch", "num_workers": 2,
    "batch_size": 8, "verbose": 0, "validation_split": 0.1, "categorical": True, "nb_classes": CLASSES,
    "outputCol": "prediction",
}  # fmt: skip
LATER = {**SHARED, "epochs": 2, "loss": "categorical_crossentropy", "metrics": ["acc"]}
GENERATIONS: dict[str, dict[str, Any]] = {
    "0.3": {**SHARED, "nb_epoch": 2, "optimizer_config": {"name": "SGD", "lr": 0.5}},
    "0.4": {**LATER, "optimizer_config": KERAS_SGD, "elephas_optimizer_config": {"name": "SGD", "lr": 0.5}},
    "1.2": {**LATER, "optimizer_config": "adam", "custom_objects": {}},
    "1.4": {**LATER, "optimizer_config": KERAS_SGD, "predict_classes": True},
    "7": {**LATER, "optimizer_config": KERAS_SGD, "custom_objects": {}},
}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_estimators_of_each_generation(frame, generation):
    """Scores as ``array<double>``, class indices as ``double`` where the generation gave these. 0.3 had no ``loss``."""
    keywords = GENERATIONS[generation]
    made = ElephasEstimator(keras_model_config=network().to_json(), **keywords)
    fitted = made.fit(frame)
    assert type(fitted) is ElephasTransformer
    kind = fitted.transform(frame).schema["prediction"].dataType
    classes = generation in ("0.3", "0.4", "1.4")
    assert kind == (T.DoubleType() if classes else T.ArrayType(T.DoubleType()))
    (first, *_) = fitted.transform(frame).collect()
    assert isinstance(first.prediction, float if classes else list)


def test_an_estimator_takes_its_model_by_position(frame):
    fitted = ElephasEstimator(network().to_json(), **LATER, optimizer_config="sgd").fit(frame)
    assert fitted.transform(frame).count() == ROWS


def test_what_a_transformer_has(frame):
    fitted = ElephasEstimator(keras_model_config=network().to_json(), **LATER, optimizer_config="sgd").fit(frame)
    assert [weight.shape for weight in fitted.weights] == [(WIDTH, CLASSES), (CLASSES,)]
    assert all(isinstance(weight, np.ndarray) for weight in fitted.weights)
    assert fitted.model_type is ModelType.CLASSIFICATION
    assert [len(part["val_acc"]) for part in fitted.history] == [2, 2]
    assert isinstance(fitted.get_model(), keras.Model)
    names = {"keras_model_config", "labelCol", "featuresCol", "outputCol", "weights", "model_type"}
    assert names <= set(fitted.get_config())


def test_regressions_give_doubles(frame):
    made = ElephasTransformer(
        keras_model_config=network(1, None).to_json(), weights=network(1, None).get_weights(),
        model_type=ModelType.REGRESSION, featuresCol="features", labelCol="label", outputCol="y", custom_objects={},
        inference_batch_size=5, history=[],
    )  # fmt: skip
    result = made.transform(frame)
    assert result.schema["y"].dataType == T.DoubleType()
    assert isinstance(result.first()["y"], float)
    assert made.set_inference_batch_size(7).get_inference_batch_size() == 7


SERVER_SGD = SGD(0.5).to_config()
SETTERS: dict[str, tuple[str, str, Any]] = {
    "keras_model_config": ("set_keras_model_config", "get_keras_model_config", network().to_json()),
    "optimizer_config": ("set_optimizer_config", "get_optimizer_config", KERAS_SGD),
    "mode": ("set_mode", "get_mode", "hogwild"),
    "frequency": ("set_frequency", "get_frequency", "batch"),
    "nb_classes": ("set_nb_classes", "get_nb_classes", 7),
    "categorical": ("set_categorical_labels", "get_categorical_labels", False),
    "epochs": ("set_epochs", "get_epochs", 3),
    "nb_epoch": ("set_nb_epoch", "get_nb_epoch", 3),
    "batch_size": ("set_batch_size", "get_batch_size", 7),
    "verbose": ("set_verbosity", "get_verbosity", 1),
    "validation_split": ("set_validation_split", "get_validation_split", 0.25),
    "num_workers": ("set_num_workers", "get_num_workers", 3),
    "metrics": ("set_metrics", "get_metrics", ["mae"]),
    "loss": ("set_loss", "get_loss", "mse"),
    "custom_objects": ("set_custom_objects", "get_custom_objects", {"square": abs}),
    "inference_batch_size": ("set_inference_batch_size", "get_inference_batch_size", 7),
    "featuresCol": ("setFeaturesCol", "getFeaturesCol", "x"),
    "labelCol": ("setLabelCol", "getLabelCol", "y"),
    "outputCol": ("setOutputCol", "getOutputCol", "z"),
    "weightCol": ("setWeightCol", "getWeightCol", "w"),
    "validationIndicatorCol": ("setValidationIndicatorCol", "getValidationIndicatorCol", "held"),
    "server_optimizer": ("set_server_optimizer", "get_server_optimizer", SERVER_SGD),
    "elephas_optimizer_config": ("set_elephas_optimizer_config", "get_elephas_optimizer_config", SERVER_SGD),
    "predict_classes": ("set_predict_classes", "get_predict_classes", True),
}


@pytest.mark.parametrize("name", SETTERS)
def test_setters_getters_and_params(name):
    setter, getter, value = SETTERS[name]
    made = ElephasEstimator()
    assert getattr(made, setter)(value) is made
    assert getattr(made, getter)() == value
    assert isinstance(getattr(made, name), Param)
    assert made.set_params(**{name: value}) is made
    assert len(ParamGridBuilder().addGrid(getattr(made, name), [value]).build()) == 1


DEFAULTS = {
    "get_mode": "asynchronous", "get_frequency": "epoch", "get_nb_classes": 10, "get_categorical_labels": True,
    "get_epochs": 10, "get_batch_size": 32, "get_verbosity": 0, "get_validation_split": 0.1, "get_num_workers": 8,
    "get_metrics": ["acc"], "get_custom_objects": {}, "get_inference_batch_size": None, "getOutputCol": "prediction",
    "get_optimizer_config": None,
}  # fmt: skip


@pytest.mark.parametrize("getter", DEFAULTS)
def test_defaults(getter):
    assert getattr(ElephasEstimator(), getter)() == DEFAULTS[getter]


MIXINS = {
    "HasKerasModelConfig": "keras_model_config", "HasOptimizerConfig": "optimizer_config",
    "HasElephasOptimizerConfig": "elephas_optimizer_config", "HasKerasOptimizerConfig": "optimizer_config",
    "HasMode": "mode", "HasFrequency": "frequency", "HasNumberOfClasses": "nb_classes",
    "HasCategoricalLabels": "categorical", "HasEpochs": "nb_epoch", "HasBatchSize": "batch_size",
    "HasVerbosity": "verbose", "HasValidationSplit": "validation_split", "HasNumberOfWorkers": "num_workers",
    "HasMetrics": "metrics", "HasLoss": "loss", "HasCustomObjects": "custom_objects",
    "HasInferenceBatchSize": "inference_batch_size", "HasPredictClasses": "predict_classes",
}  # fmt: skip


@pytest.mark.parametrize("mixin", MIXINS)
def test_params_are_in_mixins(mixin):
    """Which stages of one's own may have too."""
    kind = getattr(mixins, mixin)
    assert issubclass(ElephasEstimator, kind)
    assert sorted(mixins.__all__) == sorted(MIXINS)
    setter, getter, value = SETTERS[MIXINS[mixin]]
    own = type("Own", (kind,), {})()
    assert getattr(own, setter)(value) is own
    assert getattr(own, getter)() == own.getOrDefault(getattr(own, MIXINS[mixin])) == value
    for name in ("HasKerasModelConfig", "HasCustomObjects", "HasInferenceBatchSize", "HasPredictClasses"):
        assert issubclass(ElephasTransformer, getattr(mixins, name))


def test_files(frame, tmp_path):
    made = ElephasEstimator(keras_model_config=network().to_json(), **LATER, optimizer_config="sgd")
    made.save(str(tmp_path / "e.h5"))
    assert type(load_ml_estimator(str(tmp_path / "e.h5"))) is ElephasEstimator
    made.fit(frame).save(str(tmp_path / "t.h5"))
    assert type(load_ml_transformer(str(tmp_path / "t.h5"))) is ElephasTransformer


def test_the_adapter(sc, frame):
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6.0) % 3
    made = to_data_frame(sc, x, np.eye(3)[y.astype(int)], categorical=True)
    assert isinstance(made, DataFrame)
    assert set(made.columns) == {"features", "label"}
    features, labels = from_data_frame(made, categorical=True, nb_classes=3)
    np.testing.assert_array_equal(features, x)
    np.testing.assert_array_equal(labels, np.eye(3)[y.astype(int)])
    for column in ("features", "label"):
        holed = frame.withColumn(column, F.expr(f"if(label = 0, null, {column})"))
        with pytest.raises(ValueError, match=f"{column}: expected no nulls, got a row with one"):
            from_data_frame(holed)
    named = frame.withColumnRenamed("features", "a").withColumnRenamed("label", "b")
    for rows in (
        df_to_simple_rdd(frame, categorical=True, nb_classes=CLASSES),
        df_to_simple_rdd(named, True, CLASSES, features_col="a", label_col="b"),
        df_to_simple_rdd(named, True, CLASSES, featuresCol="a", labelCol="b"),
    ):
        assert isinstance(rows, RDD)
        assert [len(part) for part in rows.first()] == [WIDTH, CLASSES]
