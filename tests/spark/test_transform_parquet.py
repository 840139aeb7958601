"""``transform`` on frames that are read from columnar files."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

from elephas_fast.ml_model import ElephasTransformer
from elephas_fast.utils.model_utils import ModelType


@pytest.mark.parametrize("columns", [["number", "features", "prediction"], ["number", "prediction"], ["prediction"]])
def test_vectors_in_a_parquet_file(sc, tmp_path, columns):
    spark = SparkSession(sc)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    rows = [(i, Vectors.dense(i, 1.0, -i), Vectors.sparse(2, {1: 1.0})) for i in range(12)]
    spark.createDataFrame(rows, ["number", "features", "other"]).coalesce(1).write.parquet(str(tmp_path / "rows"))
    transformer = ElephasTransformer(
        keras_model_config=model.to_json(), weights=model.get_weights(), model_type=ModelType.CLASSIFICATION
    )
    found = transformer.transform(spark.read.parquet(str(tmp_path / "rows"))).select(*columns).collect()
    expected = model.predict(np.array([row[1].toArray() for row in rows], np.float32), verbose=0)
    np.testing.assert_allclose([row.prediction for row in found], expected, atol=1e-6)
