"""Run by ``tests/defects/test_modes.py``: in each mode a Python worker is killed amid the fit, and Spark starts its
task again."""

import os
import signal
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

import keras  # noqa: E402
from pyspark import TaskContext  # noqa: E402

from elephas_fast import SparkModel  # noqa: E402
from tests.faults.clusters import context  # noqa: E402
from tests.spark.conftest import own_leftovers, tiny_model  # noqa: E402

EPOCHS, BATCH, ROWS = 4, 8, 40
sc = context("local[2,4]")
folder = Path(tempfile.mkdtemp())


def rows(partition, _):
    """The rows of a partition; the process that reads them trains them, and leaves its id."""
    (folder / str(partition)).write_text(str(os.getpid()))
    for i in range(ROWS):
        yield np.full(4, i / ROWS, np.float32), np.float32(partition)


def kill(epoch, logs):
    if epoch == 1:
        os.kill(int((folder / "1").read_text()), signal.SIGKILL)


for mode in ("synchronous", "asynchronous", "hogwild"):
    history = SparkModel(tiny_model(), mode=mode, frequency="batch").fit(
        sc.parallelize(range(2), 2).mapPartitionsWithIndex(rows),
        epochs=EPOCHS,
        batch_size=BATCH,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=kill)],
    )
    rounds = EPOCHS * ROWS // BATCH
    expected = rounds if mode == "synchronous" else 2 * rounds
    print(mode, "updates", history.updates, "expected", expected, "epochs", len(history.epoch), history.faults)
    exact = history.updates == expected and history.faults == {**dict.fromkeys(history.faults, 0), "retried": 1}
    if not exact or len(history.epoch) != EPOCHS or [p.rows for p in history.partitions] != [ROWS, ROWS]:
        sys.exit(f"{mode}: a round was lost or applied twice")


def doomed(partition, items):
    """The rows of a partition, whose first attempt is killed while it trains."""
    if TaskContext.get().attemptNumber() == 0 and partition == 1:
        (folder / "doomed").touch()
        threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    return rows(partition, items)


found = []
for source in (rows, doomed):
    model = tiny_model()
    history = SparkModel(model, mode="synchronous", sync_every="fit").fit(
        sc.parallelize(range(2), 2).mapPartitionsWithIndex(source), epochs=500, batch_size=BATCH, verbose=0, seed=1
    )
    found.append((history.updates, len(history.epoch), *model.get_weights()))
print("sync_every='fit'", "killed", (folder / "doomed").exists(), found)
if not all(np.array_equal(one, other) for one, other in zip(*found, strict=True)) or found[0][:2] != (1, 500):
    sys.exit("sync_every='fit': the fit of a killed worker was lost or applied twice")
print("left:", own_leftovers())
sc.stop()
