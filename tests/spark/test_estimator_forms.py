"""What an estimator's arguments and setters mean in the forms of all releases, without training."""

from __future__ import annotations

import pytest

from elephas_fast import ElephasEstimator, load_ml_estimator
from elephas_fast.enums.modes import Mode
from elephas_fast.optimizers import SGD
from elephas_fast.spark.ml_forms import columns_of, early_loss, held_classes
from tests.spark.frames import classifier, dense


def test_copies_keep_params_apart():
    estimator = classifier()
    other = estimator.copy({estimator.epochs: 7})
    assert (estimator.get_epochs(), other.get_epochs(), other.uid) == (4, 7, estimator.uid)
    assert "epochs: passes over the rows" in estimator.explainParams()


def test_the_last_word_on_columns_holds():
    estimator = classifier(featuresCol=["a", "b"])
    assert columns_of(estimator, "featuresCol") == ("a", "b")
    assert columns_of(estimator.setFeaturesCol("c"), "featuresCol") == ("c",)


def test_a_loaded_estimator_knows_its_classes_by_the_model(tmp_path):
    model = dense(outputs=3)
    classifier(keras_model_config=model.to_json()).save(str(tmp_path / "e.h5"))
    model.compile(loss="categorical_crossentropy")
    assert held_classes(load_ml_estimator(str(tmp_path / "e.h5")), model) == 3
    assert held_classes(classifier(nb_classes=5), model) == 5
    assert held_classes(classifier(nb_classes=None), model) == 3
    binary = dense(outputs=1, activation="sigmoid")
    binary.compile(loss="binary_crossentropy")
    assert held_classes(classifier(nb_classes=2), binary) is None


EARLY = {"name": "sgd", "lr": 0.5}


@pytest.mark.parametrize("form", ["keywords", "setters", "setters in another order"])
def test_the_form_of_0_3(form, tmp_path):
    given = {"keras_model_config": dense().to_json(), "nb_epoch": 3, "optimizer_config": EARLY, "mode": Mode.HOGWILD}
    estimator = ElephasEstimator(**(given if form == "keywords" else {}))
    if form != "keywords":
        for name in sorted(given, reverse=form == "setters"):
            assert getattr(estimator, f"set_{name}")(given[name]) is estimator
    assert estimator.get_epochs() == estimator.get_nb_epoch() == 3
    assert estimator.getOrDefault(estimator.nb_epoch) == 3
    assert estimator.get_server_optimizer() == estimator.get_elephas_optimizer_config() == SGD(0.5).to_config()
    assert estimator.get_optimizer_config() is None
    assert estimator.get_mode() == "hogwild"
    assert estimator.get_predict_classes()
    assert early_loss(estimator) == "categorical_crossentropy"
    estimator.save(str(tmp_path / "e.h5"))
    loaded = load_ml_estimator(str(tmp_path / "e.h5"))
    assert (loaded.get_loss(), loaded.get_predict_classes()) == ("categorical_crossentropy", True)
    assert early_loss(estimator.copy().set_loss("mse")) is None
    model = dense()
    model.compile(loss="mse")
    assert early_loss(estimator.set_keras_model_config(model)) is None
    assert not estimator.set_predict_classes(False).set_nb_epoch(6).get_predict_classes()


def test_what_is_not_the_form_of_0_3():
    for given in (
        {},
        {"epochs": 3},
        {"optimizer_config": "adam", "server_optimizer": SGD(0.5)},
        {"optimizer_config": {"class_name": "SGD", "config": {"learning_rate": 0.1}}, "server_optimizer": "sgd"},
        {"elephas_optimizer_config": None},
    ):
        estimator = ElephasEstimator(keras_model_config=dense().to_json(), **given)
        assert not estimator.get_predict_classes()
        assert early_loss(estimator) is None
    assert not ElephasEstimator().set_optimizer_config("adam").set_server_optimizer("sgd").get_predict_classes()
    for name in ("nb_epoch", "elephas_optimizer_config"):
        assert getattr(ElephasEstimator(), f"set_{name}")(3 if name == "nb_epoch" else EARLY).get_predict_classes()


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"epoch": 1}, TypeError, "unknown keyword of ElephasEstimator 'epoch': did you mean 'epochs'"),
        ({"epochs": 1, "nb_epoch": 1}, TypeError, "expected 'epochs' once"),
        ({"epochs": 0}, ValueError, "epochs: expected a whole number >= 1, got 0"),
        ({"mode": "parallel"}, ValueError, "mode: expected one of 'synchronous'"),
        ({"keras_model_config": "model"}, ValueError, "keras_model_config: expected what model.to_json"),
        ({"keras_model_config": 3}, TypeError, "keras_model_config: expected model.to_json"),
        ({"num_workers": 0}, ValueError, "num_workers: expected a whole number >= 1"),
        ({"featuresCol": []}, ValueError, "expected at least one column in 'featuresCol', got an empty list"),
        ({"outputCol": None}, TypeError, "expected a column's name as 'outputCol', got None"),
    ],
)
def test_bad_arguments(params, error, message):
    with pytest.raises(error, match=message):
        ElephasEstimator(**params)
