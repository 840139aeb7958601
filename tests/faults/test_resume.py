"""A fit whose driver is killed goes on from its last checkpoint: no step missing, none done twice."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elephas_fast import ElephasEstimator, SparkMLlibModel, SparkModel
from elephas_fast.checkpoint import read
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.faults.resumable import EPOCHS, MODES, ROUNDS, WORKERS
from tests.spark.conftest import assert_nothing_left, dense_model, tiny_model

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0


def epoch_in(folder: Path) -> int:
    """The epoch of the newest checkpoint by its name; 0 where there is none."""
    names = [name for name in os.listdir(folder) if name.startswith("fit-")] if folder.exists() else []
    return max(((name.split("-")[2], epoch_of(name)) for name in names), default=("", 0))[1]


def epoch_of(name: str) -> int:
    return int(name.split("-")[3].partition(".")[0])


def start(folder: Path, then: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.resumable", str(folder), then],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def kill_after(driver: subprocess.Popen[str], folder: Path, epoch: int, pause: float) -> bool:
    """kill -9 of a driver once the checkpoint of an epoch is there; whether it was still training."""
    deadline = time.monotonic() + PATIENCE
    while epoch_in(folder) < epoch and driver.poll() is None:
        assert time.monotonic() < deadline, f"no checkpoint of epoch {epoch} in {PATIENCE} s"
        time.sleep(0.005)
    time.sleep(pause)
    driver.send_signal(signal.SIGKILL)
    driver.communicate(timeout=PATIENCE)
    return driver.returncode == -signal.SIGKILL


@pytest.mark.fault(9)
@pytest.mark.fault(20)
def test_a_driver_killed_again_and_again_comes_to_the_same_end(tmp_path, how_many, injected):
    """Fits in all three modes, one after the other, with kills spread over them. The synchronous one has the very
    weights of a fit that nobody killed; the others have made as many steps."""
    rng = random.Random(0)
    kills = how_many(2, 50)
    done = 0
    for number in range(kills):
        mode, epoch = divmod(int((number + 0.5) / kills * len(MODES) * EPOCHS), EPOCHS)
        before = {name: epoch_in(tmp_path / name) for name in MODES}
        driver = start(tmp_path, "-")
        done += kill_after(driver, tmp_path / list(MODES)[mode], epoch, rng.random() * 0.1)
        assert all(epoch_in(tmp_path / name) >= before[name] for name in MODES)
    assert done == kills
    assert_nothing_left(within=20.0)
    last = start(tmp_path, "compare")
    output, _ = last.communicate(timeout=PATIENCE)
    assert last.returncode == 0, output
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    resumed = {result["mode"]: result for result in found if result["resumed"]}
    (undisturbed,) = (result for result in found if not result["resumed"])
    steps = {mode: EPOCHS * ROUNDS * (1 if mode == "synchronous" else WORKERS) for mode in MODES}
    lost = {mode: steps[mode] - resumed[mode]["updates"] for mode in MODES}
    injected(kills_of_the_driver=done, steps_lost_or_doubled=sum(map(abs, lost.values())))
    assert not any(lost.values()), lost
    for result in resumed.values():
        assert result["epochs"] == list(range(EPOCHS))
        assert len(result["losses"]) == EPOCHS
        assert result["accuracy"] > undisturbed["accuracy"] - 0.05
    assert resumed["synchronous"]["weights"] == undisturbed["weights"]
    assert undisturbed["accuracy"] > 0.85


def rows(sc: Any, count: int = 48) -> Any:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    return to_simple_rdd(sc, x, x.sum(1))


def trainer(model: Any = None, **options: Any) -> SparkModel:
    options = {"num_workers": 2, "batch_size": 8, "frequency": "batch", **options}
    return SparkModel(tiny_model() if model is None else model, **options)


def fit(sc: Any, spark_model: SparkModel, folder: Path, epochs: int, **options: Any) -> Any:
    options = {"rdd": rows(sc), "seed": 5, "verbose": 0, **options}
    return spark_model.fit(epochs=epochs, checkpoint_dir=str(folder), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "synchronous", "update": "gradient"},
        {"mode": "hogwild", "num_workers": 1, "frequency": "epoch", "server_optimizer": "adagrad"},
    ],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_a_fit_in_two_parts_is_that_in_one_to_the_last_bit(sc, tmp_path, options):
    """The local optimizer here is SGD, which remembers nothing, or there is none; the server's is Adam or Adagrad."""
    optimizer = "adam" if options.get("update") else "sgd"
    whole = trainer(tiny_model(optimizer), **options)
    expected = whole.fit(rows(sc), epochs=5, verbose=0, seed=5)
    fit(sc, trainer(tiny_model(optimizer), **options), tmp_path, 2)
    parts = trainer(tiny_model(optimizer), **options)
    found = fit(sc, parts, tmp_path, 5, resume=True)
    for one, other in zip(parts.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.updates == expected.updates
    assert found.epoch == expected.epoch == list(range(5))
    assert found.history == expected.history
    assert parts.training_histories == whole.training_histories
    assert len(found.staleness) == 5
    assert parts._state.version == whole._state.version
    for name, slot in whole._state.slots.items():
        np.testing.assert_array_equal(parts._state.slots[name], slot)
    states = [spark_model.master_network.optimizer.variables for spark_model in (parts, whole)]
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert_nothing_left()


@pytest.fixture(scope="module")
def trained(sc, tmp_path_factory) -> tuple[Path, SparkModel, Any]:
    """The folder, the model and the history of a fit of two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    spark_model = trainer(mode="asynchronous")
    return folder, spark_model, fit(sc, spark_model, folder, 2)


def test_a_fit_that_was_finished_is_not_trained_again(sc, trained):
    folder, first, expected = trained
    again = trainer(mode="asynchronous")
    jobs = len(sc.statusTracker().getJobIdsForGroup(None))
    found = fit(sc, again, folder, 2, resume=True)
    assert len(sc.statusTracker().getJobIdsForGroup(None)) == jobs
    assert (found.epoch, found.history, found.updates) == (expected.epoch, expected.history, expected.updates)
    assert again.training_histories == first.training_histories
    for one, other in zip(again.weights, first.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_a_checkpoint_it_starts_from_scratch_and_says_so(sc, tmp_path, capsys):
    """And it is saved after every second epoch and after the last, which a callback decides here."""
    import keras

    stop = keras.callbacks.EarlyStopping("loss", patience=2, min_delta=1e9)
    folder = tmp_path / "new" / "folder"
    history = fit(sc, trainer(mode="hogwild"), folder, 9, resume=True, verbose=2, checkpoint_every=2, callbacks=[stop])
    assert history.epoch == [0, 1, 2]
    assert sorted(map(epoch_of, os.listdir(folder))) == [2, 3]
    assert "no checkpoint in" in capsys.readouterr().out


class Stop(Exception):
    pass


def test_callbacks_go_on_at_the_right_epoch(sc, tmp_path):
    """A fit dies in epoch 3; callbacks of the next see epochs 2, 3, ... and the learning rate as it was left."""
    import keras

    seen: list[tuple[int, float]] = []

    def rate(epoch: int, before: float) -> float:
        seen.append((epoch, round(before, 6)))
        if epoch == 2 and len(seen) == 3:
            raise Stop
        return before / 2

    def callbacks() -> list[Any]:
        return [
            keras.callbacks.LearningRateScheduler(rate),
            keras.callbacks.ModelCheckpoint(str(tmp_path / "model-{epoch}.keras")),
        ]

    folder = tmp_path / "checkpoints"
    options = {"mode": "asynchronous", "update": "gradient"}
    with pytest.raises(Stop):
        fit(sc, trainer(tiny_model("adam"), **options), folder, 5, callbacks=callbacks())
    history = fit(sc, trainer(tiny_model("adam"), **options), folder, 5, callbacks=callbacks(), resume=True)
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 2, 3, 4]
    np.testing.assert_allclose(
        [before for _, before in seen], [1e-3, 5e-4, 2.5e-4, 2.5e-4, 1.25e-4, 6.25e-5], atol=1e-6
    )
    assert history.epoch == list(range(5))
    assert all(len(values) == 5 for values in history.history.values())
    assert (tmp_path / "model-5.keras").exists()
    assert history.updates == 5 * 3 * 2


MISMATCHES = [
    ("layout of the model's weights", {"model": lambda: dense_model("sgd")}),
    ("partitions", {"num_workers": 3}),
    ("mode", {"mode": "hogwild"}),
    ("update", {"update": "gradient"}),
    ("optimizer", {"model": lambda: tiny_model("adam")}),
    ("server optimizer", {"server_optimizer": "adagrad"}),
    ("batch_size", {"batch_size": 16}),
    ("frequency", {"frequency": "epoch"}),
]


@pytest.mark.parametrize(("what", "options"), MISMATCHES, ids=[what for what, _ in MISMATCHES])
def test_another_fit_is_refused_with_both_sides_named(sc, trained, what, options):
    options = {"mode": "asynchronous", **options}
    model = options.pop("model", tiny_model)()
    with pytest.raises(ValueError, match=f"^resume: expected {what} .* got ") as raised:
        fit(sc, trainer(model, **options), trained[0], 3, resume=True)
    assert "\n" not in str(raised.value)


def test_another_seed_is_refused(sc, trained):
    with pytest.raises(ValueError, match=r"^resume: expected seed 5 .* got 6"):
        fit(sc, trainer(mode="asynchronous"), trained[0], 3, resume=True, seed=6)


def test_other_rows_are_refused(sc, trained):
    before = tiny_model().get_weights()
    spark_model = trainer(mode="asynchronous")
    with pytest.raises(ValueError, match=r"^resume: expected 24 rows .* in partition \d, got 2\d"):
        fit(sc, spark_model, trained[0], 3, resume=True, rdd=rows(sc, 53))
    assert_nothing_left(within=20.0)
    assert len(before) == len(spark_model.weights)


def test_a_damaged_checkpoint_is_named_and_the_older_taken(sc, trained, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained[0], folder)
    newest = max(folder.iterdir())
    data = newest.read_bytes()
    newest.write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match="damaged or cut short.*; the one before it is taken"):
        history = fit(sc, trainer(mode="asynchronous"), folder, 3, resume=True, verbose=2)
    assert "going on after epoch 1" in capsys.readouterr().out
    assert history.epoch == [0, 1, 2]
    assert history.updates == 3 * 3 * 2
    for path in folder.iterdir():
        path.write_bytes(data[:100])
    with pytest.raises(ValueError, match="expected a whole checkpoint"):
        fit(sc, trainer(mode="asynchronous"), folder, 4, resume=True)


@contextmanager
def no_room(limit: int) -> Iterator[None]:
    """No file of this process grows beyond ``limit`` bytes; what would is an error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "elephas_fast-checkpoint"]


@pytest.mark.fault(31)
def test_a_full_disk_costs_a_warning_and_no_training(sc, tmp_path, injected):
    """Checkpoints after epochs 2, 3 and 4 find no room; the last one does again."""
    import keras

    disk = ExitStack()
    left: list[int] = []

    def change(epoch: int, _: Any) -> None:
        while writers():
            time.sleep(0.001)
        if epoch == 1:
            disk.enter_context(no_room(2048))
        if epoch == 4:
            left.extend(map(epoch_of, os.listdir(tmp_path)))
            disk.close()

    callback = keras.callbacks.LambdaCallback(on_epoch_end=change)
    spark_model = trainer(dense_model(), mode="asynchronous")
    with disk, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(sc, spark_model, tmp_path, 5, callbacks=[callback], rdd=pixels(sc))
    told = [str(w.message) for w in caught if "a checkpoint could not be written" in str(w.message)]
    assert len(told) == 1
    assert "File too large" in told[0]
    assert history.epoch == list(range(5))
    assert left == [1]
    assert sorted(map(epoch_of, os.listdir(tmp_path))) == [1, 5]
    injected(writes_to_a_full_disk=3, checkpoints_lost=0)


def pixels(sc: Any) -> Any:
    rng = np.random.default_rng(0)
    return to_simple_rdd(
        sc, rng.random((64, 64)).astype(np.float32), np.eye(10, dtype=np.float32)[rng.integers(0, 10, 64)]
    )


def test_a_checkpoint_holds_the_model_and_no_rows(trained):
    import keras

    folder, spark_model, _ = trained
    newest = max(folder.iterdir())
    assert newest.stat().st_mode & 0o777 == 0o600
    about, arrays = read(str(newest))
    model = keras.models.model_from_json(about["model"])
    assert [w.shape for w in model.get_weights()] == [w.shape for w in spark_model.weights]
    np.testing.assert_array_equal(arrays["weights"][:4], spark_model.weights[0].reshape(-1))
    assert newest.stat().st_size < 8192


def test_the_estimator_goes_on_too(sc, tmp_path):
    from pyspark.sql import SparkSession

    spark = SparkSession(sc)
    rng = np.random.default_rng(0)
    data = [(row.tolist(), float(row.sum())) for row in rng.normal(size=(32, 4))]
    frame = spark.createDataFrame(data, ["features", "label"]).repartition(2).cache()

    def estimator(epochs: int, **options: Any) -> ElephasEstimator:
        return ElephasEstimator(
            tiny_model(), loss="mse", metrics=[], optimizer_config="sgd", categorical=False, mode="synchronous",
            num_workers=2, seed=3, validation_split=0.0, epochs=epochs, **options,
        )  # fmt: skip

    estimator(2, checkpoint_dir=str(tmp_path)).fit(frame)
    parts = estimator(4, checkpoint_dir=str(tmp_path), resume=True).fit(frame)
    assert parts.training.epoch == [0, 1, 2, 3]
    assert parts.training.updates == 4
    assert len(parts.training.history["loss"]) == 4


def test_mllib_s_train_takes_it_too(sc, tmp_path):
    from pyspark.mllib.regression import LabeledPoint

    points = sc.parallelize([LabeledPoint(float(i % 2), [1.0 * i, 1.0, 0.0, 2.0]) for i in range(16)], 2)
    model = SparkMLlibModel(tiny_model(), mode="asynchronous", num_workers=2)
    model.train(points, nb_epoch=3, checkpoint_dir=str(tmp_path), checkpoint_every=3, resume=True, verbose=0)
    assert epoch_in(tmp_path) == 3
