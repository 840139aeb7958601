"""``ElephasEstimator``: what its columns may hold, and that its options mean what they say."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel, ParamGridBuilder
from pyspark.mllib.linalg import Vectors as OldVectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from elephas_fast import ElephasEstimator, ElephasTransformer
from elephas_fast.config import TrainingConfig
from elephas_fast.optimizers import SGD
from tests.spark.conftest import assert_nothing_left
from tests.spark.frames import accuracy, classifier, dense, digits_frame


@pytest.fixture(scope="module")
def spark(sc) -> SparkSession:
    return SparkSession(sc)


@pytest.fixture(scope="module")
def digits(spark):
    return digits_frame(spark).cache()


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
def test_a_classifier_in_each_mode(digits, mode):
    transformer = classifier(mode=mode, epochs=8).fit(digits)
    assert isinstance(transformer, ElephasTransformer)
    assert transformer.training.partitions[0].rows > 600
    assert accuracy(transformer.transform(digits)) > 0.93
    assert [len(logs["val_acc"]) for logs in transformer.history] == [8, 8]
    assert transformer.training.updates > 300 if mode != "synchronous" else 150 < transformer.training.updates < 500
    assert_nothing_left()


def test_mode_and_frequency_and_server_optimizer_are_honoured(digits):
    rows = digits.limit(640).coalesce(1)
    counts = {}
    for mode, frequency in [("synchronous", "epoch"), ("asynchronous", "epoch"), ("hogwild", 4)]:
        options = {"mode": mode, "frequency": frequency, "validation_split": 0.0, "epochs": 2}
        counts[mode] = classifier(**options).fit(rows).training.updates
    assert counts["synchronous"] == 2
    assert counts["asynchronous"] == 4
    assert 10 <= counts["hogwild"] <= 14
    frozen = classifier(server_optimizer=SGD(1e-12), epochs=1).fit(rows)
    keras.utils.set_random_seed(1)
    before = keras.models.model_from_json(frozen.get_keras_model_config()).get_weights()
    for one, other in zip(frozen.weights, before, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_every_option_of_training_is_a_param():
    names = {param.name for param in ElephasEstimator().params}
    assert {name for name, _, _ in TrainingConfig.table()} <= names


def test_nothing_needs_an_rdd_or_a_context(digits, monkeypatch):
    def refuse(self):
        caller = sys._getframe(1).f_globals["__name__"]  # Spark's own classic functions use the context themselves
        assert not caller.startswith("elephas_fast"), f"{caller} asked for what this session does not give out"
        return context

    estimator, context = classifier(epochs=1), digits.sparkSession.sparkContext
    with monkeypatch.context() as patched:
        for owner, name in [(type(digits), "rdd"), (DataFrame, "rdd"), (SparkSession, "sparkContext")]:
            patched.setattr(owner, name, property(refuse))
        transformed = estimator.fit(digits).transform(digits)
        assert len(transformed.select("prediction").head(3)) == 3


def as_sparse(row):
    return Vectors.sparse(64, [(i, v) for i, v in enumerate(row) if v])


@pytest.mark.parametrize("kind", ["sparse", "mllib", "array of double", "array of int", "64 columns", "two columns"])
def test_forms_of_features(spark, digits, kind):
    rows = digits.limit(300).collect()
    values = [row.features.toArray() for row in rows]
    labels = [row.label for row in rows]
    columns = "features"
    if kind == "64 columns":
        columns = [f"p.{i}" for i in range(64)]
        data = [(*v.tolist(), label) for v, label in zip(values, labels, strict=True)]
        frame = spark.createDataFrame(data, [*columns, "label"])
    elif kind == "two columns":
        columns = ["first", "rest"]
        data = [(float(v[0]), v[1:].tolist(), label) for v, label in zip(values, labels, strict=True)]
        frame = spark.createDataFrame(data, [*columns, "label"])
    else:
        made = {
            "sparse": as_sparse,
            "mllib": lambda v: OldVectors.dense(v),
            "array of double": lambda v: v.tolist(),
            "array of int": lambda v: (v * 16).astype(int).tolist(),
        }[kind]
        data = [(made(v), label) for v, label in zip(values, labels, strict=True)]
        frame = spark.createDataFrame(data, ["features", "label"])
    transformer = classifier(featuresCol=columns, epochs=1, validation_split=0.0).fit(frame)
    assert sum(part.rows for part in transformer.training.partitions) == 300
    got = np.array([row.prediction for row in transformer.transform(frame).select("prediction").collect()])
    scale = 16 if kind == "array of int" else 1
    expected = transformer.get_model().predict(np.array(values, np.float32) * scale, verbose=0)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_images_lie_flat_in_vectors(digits):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    transformer = classifier(keras_model_config=model.to_json(), epochs=4).fit(digits)
    assert accuracy(transformer.transform(digits)) > 0.85


def test_sample_weights_and_held_out_rows(spark, digits):
    wrong = F.col("id") % 2 == 0
    frame = (
        digits.withColumn("y", F.when(wrong, F.lit(0.0)).otherwise(F.col("label")))
        .withColumn("w", F.when(wrong, F.lit(0.0)).otherwise(F.lit(1.0)))
        .withColumn("held", F.col("id") >= 1500)
    )
    weighted = classifier(labelCol="y", weightCol="w", validationIndicatorCol="held", epochs=8).fit(frame)
    assert sum(part.rows for part in weighted.training.partitions) == 1500
    assert sum(part.validation_rows for part in weighted.training.partitions) == 297
    assert accuracy(weighted.transform(digits)) > 0.9
    held = np.array([row.features.toArray() for row in frame.where("held").collect()], np.float32)
    labels = np.array([row.y for row in frame.where("held").collect()], int)
    weights = np.array([row.w for row in frame.where("held").collect()], np.float32)
    model = weighted.get_model()
    model.compile(loss="categorical_crossentropy")
    expected = model.evaluate(held, np.eye(10)[labels], sample_weight=weights, verbose=0)
    assert weighted.training.history["val_loss"][-1] == pytest.approx(expected, rel=1e-3)


def test_regression_of_one_and_of_several_numbers(spark):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5))
    y = x @ rng.normal(size=(5, 2))
    frame = spark.createDataFrame(
        [(Vectors.dense(a), float(b[0]), b.tolist(), float(b[1])) for a, b in zip(x, y, strict=True)],
        ["features", "one", "both", "other"],
    )
    common = {"categorical": False, "loss": "mse", "metrics": ["mae"], "epochs": 12, "batch_size": 16}
    one = classifier(
        keras_model_config=dense(inputs=5, outputs=1, activation="linear").to_json(), labelCol="one", **common
    ).fit(frame)
    result = one.transform(frame)
    assert result.schema["prediction"].dataType == T.DoubleType()
    got = result.select("prediction", "one").collect()
    assert np.mean([(row.prediction - row.one) ** 2 for row in got]) < 0.2 * np.var(y[:, 0])
    config = dense(inputs=5, outputs=2, activation="linear").to_json()
    for labels in ("both", ["one", "other"]):
        two = classifier(keras_model_config=config, labelCol=labels, **common).fit(frame)
        rows = two.transform(frame).select("prediction", "both").collect()
        error = np.mean((np.array([r.prediction for r in rows]) - np.array([r.both for r in rows])) ** 2)
        assert error < 0.2 * np.var(y)


def test_several_inputs_and_outputs(spark):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 3)), rng.normal(size=(200, 2))
    frame = spark.createDataFrame(
        [(Vectors.dense(p), q.tolist(), float(p.sum()), float(q.sum() > 0)) for p, q in zip(a, b, strict=True)],
        ["a", "b", "total", "sign"],
    )
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    hidden = keras.layers.Dense(16, activation="relu")(keras.layers.Concatenate()([left, right]))
    outputs = [
        keras.layers.Dense(1, name="total")(hidden),
        keras.layers.Dense(1, activation="sigmoid", name="sign")(hidden),
    ]
    model = keras.Model([left, right], outputs)
    transformer = ElephasEstimator(
        model, loss={"total": "mse", "sign": "binary_crossentropy"}, metrics=None, featuresCol=["a", "b"],
        labelCol=["total", "sign"], categorical=False, epochs=2, num_workers=2, frequency="batch",
        optimizer_config="adam",
    ).fit(frame)  # fmt: skip
    rows = transformer.transform(frame).select("prediction").collect()
    expected = transformer.get_model().predict([a, b], verbose=0)
    for name, values in zip(("total", "sign"), expected, strict=True):
        np.testing.assert_allclose([row.prediction[name] for row in rows], values, atol=1e-5)


def test_class_indices_for_sparse_losses_and_two_classes(digits):
    sparse = classifier(loss="sparse_categorical_crossentropy", epochs=4).fit(digits)
    assert accuracy(sparse.transform(digits)) > 0.9
    two = digits.withColumn("label", (F.col("label") > 4).cast("double"))
    binary = classifier(
        keras_model_config=dense(outputs=1, activation="sigmoid").to_json(), loss="binary_crossentropy",
        predict_classes=True, epochs=4,
    ).fit(two)  # fmt: skip
    result = binary.transform(two)
    assert result.schema["prediction"].dataType == T.DoubleType()
    assert np.mean([row.prediction == row.label for row in result.collect()]) > 0.85


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_cross_validation_with_two_fits_at_once(digits, tmp_path):
    """Around a pipeline, and again out of the files of both validator and model."""
    estimator = classifier(predict_classes=True, frequency="epoch")
    grid = ParamGridBuilder().addGrid(estimator.epochs, [1, 6]).addGrid(estimator.batch_size, [32]).build()
    evaluator = MulticlassClassificationEvaluator(metricName="accuracy")
    validator = CrossValidator(
        estimator=Pipeline(stages=[estimator]), estimatorParamMaps=grid, evaluator=evaluator, numFolds=2,
        parallelism=2, seed=1,
    )  # fmt: skip
    validator.save(str(tmp_path / "validator"))
    again = CrossValidator.load(str(tmp_path / "validator"))
    (stage,) = again.getEstimator().getStages()
    assert (type(stage), stage.uid, stage.get_config()) == (ElephasEstimator, estimator.uid, estimator.get_config())
    assert again.getEstimatorParamMaps() == grid
    fitted = again.fit(digits)
    assert fitted.avgMetrics[1] > fitted.avgMetrics[0]
    assert fitted.avgMetrics[1] > 0.8
    assert len(fitted.bestModel.stages[0].training.epoch) == 6
    fitted.save(str(tmp_path / "fitted"))
    loaded = CrossValidatorModel.load(str(tmp_path / "fitted"))
    assert loaded.avgMetrics == fitted.avgMetrics
    assert type(loaded.bestModel.stages[0]) is ElephasTransformer
    for one, other in zip(fitted.bestModel.stages[0].weights, loaded.bestModel.stages[0].weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert evaluator.evaluate(loaded.transform(digits)) == evaluator.evaluate(fitted.transform(digits)) > 0.8
    assert_nothing_left()


_X = keras.Input((64,), name="x")
NAMED = keras.Model(_X, keras.layers.Dense(10, activation="softmax", name="output")(_X)).to_json()


@pytest.mark.parametrize(
    ("params", "columns", "message"),
    [
        ({"featuresCol": "x"}, {}, r"featuresCol: expected a column of the DataFrame \(features, label, id\), got 'x'"),
        ({"featuresCol": "id"}, {}, r"x: expected shape \(64,\), got \(\)"),
        ({"featuresCol": "t"}, {"t": "cast(id as string)"}, "numbers, vectors or arrays .* got string"),
        ({"labelCol": "l"}, {"l": "10.0D"}, "expected classes from 0 to 9, got 10.0"),
        ({"labelCol": "l"}, {"l": "cast(null as double)"}, "labels for output: expected no nulls, got 1 of 1"),
        ({"featuresCol": "f"}, {"f": "if(id < 0, features, null)"}, "features for x: expected no nulls, got 1 of 1"),
        ({"weightCol": "w"}, {"w": "'heavy'"}, "weightCol: expected numbers or booleans in column 'w', got string"),
        ({"weightCol": "w"}, {"w": "cast(null as float)"}, "sample weights: expected no nulls"),
        ({"validationIndicatorCol": "h"}, {"h": "'yes'"}, "validationIndicatorCol: expected numbers or booleans"),
        ({"validationIndicatorCol": "h"}, {"h": "true"}, "at least one row to train on, got true in all 1797 rows"),
        ({"loss": None}, {}, "loss: expected one"),
        ({"loss": "msee"}, {}, "loss: expected a name that Keras knows, got 'msee'"),
        ({"metrics": ["acc", "maee"]}, {}, "metrics: expected a name that Keras knows, got 'maee'"),
        ({"optimizer_config": "adamm"}, {}, "optimizer_config: expected a name that Keras knows, got 'adamm'"),
    ],
)  # fmt: skip
def test_bad_columns(digits, params, columns, message):
    frame = digits
    for name, column in columns.items():
        frame = frame.withColumn(name, F.expr(column))
    with pytest.raises(ValueError, match=message):
        classifier(keras_model_config=NAMED, **params).fit(frame)
    assert_nothing_left()


def test_what_is_no_frame_and_no_model(digits):
    with pytest.raises(TypeError, match="dataset: expected a DataFrame of Spark, got list"):
        classifier().fit([1, 2])
    with pytest.raises(ValueError, match="keras_model_config: expected a model, got none"):
        ElephasEstimator(loss="mse").fit(digits)


def test_no_rows(spark):
    schema = T.StructType([T.StructField("features", VectorUDT()), T.StructField("label", T.DoubleType())])
    with pytest.raises(ValueError, match="expected at least one row to train on"):
        classifier().fit(spark.createDataFrame([], schema))
    assert_nothing_left()
