"""A fit goes on from its last checkpoint as if it had not ended; what does not fit together is refused."""

from __future__ import annotations

import os
import resource
import shutil
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
from tests.faults.resumable import epoch_in, epoch_of
from tests.spark.conftest import assert_nothing_left, dense_model, tiny_model


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
