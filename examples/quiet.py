"""``import quiet`` first: fewer start-up messages of Spark and TensorFlow. Nothing else depends on it."""

from __future__ import annotations

import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

SPARK = {"spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
