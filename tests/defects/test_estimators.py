"""``ElephasEstimator`` and ``ElephasTransformer``: what a pipeline could not rely on."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import DenseVector, Vectors
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from elephas_fast.ml.adapter import df_to_simple_rdd
from elephas_fast.ml_model import ElephasEstimator, ElephasTransformer, load_ml_estimator, load_ml_transformer
from elephas_fast.utils.model_utils import ModelType
from tests.defects.linear import linear, local_change, random_rows


@pytest.fixture(scope="module")
def spark(sc) -> SparkSession:
    return SparkSession(sc)


def frame(spark: SparkSession, x: np.ndarray, y: np.ndarray, names: tuple[str, str] = ("features", "label")) -> Any:
    rows = [(Vectors.dense(row), float(label)) for row, label in zip(x, y, strict=True)]
    return spark.createDataFrame(rows, list(names))


def estimator(model: keras.Model, **options: Any) -> ElephasEstimator:
    given = {
        "keras_model_config": model.to_json(), "optimizer_config": keras.optimizers.serialize(model.optimizer),
        "loss": "mse", "metrics": ["mae"], "categorical": False, "epochs": 1, "batch_size": 8, "num_workers": 2,
        "validation_split": 0.0, "verbose": 0, **options,
    }  # fmt: skip
    return ElephasEstimator(**given)


def transformer(model: keras.Model, kind: ModelType, **options: Any) -> ElephasTransformer:
    return ElephasTransformer(
        keras_model_config=model.to_json(), weights=model.get_weights(), model_type=kind,
        **{"featuresCol": "features", "labelCol": "label", "outputCol": "prediction", **options},
    )  # fmt: skip


def jobs_of(spark: SparkSession, group: str) -> list[int]:
    return list(spark.sparkContext.statusTracker().getJobIdsForGroup(group))


def test_defect_08_transform_has_any_number_of_classes_and_the_column_asked_for(spark):
    """With ten classes or more it raised; all rows went through the driver; ``outputCol`` was ignored."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(12, activation="softmax")])
    x, y = random_rows(40, 3)
    df = frame(spark, x, y).repartition(3)
    spark.sparkContext.setJobGroup("transform", "transform alone")
    result = transformer(model, ModelType.CLASSIFICATION, outputCol="answer").transform(df)
    assert jobs_of(spark, "transform") == []
    assert result.columns == ["features", "label", "answer"]
    assert result.rdd.getNumPartitions() == 3
    rows = result.collect()
    assert len(rows) == 40
    got = np.array([row.answer for row in rows])
    expected = model.predict(np.array([row.features.toArray() for row in rows], np.float32), verbose=0)
    np.testing.assert_allclose(got, expected, atol=1e-5)

    model.layers[-1].bias.assign(np.where(np.arange(12) >= 10, 2.0, 0.0))
    classes = model.predict(np.array([row.features.toArray() for row in rows], np.float32), verbose=0).argmax(axis=1)
    assert {10, 11} <= set(classes)
    indices = transformer(model, ModelType.CLASSIFICATION, predict_classes=True).transform(df).collect()
    assert [row.prediction for row in indices] == classes.tolist()


@pytest.mark.parametrize(("mode", "changes"), [(None, 2), ("asynchronous", 2), ("hogwild", 2), ("synchronous", 1)])
def test_defect_10_the_estimator_trains_in_the_mode_it_says(spark, mode, changes):
    """Two workers with the same rows and a small rate: added, their changes are two; averaged, they are one. In 7.x
    the estimator averaged, although its default says asynchronous."""
    x, y = (np.concatenate([part, part]) for part in random_rows(8, 3))
    rate = 1e-5
    given = estimator(linear(3, rate=rate), **({} if mode is None else {"mode": mode}))
    assert given.get_mode() == (mode or "asynchronous")
    fitted = given.fit(frame(spark, x, y).coalesce(1))
    one = -local_change(np.zeros(3), x, y, rate, len(x))
    np.testing.assert_allclose(np.ravel(fitted.weights[0]), changes * one, rtol=0.02)


def test_defect_21_transform_reads_its_rows_once_and_keeps_them_together(spark):
    """The plan was run twice and its halves put side by side: with random features, others than the row's own."""
    counted = spark.sparkContext.accumulator(0)

    def count(value):
        counted.add(1)
        return value

    once = F.udf(count, "double").asNondeterministic()
    df = spark.range(0, 200, 1, 4).withColumn("x", once(F.rand()))
    df = df.select("id", array_to_vector(F.array("x")).alias("features"))
    rows = transformer(linear(1, kernel_initializer="ones"), ModelType.REGRESSION).transform(df).collect()
    assert [row.id for row in rows] == list(range(200))
    np.testing.assert_allclose([row.prediction for row in rows], [row.features[0] for row in rows], rtol=1e-6)
    assert counted.value == 200


def test_defect_22_regressions_may_have_several_outputs(spark):
    x, _ = random_rows(30, 3)
    targets = x @ np.array([[1.0, 2.0], [0.5, 0.0], [0.0, -1.0]], np.float32)
    rows = [(Vectors.dense(a), Vectors.dense(b)) for a, b in zip(x, targets, strict=True)]
    df = spark.createDataFrame(rows, ["features", "label"])
    fitted = estimator(linear(3, outputs=2, rate=0.1), epochs=60, mode="synchronous").fit(df)
    answers = fitted.transform(df).collect()
    got = np.array([np.asarray(row.prediction) for row in answers])
    assert got.shape == (30, 2)
    np.testing.assert_allclose(got, [row.label.toArray() for row in answers], atol=0.1)


def test_defect_22_columns_may_have_any_name_and_no_view_is_left(spark):
    x, y = random_rows(16, 3)
    df = frame(spark, x, y, ("my features.all", "select"))
    rows = df_to_simple_rdd(df, features_col="my features.all", label_col="select").collect()
    np.testing.assert_allclose([row[0] for row in rows], x, rtol=1e-6)
    np.testing.assert_allclose([row[1] for row in rows], y, rtol=1e-6)
    fitted = estimator(
        linear(3), featuresCol="my features.all", labelCol="select", outputCol="the `answer`", mode="synchronous"
    ).fit(df)  # fmt: skip
    assert "the `answer`" in fitted.transform(df).columns
    assert spark.catalog.listTables() == []


def test_defect_22_features_are_not_widened(spark):
    """A vector's numbers came as float64, so that workers held and sent twice the bytes."""
    x, y = random_rows(4, 3)
    (row, *_) = df_to_simple_rdd(frame(spark, x, y)).collect()
    assert np.asarray(row[0]).dtype == np.float32


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Spark's CrossValidator leaves its pool of threads open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_defect_22_folds_trained_at_once_do_not_mix(spark):
    """Parallel folds shared one temporary view. All targets are 3 x: whatever a fold is, its model must say so."""
    x = np.linspace(-1, 1, 48, dtype=np.float32)[:, None]
    df = frame(spark, x, 3 * x[:, 0])
    tried = estimator(linear(1, rate=0.3), mode="synchronous", num_workers=1)
    grid = ParamGridBuilder().addGrid(tried.epochs, [1, 30]).build()
    search = CrossValidator(
        estimator=tried, estimatorParamMaps=grid, evaluator=RegressionEvaluator(metricName="rmse"), numFolds=2,
        parallelism=2, seed=1,
    )  # fmt: skip
    found = search.fit(df)
    assert found.avgMetrics[1] < found.avgMetrics[0]
    np.testing.assert_allclose(np.ravel(found.bestModel.weights[0]), [3.0], atol=0.1)


class Doubled(keras.layers.Layer):
    """A layer that Keras does not know by itself."""

    def call(self, inputs):
        return 2 * inputs


@pytest.mark.parametrize("optimizer", ["adam", {"class_name": "SGD", "config": {"learning_rate": 0.25}}])
def test_defect_23_estimators_keep_optimizer_and_custom_objects(spark, tmp_path, optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1), Doubled()])
    model.compile("sgd", "mse")
    file = str(tmp_path / "estimator.h5")
    made = estimator(model, optimizer_config=optimizer, custom_objects={"Doubled": Doubled})
    made.save(file)
    loaded = load_ml_estimator(file, custom_objects={"Doubled": Doubled})
    assert loaded.get_optimizer_config() == made.get_optimizer_config()
    assert json.loads(loaded.get_keras_model_config()) == json.loads(model.to_json())
    assert loaded.get_custom_objects() == {"Doubled": Doubled}
    x, y = random_rows(16, 3)
    assert loaded.fit(frame(spark, x, y)).transform(frame(spark, x, y)).count() == 16


def test_defect_25_an_estimator_keeps_model_optimizer_and_rows(spark):
    """One worker in synchronous mode is Keras' own fit, Adam's moments included. Rows are read once for the whole fit,
    and the first of them before."""
    x, y = random_rows(32, 4)
    read = spark.sparkContext.accumulator(0)

    def count(value):
        read.add(1)
        return value

    df = frame(spark, x, y).coalesce(1)
    counted = df.withColumn("label", F.udf(count, "double").asNondeterministic()("label"))
    network = linear(4)
    network.compile(keras.optimizers.Adam(0.05), "mse")
    fitted = estimator(
        network, mode="synchronous", num_workers=1, epochs=5, shuffle=False, frequency="epoch"
    ).fit(counted)  # fmt: skip
    network.fit(x, y, epochs=5, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(np.ravel(fitted.weights[0]), np.ravel(network.get_weights()[0]), rtol=1e-5, atol=1e-6)
    assert len(fitted.training.epoch) == 5
    assert len(x) <= read.value <= 2 * len(x)


def same_predictions(one: DataFrame, other: DataFrame) -> None:
    np.testing.assert_allclose(
        [row.prediction for row in one.collect()], [row.prediction for row in other.collect()], rtol=1e-6
    )


def test_defect_23_a_fitted_pipeline_keeps_its_weights(spark, tmp_path):
    x, y = random_rows(24, 3)
    df = frame(spark, x, y)
    fitted = Pipeline(stages=[estimator(linear(3))]).fit(df)
    fitted.write().overwrite().save(str(tmp_path / "pipeline"))
    loaded = PipelineModel.load(str(tmp_path / "pipeline"))
    assert np.any(np.ravel(fitted.stages[0].weights[0]) != 0)
    same_predictions(loaded.transform(df), fitted.transform(df))


def test_defects_of_0_4_a_loaded_transformer_has_its_weights(spark, tmp_path):
    file = str(tmp_path / "transformer.h5")
    made = transformer(linear(3, kernel_initializer="glorot_uniform"), ModelType.REGRESSION)
    made.save(file)
    loaded = load_ml_transformer(file)
    assert loaded.model_type is ModelType.REGRESSION
    df = spark.createDataFrame([(DenseVector([1.0, 2.0, 3.0]), 0.0)], ["features", "label"])
    same_predictions(loaded.transform(df), made.transform(df))
