"""Models and files that Elephas could not handle."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from pyspark.mllib.linalg import Matrices, Vectors

from elephas_fast import AsynchronousSparkModel, SparkMLlibModel, SparkModel, load_spark_model
from elephas_fast.spark import inference
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.defects.linear import linear, partitions, random_rows
from tests.spark.conftest import dense_model


def test_defect_11_the_mllib_model_predicts_matrices_and_vectors(sc):
    network = linear(3, outputs=2, kernel_initializer="glorot_uniform")
    model = SparkMLlibModel(network, num_workers=2)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    expected = x @ network.get_weights()[0]
    matrix = model.predict(Matrices.dense(4, 3, x.ravel(order="F")))
    assert (matrix.numRows, matrix.numCols) == (4, 2)
    np.testing.assert_allclose(matrix.toArray(), expected, rtol=1e-5)
    vector = model.predict(Vectors.dense(x[2]))
    np.testing.assert_allclose(vector.toArray(), expected[2], rtol=1e-5)


def two_inputs() -> keras.Model:
    keras.utils.set_random_seed(0)
    image, facts = keras.Input((4, 4, 1)), keras.Input((3,))
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(image), facts])
    model = keras.Model([image, facts], keras.layers.Dense(1)(joined))
    model.compile(keras.optimizers.SGD(0.01), "mse", metrics=["mae"])
    return model


def test_defect_18_synchronous_mode_trains_several_inputs_of_any_shape(sc, monkeypatch):
    monkeypatch.setattr(inference, "LOCAL_ROWS", 0)
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(48, 4, 4, 1)).astype(np.float32), rng.normal(size=(48, 3)).astype(np.float32)]
    y = x[1].sum(axis=1)
    ours, plain = two_inputs(), two_inputs()
    model = SparkModel(ours, num_workers=1)
    model.fit(to_simple_rdd(sc, x, y), epochs=3, batch_size=8, shuffle=False, verbose=0)
    plain.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0)
    for got, expected in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.stack(model.predict(x)), plain.predict(x, verbose=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.evaluate(x, y), plain.evaluate(x, y, verbose=0), rtol=1e-4)


class Doubled(keras.layers.Layer):
    """A layer that Keras does not know by itself."""

    def call(self, inputs):
        return 2 * inputs


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_defect_20_files_come_back_as_what_they_were(sc, tmp_path, suffix):
    """``.keras`` raised, an AsynchronousSparkModel came back as None, custom objects were not passed on."""
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), Doubled()])
    network.compile("sgd", "mse")
    model = AsynchronousSparkModel(
        network, mode="hogwild", frequency="batch", num_workers=2, custom_objects={"Doubled": Doubled}
    )
    file = str(tmp_path / f"model{suffix}")
    model.save(file)
    loaded = load_spark_model(file, custom_objects={"Doubled": Doubled})
    assert type(loaded) is AsynchronousSparkModel
    assert (loaded.mode, loaded.frequency, loaded.num_workers) == ("hogwild", "batch", 2)
    x, y = random_rows(16, 4)
    np.testing.assert_array_equal(np.stack(loaded.predict(x)), network.predict(x, verbose=0))
    loaded.fit(to_simple_rdd(sc, x, np.stack([y, y], axis=1)), epochs=1, verbose=0)


def test_defect_21_predictions_keep_the_order_of_the_rows(sc):
    """Up to 3.3.0 workers' rows came back shuffled."""
    network = linear(1, kernel_initializer="ones")
    x = np.arange(100, dtype=np.float32)[:, None]
    for workers in (None, 1, 2, 3):
        rows = SparkModel(network, num_workers=workers).predict(sc.parallelize(list(x), 5))
        np.testing.assert_array_equal(np.stack(rows), x)


def test_defect_21_evaluation_weighs_rows_and_keeps_all_metrics(sc, digits):
    _, _, x, y = digits
    network = dense_model(metrics=("accuracy", "mae", "mse"))
    results = SparkModel(network).evaluate(partitions(sc, [(x[:5], y[:5]), (x[5:], y[5:]), (x[:0], y[:0])]))
    expected = network.evaluate(x, y, verbose=0)
    assert len(results) == 4
    np.testing.assert_allclose(results, expected, rtol=1e-4)
