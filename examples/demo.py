"""The main job, once in each mode, beside a plain Keras ``fit``: ``make demo``.

Trains a small MLP on real images with two Spark workers, prints what ran where, test accuracy and throughput, and
writes a picture of the loss curves.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

import keras  # noqa: E402
from data import Images, load  # noqa: E402
from pyspark import SparkConf, SparkContext  # noqa: E402

from elephas_fast import SparkModel  # noqa: E402
from elephas_fast.utils.rdd_utils import to_simple_rdd  # noqa: E402

EPOCHS = 6
BATCH_SIZE = 64
RUNS: list[tuple[str, str | int]] = [("synchronous", "epoch"), ("asynchronous", "batch"), ("hogwild", "batch")]


@dataclass
class Result:
    """One line of the table and one curve of the picture."""

    name: str
    seconds: float
    rows_per_second: float
    accuracy: float
    history: dict[str, list[float]]


def build(width: int) -> keras.Model:
    """``width``-128-128-10."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((width,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def with_keras(data: Images, epochs: int) -> Result:
    """The same rows and epochs in this process."""
    model = build(data.x_train.shape[1])
    model.train_on_batch(data.x_train[:BATCH_SIZE], data.y_train[:BATCH_SIZE])
    model = build(data.x_train.shape[1])
    began = time.perf_counter()
    history = model.fit(
        data.x_train, data.y_train, epochs=epochs, batch_size=BATCH_SIZE, validation_split=0.1, verbose=0
    )
    seconds = time.perf_counter() - began
    accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)[1]
    rows = 0.9 * len(data.x_train) * epochs
    return Result("Keras fit, one process", seconds, rows / seconds, accuracy, history.history)


def with_spark(data: Images, rdd: Any, mode: str, frequency: str | int, epochs: int) -> Result:
    """Two Spark workers and a parameter server."""
    spark_model = SparkModel(build(data.x_train.shape[1]), mode=mode, frequency=frequency, num_workers=2)
    began = time.perf_counter()
    history = spark_model.fit(rdd, epochs=epochs, batch_size=BATCH_SIZE, validation_split=0.1, verbose=1, seed=1)
    seconds = time.perf_counter() - began
    for partition in history.partitions:
        print(
            f"    partition {partition.partition}: {partition.rows:,} rows trained, {partition.validation_rows:,} "
            f"validated by process {partition.pid} on {partition.host}, weights over {partition.transport}"
        )
    accuracy = spark_model.evaluate(data.x_test, data.y_test)[1]
    rows = 0.9 * len(data.x_train) * epochs
    rhythm = f"a round is one {frequency}" if isinstance(frequency, str) else f"a round is {frequency} batches"
    return Result(f"{mode}, {rhythm}", seconds, rows / seconds, accuracy, history.history)


def draw(results: list[Result], title: str, file: Path) -> None:
    """Training loss (thin) and validation loss (thick) of each run over the epochs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.8))
    colours = ["#555555", "#1f77b4", "#d62728", "#2ca02c"]
    for result, colour in zip(results, colours, strict=True):
        epochs = range(1, len(result.history["loss"]) + 1)
        axes.plot(epochs, result.history["loss"], color=colour, linewidth=1, linestyle="--")
        label = f"{result.name} ({result.accuracy:.1%} on the test rows)"
        axes.plot(epochs, result.history["val_loss"], color=colour, linewidth=2.2, marker="o", label=label)
    axes.set(xlabel="epoch", ylabel="loss", title=title)
    axes.text(0.01, 0.02, "solid: validation, dashed: training", transform=axes.transAxes, fontsize=9, color="#555555")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=130)


def main() -> int:
    """Run all; the exit status is 1 if a mode missed the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the picture")
    parser.add_argument("--epochs", type=int, default=None)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    data = load()
    epochs = options.epochs or (EPOCHS if len(data.x_train) > 10_000 else 5 * EPOCHS)
    print(f"Data: {data.name}, {len(data.x_train):,} training and {len(data.x_test):,} test images; {epochs} epochs")
    conf = (
        SparkConf()
        .setMaster("local[2]")
        .setAppName("elephas_fast demo")
        .set("spark.ui.showConsoleProgress", "false")
        .set("spark.driver.memory", "3g")
        .set("spark.log.level", "ERROR")
    )
    sc = SparkContext(conf=conf)
    rdd = to_simple_rdd(sc, data.x_train, data.y_train)

    began = time.perf_counter()
    warm = to_simple_rdd(sc, data.x_train[:512], data.y_train[:512])
    SparkModel(build(data.x_train.shape[1]), num_workers=2).fit(warm, epochs=1, verbose=0)
    print(f"First fit of a session (TensorFlow starts in the workers): {time.perf_counter() - began:.1f} s\n")

    results = [with_keras(data, epochs)]
    for mode, frequency in RUNS:
        results.append(with_spark(data, rdd, mode, frequency, epochs))
        print()
    sc.stop()

    print(f"{'':44}{'wall time':>10}{'rows/s':>10}{'test accuracy':>15}")
    for result in results:
        print(f"{result.name:44}{result.seconds:>8.1f} s{result.rows_per_second:>10,.0f}{result.accuracy:>14.1%}")
    file = options.out / "loss.png"
    draw(results, f"{data.name}: two Spark workers beside plain Keras", file)
    print(f"\nLoss curves: {file}")
    missed = [r.name for r in results[1:] if r.accuracy < data.goal]
    if missed:
        print(f"Below the accuracy of {data.goal:.0%} that this model reaches: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
