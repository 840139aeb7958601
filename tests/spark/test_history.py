"""What a person gets to see: history, callbacks on the driver, the progress bar."""

from __future__ import annotations

import io

import keras
import numpy as np
import pytest

from elephas_fast import SparkModel
from elephas_fast.spark.progress import Progress
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.spark.conftest import dense_model


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
def test_callbacks_run_on_the_driver(sc, digits, mode, tmp_path):
    x, y, _, _ = digits
    model = dense_model()
    seen = []
    stopping = keras.callbacks.EarlyStopping(monitor="loss", min_delta=10.0, patience=1, restore_best_weights=True)
    history = SparkModel(model, mode=mode, num_workers=2).fit(
        to_simple_rdd(sc, x, y),
        epochs=30,
        verbose=0,
        callbacks=[
            stopping,
            keras.callbacks.ModelCheckpoint(tmp_path / "epoch-{epoch}.keras"),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: seen.append((epoch, model.get_weights()[0].copy()))
            ),
        ],
    )
    assert history.epoch == [0, 1]
    assert stopping.stopped_epoch == 1
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    saved = [keras.models.load_model(tmp_path / f"epoch-{e}.keras").get_weights()[0] for e in (1, 2)]
    for (_, weights), kernel in zip(seen, saved, strict=True):
        np.testing.assert_array_equal(weights, kernel)
    assert not np.array_equal(*saved)
    np.testing.assert_array_equal(model.get_weights()[0], saved[0])


@pytest.mark.parametrize("update", ["delta", "gradient"])
def test_a_learning_rate_of_a_callback_reaches_the_training(sc, digits, update):
    x, y, _, _ = digits
    model = dense_model(keras.optimizers.SGD(0.1))
    kernels = []
    SparkModel(model, mode="asynchronous", frequency="batch", num_workers=2, update=update).fit(
        to_simple_rdd(sc, x, y),
        epochs=3,
        verbose=0,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 if epoch == 0 else 1e-12),
            keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: kernels.append(model.get_weights()[0].copy())),
        ],
    )
    assert np.abs(kernels[1] - kernels[0]).max() < 1e-6
    assert np.abs(kernels[2] - kernels[0]).max() < 1e-6


def test_validation_data_of_the_driver(sc, digits):
    x, y, x_test, y_test = digits
    model = dense_model()
    history = SparkModel(model, mode="synchronous", num_workers=2).fit(
        to_simple_rdd(sc, x, y), epochs=2, verbose=0, validation_data=(x_test, y_test)
    )
    np.testing.assert_allclose(history.history["val_loss"][-1], model.evaluate(x_test, y_test, verbose=0)[0], rtol=1e-5)


def test_metrics_are_those_of_all_rows(sc, digits):
    """Accuracy and AUC over three unequal partitions are what Keras finds over all rows with the same weights."""
    x, y, _, _ = digits
    model = dense_model(keras.optimizers.SGD(0.0))
    model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy", metrics=["accuracy", keras.metrics.AUC()])
    rows = list(zip(x, y, strict=True))
    borders = [(0, 40), (40, 400), (400, 700)]
    rdd = sc.parallelize(borders, 3).flatMap(lambda border: rows[slice(*border)])
    history = SparkModel(model, mode="synchronous").fit(rdd, epochs=1, verbose=0)
    expected = model.evaluate(x[:700], y[:700], verbose=0, return_dict=True)
    for name, value in expected.items():
        np.testing.assert_allclose(history.history[name][0], value, rtol=1e-4, err_msg=name)


def test_verbose_says_what_runs_where(sc, digits, capsys):
    x, y, _, _ = digits
    SparkModel(dense_model(), mode="asynchronous", num_workers=2).fit(to_simple_rdd(sc, x, y), epochs=2, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("elephas_fast: asynchronous, a round is one epoch, 2 workers on local[2]")
    assert "parameter server at tcp://127.0.0.1:" in lines[0]
    assert [line.split("  ")[0] for line in lines[1:]] == ["Epoch 1/2", "Epoch 2/2"]
    assert "1,437 rows" in lines[1]
    assert "rows/s" in lines[1]
    assert "accuracy" in lines[1]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_live_bar_is_one_line():
    screen = Terminal()
    progress = Progress(1, 3, screen)
    progress.draw(0, 500, 1000, 0.5, 0.25)
    text = screen.getvalue()
    assert "\n" not in text
    assert "Epoch 1/3" in text
    assert "500/1,000 rows" in text
    assert "1,000 rows/s" in text
    assert "loss 0.2500" in text
    progress.epoch(0, 1000, 1.0, {"loss": 0.2})
    assert screen.getvalue().endswith("Epoch 1/3  1,000 rows  1.0 s  1,000 rows/s  loss 0.2000\n")


def test_live_bar_before_the_first_row():
    screen = Terminal()
    Progress(1, 2, screen).draw(0, 0, 54_000, 0.0, None)
    assert screen.getvalue().rstrip().endswith("0/54,000 rows  workers are starting")


@pytest.mark.parametrize("frequency", ["epoch", "batch"])
def test_live_bar_of_a_fit_never_passes_the_last_epoch(sc, digits, frequency, monkeypatch):
    x, y, _, _ = digits
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    SparkModel(dense_model(), mode="asynchronous", frequency=frequency, num_workers=2).fit(
        to_simple_rdd(sc, x, y), epochs=2, verbose=1
    )
    shown = screen.getvalue()
    assert "Epoch 1/2  ─" in shown
    assert "Epoch 3/2" not in shown
    assert shown.rstrip().splitlines()[-1].lstrip("\r ").startswith("Epoch 2/2  1,437 rows")


def test_verbose_0_is_silent():
    screen = Terminal()
    progress = Progress(0, 1, screen)
    progress.say("hello")
    progress.draw(0, 1, 2, 1.0, 0.0)
    progress.epoch(0, 2, 1.0, {"loss": 0.0})
    assert screen.getvalue() == ""
