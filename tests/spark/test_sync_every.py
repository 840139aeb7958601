"""``sync_every='fit'``: workers train all epochs by themselves and are averaged once, as Elephas did before 7.2."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from elephas_fast import SparkModel, load_spark_model
from elephas_fast.config import TrainingConfig
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.spark.conftest import dense_model, own_leftovers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(110, 64)).astype(np.float32)
Y = np.eye(10, dtype=np.float32)[RNG.integers(0, 10, 110)]


def rows_of(sc, *borders):
    rows = list(zip(X, Y, strict=True))
    return sc.parallelize(borders, len(borders)).flatMap(lambda border: rows[slice(*border)])


def moving_model() -> keras.Model:
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    return model


def trained_alone(build, borders, **options):
    """The models that Keras trains on each part alone, and their histories."""
    models, histories = [], []
    for begin, end in borders:
        model = build()
        histories.append(model.fit(X[begin:end], Y[begin:end], shuffle=False, verbose=0, **options).history)
        models.append(model)
    return models, histories


@pytest.mark.parametrize("transport", ["shm", "tcp"])
@pytest.mark.parametrize("build", [lambda: dense_model("adam"), moving_model], ids=["adam", "moving statistics"])
def test_equals_models_trained_alone_and_averaged(sc, build, transport):
    borders = [(0, 64), (64, 110)]
    model = build()
    spark_model = SparkModel(model, mode="synchronous", sync_every="fit", transport=transport)
    history = spark_model.fit(rows_of(sc, *borders), epochs=4, batch_size=16, shuffle=False, verbose=0)
    alone, histories = trained_alone(build, borders, epochs=4, batch_size=16)
    for got, *parts in zip(model.get_weights(), *(m.get_weights() for m in alone), strict=True):
        np.testing.assert_allclose(got, (64 * parts[0] + 46 * parts[1]) / 110, rtol=2e-4, atol=2e-6)
    assert len(spark_model.training_histories) == 2
    for ours, theirs in zip(spark_model.training_histories, histories, strict=True):
        assert set(ours) == {"loss", "accuracy"}
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
        np.testing.assert_allclose(ours["accuracy"], theirs["accuracy"], rtol=1e-5)
    assert len(history.history["loss"]) == 4
    assert history.updates == 1
    assert not own_leftovers()["servers"]


def test_differs_from_an_average_after_each_epoch(sc):
    weights = []
    for sync_every in ("fit", "epoch"):
        model = dense_model("adam")
        SparkModel(model, mode="synchronous").fit(
            rows_of(sc, (0, 64), (64, 110)), epochs=3, sync_every=sync_every, shuffle=False, verbose=0
        )
        weights.append(model.get_weights()[0])
    assert np.abs(weights[0] - weights[1]).max() > 1e-3


def test_validation_is_each_partitions_own(sc):
    borders = [(0, 64), (64, 110)]
    spark_model = SparkModel(dense_model("adam"), mode="synchronous", sync_every="fit")
    spark_model.fit(rows_of(sc, *borders), epochs=3, batch_size=16, validation_split=0.25, shuffle=False, verbose=0)
    for ours, (begin, end) in zip(spark_model.training_histories, borders, strict=True):
        cut = begin + round((end - begin) * 0.75)
        rest = (X[cut:end], Y[cut:end])
        (model,), (theirs,) = trained_alone(
            lambda: dense_model("adam"), [(begin, cut)], epochs=3, batch_size=16, validation_data=rest
        )
        assert model is not None
        np.testing.assert_allclose(ours["val_loss"], theirs["val_loss"], rtol=1e-4)


def test_more_partitions_than_slots_and_an_empty_one(sc):
    borders = [(0, 30), (30, 30), (30, 50), (50, 80), (80, 110)]
    model = dense_model("adam")
    spark_model = SparkModel(model, mode="synchronous", sync_every="fit")
    spark_model.fit(rows_of(sc, *borders), epochs=3, batch_size=8, shuffle=False, verbose=0)
    filled = [(a, b) for a, b in borders if a < b]
    alone, _ = trained_alone(lambda: dense_model("adam"), filled, epochs=3, batch_size=8)
    shares = [(b - a) / 110 for a, b in filled]
    for got, *parts in zip(model.get_weights(), *(m.get_weights() for m in alone), strict=True):
        expected = sum(share * part for share, part in zip(shares, parts, strict=True))
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-6)
    assert [h is None for h in spark_model.training_histories] == [False, True, False, False, False]


def test_a_second_fit_goes_on(sc, digits):
    x, y, x_test, y_test = digits
    spark_model = SparkModel(dense_model(), mode="synchronous", sync_every="fit", num_workers=2)
    rdd = to_simple_rdd(sc, x, y)
    first = spark_model.fit(rdd, epochs=4, verbose=0).history["loss"]
    second = spark_model.fit(rdd, epochs=4, verbose=0).history["loss"]
    assert second[0] < first[-1] * 1.5
    assert spark_model.evaluate(x_test, y_test)[1] > 0.85


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_is_saved(tmp_path):
    file = str(tmp_path / "m.keras")
    SparkModel(dense_model(), mode="synchronous", sync_every="fit").save(file)
    assert load_spark_model(file).config.sync_every == "fit"


@pytest.mark.parametrize(
    "options", [{"mode": "asynchronous"}, {"frequency": "batch"}, {"frequency": 4}, {"update": "gradient"}]
)
def test_where_it_means_nothing(options):
    with pytest.raises(ValueError, match="sync_every: 'fit' is for mode='synchronous', frequency='epoch' and"):
        TrainingConfig(**{"mode": "synchronous", "sync_every": "fit", **options})


def test_what_needs_weights_between_epochs(sc):
    model = SparkModel(dense_model(), mode="synchronous", sync_every="fit")
    rdd = rows_of(sc, (0, 10))
    for name, given in [("callbacks", [keras.callbacks.TerminateOnNaN()]), ("validation_data", (X, Y))]:
        with pytest.raises(ValueError, match=f"{name}: need the weights after each epoch, got sync_every='fit'"):
            model.fit(rdd, epochs=2, **{name: given})
    with pytest.raises(ValueError, match="sync_every: expected one of 'epoch', 'fit', got 'batch'"):
        model.fit(rdd, sync_every="batch")
