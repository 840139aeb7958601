"""Run by ``test_killed_driver``: one fit in each mode, each with its checkpoints in a folder of its own; going on where
an earlier process was killed. Prints one line of JSON for each that comes to its end."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

import numpy as np  # noqa: E402
from pyspark import SparkConf, SparkContext  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

from elephas_fast import SparkModel  # noqa: E402
from elephas_fast.utils.rdd_utils import to_simple_rdd  # noqa: E402
from tests.spark.conftest import dense_model  # noqa: E402

EPOCHS, BATCH, ROWS, WORKERS = 10, 32, 1408, 2
ROUNDS = ROWS // WORKERS // BATCH
MODES: dict[str, dict[str, Any]] = {
    "synchronous": {"update": "gradient"},
    "asynchronous": {},
    "hogwild": {"update": "gradient"},
}


def epoch_in(folder: Path) -> int:
    """The epoch of the newest checkpoint by its name; 0 where there is none."""
    names = [name for name in os.listdir(folder) if name.startswith("fit-")] if folder.exists() else []
    return max(((name.split("-")[2], epoch_of(name)) for name in names), default=("", 0))[1]


def epoch_of(name: str) -> int:
    return int(name.split("-")[3].partition(".")[0])


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return (data.data[order] / 16.0).astype(np.float32), np.eye(10, dtype=np.float32)[data.target[order]]


def train(sc: SparkContext, mode: str, model: Any, **options: Any) -> dict[str, Any]:
    """Train; what came of it."""
    x, y = digits()
    spark_model = SparkModel(model, mode=mode, frequency="batch", num_workers=WORKERS, **MODES[mode])
    history = spark_model.fit(
        to_simple_rdd(sc, x[:ROWS], y[:ROWS]), epochs=EPOCHS, batch_size=BATCH, seed=7, **{"verbose": 0, **options}
    )
    right = np.asarray(spark_model.predict(x[ROWS:])).argmax(1) == y[ROWS:].argmax(1)
    return {
        "mode": mode,
        "updates": history.updates,
        "epochs": history.epoch,
        "losses": history.history["loss"],
        "lost": history.faults,
        "accuracy": float(right.mean()),
        "weights": hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest(),
    }


def main(folder: Path, *, compare: bool) -> None:
    conf = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false").set("spark.log.level", "OFF")
    conf.set("spark.python.daemon.module", "elephas_fast.spark.daemon")
    sc = SparkContext(conf=conf)
    for mode in MODES:
        found = train(sc, mode, dense_model(), checkpoint_dir=str(folder / mode), resume=True)
        print(json.dumps({"resumed": True, **found}), flush=True)
    if compare:
        print(json.dumps({"resumed": False, **train(sc, "synchronous", dense_model())}), flush=True)
    sc.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), compare=sys.argv[2] == "compare")
