"""Run by ``test_lifecycle``: a fit that is interrupted as Ctrl-C does, then another one, as often as is asked for."""

import os
import signal
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

import keras  # noqa: E402
from pyspark import SparkConf, SparkContext  # noqa: E402

from elephas_fast import SparkModel  # noqa: E402
from elephas_fast.utils.rdd_utils import to_simple_rdd  # noqa: E402
from tests.spark.conftest import own_leftovers, tiny_model  # noqa: E402

conf = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false").set("spark.log.level", "OFF")
conf.set("spark.python.daemon.module", "elephas_fast.spark.daemon")
sc = SparkContext(conf=conf)
rdd = to_simple_rdd(sc, np.ones((64, 4), np.float32), np.ones(64, np.float32))
epochs: list[int] = []


def interrupt(epoch: int, logs: object) -> None:
    epochs.append(epoch)
    if epoch == 1:
        os.kill(os.getpid(), signal.SIGINT)


callback = keras.callbacks.LambdaCallback(on_epoch_end=interrupt)
for _ in range(int(sys.argv[1])):
    model = tiny_model()
    before = model.get_weights()
    epochs.clear()
    spark_model = SparkModel(model, mode="asynchronous", num_workers=2)
    try:
        spark_model.fit(rdd, epochs=500, verbose=0, callbacks=[callback])
    except KeyboardInterrupt:
        print(f"interrupted after {len(epochs)} epochs", end=", ")
    assert any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    history = spark_model.fit(rdd, epochs=2, verbose=0)
    print(f"then trained {len(history.epoch)} epochs")
print(f"left: {own_leftovers()}")
sc.stop()
