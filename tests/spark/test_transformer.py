"""``ElephasTransformer``: one lazy column, computed once for each row, and files that give the same again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import h5py
import keras
import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import PythonException
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import StandardScaler, StringIndexer
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from elephas_fast import ElephasEstimator, ElephasTransformer, load_ml_estimator, load_ml_transformer
from elephas_fast.keras_bridge.model_type import ModelType
from elephas_fast.spark import transform as transform_module
from tests.spark.conftest import assert_nothing_left
from tests.spark.frames import classifier, dense, digits_frame


@pytest.fixture(scope="module")
def spark(sc) -> SparkSession:
    return SparkSession(sc)


@pytest.fixture(scope="module")
def digits(spark):
    return digits_frame(spark, 500).cache()


def untrained(**params) -> ElephasTransformer:
    model = dense()
    given = {"keras_model_config": model.to_json(), "weights": model.get_weights()}
    return ElephasTransformer(**{**given, "model_type": ModelType.CLASSIFICATION, **params})


def expected(transformer, frame) -> np.ndarray:
    x = np.array([row.features.toArray() for row in frame.select("features").collect()], np.float32)
    return transformer.get_model().predict(x, verbose=0)


def scores(frame) -> np.ndarray:
    return np.array([row.prediction for row in frame.select("prediction").collect()])


def test_rows_columns_and_their_order_stay(spark, digits):
    shuffled = digits.orderBy(F.rand(5)).coalesce(2).withColumn("tags", F.array(F.lit("a"), F.lit("b"))).cache()
    result = untrained().transform(shuffled)
    assert result.columns == [*shuffled.columns, "prediction"]
    assert [row.id for row in result.collect()] == [row.id for row in shuffled.collect()]
    np.testing.assert_allclose(scores(result), expected(untrained(), shuffled), atol=1e-6)
    assert {len(scores(untrained().transform(digits.repartition(n)))) for n in (1, 7)} == {500}


def test_vectors_beside_predictions_in_columnar_files(spark, digits, tmp_path):
    """Scans that Spark reads as columns, with vectors in them that it cannot hand on as columns."""
    digits.withColumn("array", F.expr("transform(sequence(0, 63), i -> cast(i / 64 as float))")).write.parquet(
        str(tmp_path / "rows")
    )
    frame = spark.read.parquet(str(tmp_path / "rows"))
    for column in ("features", "array"):
        result = untrained(featuresCol=column).transform(frame)
        assert len(result.collect()) == len(result.select("features", "prediction").collect()) == 500
        high = result.where("prediction[0] > 0.1").select("features", "prediction")
        assert high.count() == sum(row.prediction[0] > 0.1 for row in result.collect())
        assert result.where("id < 20").count() == 20


def test_the_plan_runs_once_and_late(sc, digits):
    """A plan that gives other rows each time it runs: predictions must be those of the rows they stand beside."""
    runs = sc.accumulator(0)

    @F.udf("double")
    def seen(value):
        runs.add(1)
        return float(value)

    random = digits.select("features", seen("id").alias("id"), F.rand().alias("noise"))
    result = untrained().transform(random)
    assert runs.value == 0
    rows = result.collect()
    assert runs.value == 500
    x = np.array([row.features.toArray() for row in rows], np.float32)
    np.testing.assert_allclose(
        [row.prediction for row in rows], untrained().get_model().predict(x, verbose=0), atol=1e-6
    )


def test_the_model_is_built_once_in_each_python_worker(spark, digits):
    transformer = untrained()

    def used_last(batches):
        from elephas_fast.keras_bridge import trainer

        for _ in batches:
            pass
        last = next(reversed(trainer._trainers.values()), None)
        yield pa.RecordBatch.from_pydict({"process": [os.getpid()], "trainer": [0 if last is None else id(last)]})

    seen: dict[int, list[int]] = {}
    for _ in range(3):
        transformer.transform(digits).select("prediction").collect()
        for row in spark.range(0, 2, 1, 2).mapInArrow(used_last, "process long, trainer long").collect():
            seen.setdefault(row.process, []).append(row.trainer)
    again = [trainers for trainers in seen.values() if trainers[0] and len(trainers) > 1]
    assert again
    assert all(len(set(trainers)) == 1 for trainers in again)


def test_by_way_of_pandas_it_is_the_same(digits, monkeypatch):
    """What Spark before 4.1 takes."""
    direct = scores(untrained().transform(digits))
    monkeypatch.delattr(transform_module.F, "arrow_udf")
    np.testing.assert_array_equal(scores(untrained().transform(digits)), direct)
    classes = untrained(predict_classes=True).transform(digits)
    np.testing.assert_array_equal(scores(classes), direct.argmax(axis=1))


def test_classes_batches_and_sequences(spark, digits):
    plain = scores(untrained().transform(digits))
    classes = untrained(predict_classes=True, outputCol="class").transform(digits)
    assert classes.schema["class"].dataType == T.DoubleType()
    assert [row["class"] for row in classes.collect()] == plain.argmax(axis=1).tolist()
    sent = spark.sparkContext.broadcast(untrained().weights)  # as up to Elephas 1.4.1
    in_sevens = untrained(inference_batch_size=7, weights=sent).transform(digits)
    np.testing.assert_allclose(scores(in_sevens), plain, atol=1e-6)
    keras.utils.set_random_seed(2)
    sequence = keras.Sequential([keras.Input((4, 2)), keras.layers.LSTM(3, return_sequences=True)])
    transformer = ElephasTransformer(keras_model_config=sequence.to_json(), weights=sequence.get_weights())
    x = np.random.default_rng(0).normal(size=(20, 4, 2))
    result = transformer.transform(spark.createDataFrame([(row.tolist(),) for row in x], ["features"]))
    assert result.schema["prediction"].dataType.simpleString() == "array<array<double>>"
    np.testing.assert_allclose(scores(result), sequence.predict(x, verbose=0), atol=1e-6)


def test_an_empty_frame_and_missing_weights(digits):
    assert untrained().transform(digits.where("id < 0")).collect() == []
    with pytest.raises(ValueError, match="weights: expected those of a trained model"):
        ElephasTransformer(keras_model_config=dense().to_json()).transform(digits)
    with pytest.raises(ValueError, match="weights: expected arrays of shapes"):
        untrained(weights=dense(inputs=5).get_weights()).transform(digits)
    with pytest.raises(TypeError, match="dataset: expected a DataFrame of Spark, got list"):
        untrained().transform([1])
    with pytest.raises(PythonException, match=r"features for .*: expected no nulls, got 5 of"):
        untrained().transform(digits.coalesce(1).withColumn("features", F.expr("if(id < 5, null, features)"))).collect()
    with pytest.raises(TypeError, match="unknown keyword of ElephasTransformer 'batch'"):
        untrained(batch=3)


SECOND_PROCESS = """
import sys, json, warnings
warnings.simplefilter("ignore")
from pyspark.errors import PythonException
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
frame = spark.read.parquet(sys.argv[2])
rows = PipelineModel.load(sys.argv[1]).transform(frame).select("id", "prediction").collect()
print("RESULT", json.dumps([[row.id, row.prediction] for row in rows]))
"""


def test_a_fitted_pipeline_in_a_fresh_process(spark, digits, tmp_path):
    frame = digits.withColumn("name", F.concat(F.lit("digit "), F.col("label").cast("int"))).drop("label")
    pipeline = Pipeline(
        stages=[
            StringIndexer(inputCol="name", outputCol="label", stringOrderType="alphabetAsc"),
            StandardScaler(inputCol="features", outputCol="scaled"),
            classifier(featuresCol="scaled", epochs=2),
        ]
    )
    unfitted = tmp_path / "unfitted"
    pipeline.save(str(unfitted))
    again = Pipeline.load(str(unfitted)).getStages()[2]
    assert type(again) is ElephasEstimator
    assert again.get_config() == pipeline.getStages()[2].get_config()
    fitted = pipeline.fit(frame)
    fitted.save(str(tmp_path / "fitted"))
    frame.write.parquet(str(tmp_path / "rows"))
    loaded = PipelineModel.load(str(tmp_path / "fitted")).stages[2]
    assert (loaded.uid, loaded.model_type, loaded.history) == (
        pipeline.getStages()[2].uid, ModelType.CLASSIFICATION, fitted.stages[2].history,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SECOND_PROCESS, str(tmp_path / "fitted"), str(tmp_path / "rows")],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    got = dict(json.loads(lines[0].removeprefix("RESULT ")))
    for row in fitted.transform(frame).collect():
        np.testing.assert_allclose(got[row.id], row.prediction, atol=1e-6)
    fitted.write().overwrite().save(str(tmp_path / "fitted"))
    assert_nothing_left()


def test_files_as_elephas_had_them(digits, tmp_path):
    estimator = classifier(custom_objects={"one": 1}, server_optimizer="adam", metrics=None)
    for path in (tmp_path / "e.h5", tmp_path / "estimator", str(tmp_path / "again.h5"), str(tmp_path / "again")):
        estimator.save(path)
        loaded = load_ml_estimator(path, {"one": 1})
        assert loaded.get_config() == estimator.get_config()
        assert loaded.get_metrics() is None
        assert loaded.get_custom_objects() == {"one": 1}
    estimator.write().overwrite().save(tmp_path / "estimator")
    assert ElephasEstimator.load(tmp_path / "estimator").uid == estimator.uid
    transformer = untrained(outputCol="out")
    transformer.save(tmp_path / "t.h5")
    transformer.save(tmp_path / "transformer")
    with h5py.File(tmp_path / "t.h5") as file:
        content = json.loads(file.attrs["distributed_config"])
    assert content["class_name"] == "ElephasTransformer"
    assert content["config"]["model_type"] == {"__enum__": "ModelType.CLASSIFICATION"}
    for name in ("t.h5", "transformer", f"file://{tmp_path}/transformer"):
        again = load_ml_transformer(name if "://" in name else tmp_path / name)
        assert (again.model_type, again.getOutputCol()) == (ModelType.CLASSIFICATION, "out")
        for one, other in zip(transformer.weights, again.weights, strict=True):
            np.testing.assert_array_equal(one, other)
        if "://" not in name:
            with pytest.raises(ValueError, match=r"expected a saved ElephasEstimator in .*, got 'ElephasTransformer'"):
                load_ml_estimator(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        load_ml_transformer(tmp_path / "none")
    with pytest.raises(ValueError, match=r"expected a file of this machine .* got hdfs://h/t.h5; leave out .h5"):
        transformer.save("hdfs://h/t.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(ValueError, match=r"expected a saved ElephasTransformer, but .*text.h5 is no HDF5 file"):
        load_ml_transformer(tmp_path / "text.h5")


def own_loss():
    """A function that travels by value: workers cannot import this file."""

    def squares(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

    return squares


def test_what_no_file_can_hold_is_said(tmp_path):
    for path in ("stage", "stage.h5"):
        with pytest.raises(TypeError, match="loss: expected what JSON can hold, got <function"):
            classifier(loss=own_loss()).save(str(tmp_path / path))
    classifier(loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1)).save(str(tmp_path / "smooth"))
    loaded = ElephasEstimator.load(str(tmp_path / "smooth"))
    assert loaded.get_loss()["config"]["label_smoothing"] == 0.1


@pytest.mark.parametrize("by_name", [False, True])
def test_own_losses_and_layers_train(digits, by_name):
    loss = {"loss": "squares", "custom_objects": {"squares": own_loss()}} if by_name else {"loss": own_loss()}
    transformer = classifier(epochs=1, **loss).fit(digits)
    assert transformer.model_type is None
    assert scores(transformer.transform(digits)).shape == (500, 10)
