"""Elephas' calls for hyper-parameters, end to end on two workers, and the ensembles they make."""

from __future__ import annotations

import json
import pickle
import warnings

import hyperopt
import keras
import numpy as np
import pytest
import yaml
from hyperopt import hp

from elephas_fast.hyperparam import (
    HyperasWorker,
    HyperParamModel,
    VotingModel,
    load_voting_model,
    report_losses,
    search,
)
from elephas_fast.keras_bridge.trial_models import from_parts
from elephas_fast.tuning.trial import read
from elephas_fast.wire.objects import pack_object, unpack_object
from tests.spark import searching

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def searched(sc):
    """A search of four trials with all models kept."""
    found = HyperParamModel(sc, num_workers=2, seed=5, verbose=0)
    trials = found.compute_trials(searching.model, searching.data, max_evals=2)
    return found, trials


def accuracy(model, x, y):
    return float(np.mean(model.predict(x, verbose=0).argmax(axis=1) == y.argmax(axis=1)))


def test_compute_trials(searched):
    found, lists = searched
    documents = [document for trials in lists for document in trials]
    assert len(documents) == 4, "max_evals is for each worker"
    assert all(isinstance(trials, hyperopt.Trials) for trials in lists)
    x, y = searching.data()[2:]
    for document in documents:
        result = document.get("result")
        assert result.get("status") == hyperopt.STATUS_OK
        model = keras.models.model_from_json(result.get("model"))
        model.set_weights(pickle.loads(result.get("weights")))
        assert accuracy(model, x, y) == pytest.approx(-result.get("loss"), abs=1e-6)
    names = set(documents[0]["misc"]["vals"])
    assert names == {"Dense", "add", "Adam", "batch_size"}
    assert set(found.result.to_pandas()["add"]) <= {"Dropout(0.2)", "Activation('linear')"}
    workers = {document["result"]["worker"] for document in documents}
    assert sum(document["result"]["fetched"] for document in documents) == len(workers)


def test_the_best_models_are_the_best(searched):
    found, (trials,) = searched
    x, y = searching.data()[2:]
    losses = sorted(trials.losses())
    models = found.result.models(3)
    assert [accuracy(model, x, y) for model in models] == pytest.approx([-loss for loss in losses[:3]], abs=1e-6)
    assert accuracy(found.result.model, x, y) == pytest.approx(-losses[0], abs=1e-6)
    with pytest.raises(ValueError, match="models: expected 5 trials with a model, got 4"):
        found.result.models(5)


def test_minimize_and_best_ensemble(sc):
    found = HyperParamModel(sc, num_workers=2, seed=6, verbose=0)
    best = found.minimize(model=searching.model, data=searching.data, max_evals=1)
    x, y = searching.data()[2:]
    assert accuracy(best, x, y) == pytest.approx(-found.result.best_loss, abs=1e-6)
    kept = [r for r in found.result.trials.results if "weights" in r]
    assert len(kept) == 1, "the weights of the others are not kept"
    with pytest.warns(UserWarning, match="nb_models: expected 3 trials with a model, got 2, which are returned"):
        ensemble = found.best_ensemble(3, searching.model, searching.data, 1, voting="soft", weights=[2, 1, 1])
    assert ensemble.task == "classification"
    assert isinstance(ensemble, VotingModel)
    assert (ensemble.voting, ensemble.weights) == ("soft", [2.0, 1.0])
    assert [accuracy(m, x, y) for m in ensemble.model_list] == pytest.approx(
        [-loss for loss in sorted(found.result.trials.losses())], abs=1e-6
    )


def test_weights_that_are_no_weights_are_refused_on_the_driver(sc):
    def model(x_train, y_train, x_test, y_test):
        import os

        class Call:
            def __reduce__(self):
                return os.system, ("touch /tmp/elephas_fast-never",)

        made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        return {"loss": {{uniform(0, 1)}}, "status": "ok", "model": made.to_json(), "weights": pickle.dumps(Call())}

    with pytest.raises(ValueError, match=r"weights: expected a list of NumPy arrays .* asks for 'posix\.system'"):
        HyperParamModel(sc, 1, verbose=0).minimize(model, searching.data, 1)


def test_a_keras_model_as_it_is_comes_back(sc):
    def objective(values):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.set_weights([np.full((4, 2), values["x"], np.float32), np.zeros(2, np.float32)])
        return {"loss": values["x"], "status": "ok", "model": model, "extra": [1, "a"], "strange": object}

    result = search(objective, {"x": hp.uniform("x", 0, 1)}, max_evals=3, parallelism=1, spark=sc, verbose=0)
    assert result.model.get_weights()[0] == pytest.approx(result.best_loss)
    assert result.trials.results[0]["extra"] == [1, "a"]
    assert "object" in result.trials.results[0]["strange"]


def test_models_as_json_or_yaml_text_come_back():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    weights = [np.arange(8, dtype=np.float32).reshape(4, 2), np.ones(2, np.float32)]
    for text in (model.to_json(), yaml.safe_dump(json.loads(model.to_json()))):
        back = from_parts(text, weights)
        np.testing.assert_array_equal(back.get_weights()[0], weights[0])
    half = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, dtype="bfloat16")])
    result = unpack_object(pack_object(read({"loss": 0.0, "model": half, "status": "ok"})))
    back = from_parts(result["model"], result["weights"])
    assert back.weights[0].dtype == "bfloat16"
    np.testing.assert_array_equal(back.get_weights()[0], half.get_weights()[0])
    with pytest.raises(ValueError, match="weights: expected arrays of shapes"):
        from_parts(model.to_json(), weights[:1])


def test_the_same_seed_trains_the_same_networks(sc):
    def objective(values):
        x_train, y_train, x_test, y_test = searching.data()
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.1), keras.layers.Dense(10)])
        model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
        model.fit(x_train, y_train, batch_size=values["batch"], epochs=1, verbose=0)
        return float(model.evaluate(x_test, y_test, verbose=0))

    space = {"batch": hp.choice("batch", [32, 64, 128])}
    runs = [search(objective, space, max_evals=3, parallelism=1, spark=sc, seed=1, verbose=0) for _ in range(2)]
    assert runs[0].trials.losses() == runs[1].trials.losses()


def test_keras_reports_its_losses(sc):
    def objective(values):
        x_train, y_train, x_test, y_test = searching.data()
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
        model.compile("sgd", "categorical_crossentropy")
        history = model.fit(
            x_train, y_train, epochs=3, verbose=0, validation_data=(x_test, y_test), callbacks=[report_losses()]
        )
        return {"loss": history.history["val_loss"][-1], "status": "ok", "curve": history.history["val_loss"]}

    result = search(objective, {"x": hp.uniform("x", 0, 1)}, max_evals=1, spark=sc, verbose=0)
    (found,) = result.trials.results
    assert [loss for _, loss in found["losses"]] == pytest.approx(found["curve"])
    assert [epoch for epoch, _ in found["losses"]] == [1, 2, 3]


def test_elephas_worker_by_hand(sc):
    worker = HyperasWorker(sc.broadcast((searching.model, searching.data)), sc.broadcast(2))
    (trials,), (again,) = worker.minimize(iter([7])), worker.minimize(iter([7]))
    assert len(trials.trials) == 2
    assert trials.vals == again.vals
    assert all(loss < -0.1 for loss in trials.losses())


@pytest.fixture(scope="module")
def members():
    """Three networks of different training on digits, the best first."""
    x, y = searching.data()[:2]
    found = []
    for epochs in (4, 2, 1):
        keras.utils.set_random_seed(epochs)
        net = [keras.Input((64,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10, "softmax")]
        model = keras.Sequential(net)
        model.compile("adam", "categorical_crossentropy")
        model.fit(x, y, epochs=epochs, verbose=0)
        found.append(model)
    return found


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_an_ensemble_votes_everywhere_alike(sc, members, voting, tmp_path):
    from pyspark.sql import SparkSession

    x, y = searching.data()[2:]
    ensemble = VotingModel(members, voting, [2, 1, 1])
    outputs = [model.predict(x, verbose=0) for model in members]
    classes = ensemble.predict(x)
    probabilities = ensemble.predict_proba(x)
    assert classes.dtype == np.int64
    if voting == "soft":
        np.testing.assert_allclose(probabilities, np.average(outputs, axis=0, weights=[2, 1, 1]), atol=1e-6)
        np.testing.assert_array_equal(classes, probabilities.argmax(axis=1))
    else:
        votes = sum(w * np.eye(10)[out.argmax(axis=1)] for w, out in zip([2, 1, 1], outputs, strict=True))
        np.testing.assert_allclose(probabilities, votes / 4)
    np.testing.assert_array_equal(ensemble.predict_classes(x), classes)

    rdd = sc.parallelize(list(x), 5)
    np.testing.assert_array_equal(ensemble.predict(rdd), classes)
    np.testing.assert_allclose(ensemble.predict_proba(rdd), probabilities, atol=1e-6)
    np.testing.assert_array_equal(ensemble.predict(sc.parallelize(list(x[:1]), 4)), classes[:1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = SparkSession(sc).createDataFrame(
            [(i, row.tolist()) for i, row in enumerate(x)], "i long, pixels array<float>"
        )
        rows = ensemble.transform(frame, "pixels", "digit").select("i", "digit").orderBy("i").collect()
    np.testing.assert_array_equal([row["digit"] for row in rows], classes)

    loss, share = ensemble.evaluate(x, y)
    assert share == np.mean(classes == y.argmax(axis=1))
    assert ensemble.evaluate(x, y.argmax(axis=1), return_dict=True) == {"loss": loss, "accuracy": share}

    file = tmp_path / "ensemble"
    ensemble.save(file)
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        ensemble.save(file)
    ensemble.save(file, overwrite=True)
    loaded = load_voting_model(file)
    np.testing.assert_array_equal(loaded.predict(x), classes)
    assert (loaded.voting, loaded.weights, loaded.task) == (voting, [2.0, 1.0, 1.0], "classification")
    assert list(tmp_path.iterdir()) == [file]
    file.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"expected a file that VotingModel\.save has written"):
        VotingModel.load(file)


def test_an_ensemble_of_regressions(sc):
    from pyspark.sql import SparkSession

    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)).astype(np.float32)
    models = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]) for _ in range(3)]
    ensemble = VotingModel(models, weights=[1, 2, 3])
    assert ensemble.task == "regression"
    wanted = np.average([model.predict(x, verbose=0) for model in models], axis=0, weights=[1, 2, 3])
    np.testing.assert_allclose(ensemble.predict(x), wanted, atol=1e-6)
    np.testing.assert_allclose(ensemble.predict(sc.parallelize(list(x), 3)), wanted, atol=1e-6)
    frame = SparkSession(sc).createDataFrame([(row.tolist(),) for row in x], "features array<float>")
    got = [row["prediction"] for row in ensemble.transform(frame).collect()]
    np.testing.assert_allclose(got, wanted[:, 0], atol=1e-6)
    error, absolute = ensemble.evaluate(x, wanted + 1)
    assert (error, absolute) == pytest.approx((1.0, 1.0), abs=1e-4)
    with pytest.raises(ValueError, match="predict_proba: expected models that classify"):
        ensemble.predict_proba(x)


@pytest.mark.parametrize("units", [1, 3])
def test_members_that_give_logits_vote_by_probabilities(units, tmp_path):
    kind, entropy = ("sigmoid", "Binary") if units == 1 else ("softmax", "Categorical")
    with_logits = getattr(keras.losses, f"{entropy}Crossentropy")(from_logits=True)
    by_loss, bare, plain = [], [], []
    for _ in range(3):
        net = [keras.Input((4,)), keras.layers.Dense(units, bias_initializer="normal"), keras.layers.Activation(kind)]
        plain.append(keras.Sequential(net))
        by_loss.append(keras.Sequential(net[:-1]))
        bare.append(from_parts(by_loss[-1].to_json(), by_loss[-1].get_weights()))
        by_loss[-1].compile("sgd", with_logits)
    assert VotingModel(by_loss).task == "classification"
    assert VotingModel(bare).task == "regression"
    x = np.random.default_rng(units).normal(size=(40, 4)).astype(np.float32)
    for voting in ("soft", "hard"):
        wanted = VotingModel(plain, voting)
        for models in (by_loss, bare):
            found = VotingModel(models, voting, task="classification")
            np.testing.assert_allclose(found.predict_proba(x), wanted.predict_proba(x), atol=1e-6)
            np.testing.assert_array_equal(found.predict(x), wanted.predict(x))
    by_loss[0].set_weights([100 * weight for weight in by_loss[0].get_weights()])
    found = VotingModel(by_loss, "soft")
    before = found.predict_proba(x)
    by_loss[1].set_weights([0 * weight for weight in by_loss[1].get_weights()])
    found.save(tmp_path / "ensemble")
    np.testing.assert_allclose(load_voting_model(tmp_path / "ensemble").predict_proba(x), before, atol=1e-6)


def test_what_does_not_make_an_ensemble(members):
    other = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10, "softmax")])
    for models, words in [
        ([], "at least one model"),
        ([3], "expected Keras models"),
        ([members[0], other], "same shapes"),
    ]:
        with pytest.raises(ValueError, match=words):
            VotingModel(models)
    with pytest.raises(TypeError, match="unknown option of HyperParamModel 'max_eval'"):
        HyperParamModel(None, max_eval=3)
    with pytest.raises(TypeError, match="unknown option of HyperParamModel 'parallelism'"):
        HyperParamModel(None, parallelism=3)
    with pytest.raises(ValueError, match="weights: expected 2, one for each model, got 3"):
        HyperParamModel(None).best_ensemble(2, searching.model, searching.data, 1, weights=[1, 2, 3])
    with pytest.raises(TypeError, match="model_list: expected a list of Keras models, got Sequential"):
        VotingModel(other)
    with pytest.raises(ValueError, match="task: expected"):
        VotingModel(members, task="ranking")
    with pytest.raises(ValueError, match="voting: expected 'hard' or 'soft', got 'loud'"):
        VotingModel(members, "loud")
    with pytest.raises(ValueError, match="y: expected classes or one-hot targets"):
        VotingModel(members).evaluate(np.zeros((4, 64)), np.zeros((4, 7)))
