"""PySpark's daemon with Keras and the workers' modules imported before it forks."""

import warnings

warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

import keras  # noqa: E402, F401
import tensorflow  # noqa: E402, F401
from pyspark.daemon import manager  # noqa: E402

import elephas_fast.spark.source  # noqa: E402, F401

if __name__ == "__main__":
    manager()
