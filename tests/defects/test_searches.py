"""Hyper-parameter search: what Elephas had wrong, one test for each number."""

from __future__ import annotations

import os
import pickle
from typing import Any

import keras
import numpy as np

from elephas_fast.hyperparam import HyperParamModel, VotingModel


def model(rows, targets):  # type: ignore[no-untyped-def]
    """A line whose slope is the hyper-parameter: its loss is known without training."""
    made = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    slope = {{uniform(0, 4)}}  # type: ignore[name-defined]
    made.set_weights([np.full((1, 1), slope, np.float32)])
    loss = float(np.mean((rows * slope - targets) ** 2))
    return {"loss": loss, "status": "ok", "model": made.to_json(), "weights": pickle.dumps(made.get_weights())}


def data() -> tuple[Any, Any]:
    """The slope of these is 2."""
    rows = np.linspace(-1, 1, 20)[:, None]
    return rows, 2 * rows


def slopes(models: list[Any]) -> list[float]:
    return [float(one.get_weights()[0][0, 0]) for one in models]


def files_of_workers(sc: Any) -> set[str]:
    """The paths in the working directories of Spark's Python workers."""
    return set(sc.range(4, numSlices=4).flatMap(lambda _: map(os.path.abspath, os.listdir())).collect())


def test_defect_26_the_best_models_are_kept_again_and_again(sc, tmp_path, monkeypatch) -> None:
    """Elephas keeps the worst, cannot repeat a search, and its workers write one file in the working directory."""
    monkeypatch.chdir(tmp_path)
    there = files_of_workers(sc)
    search = HyperParamModel(sc, num_workers=2, seed=4, verbose=0)
    three = slopes(search.best_models(3, model, data, max_evals=5))
    (trials,) = search.compute_trials(model, data, max_evals=5)
    assert len(trials.trials) == 10
    distances = [abs(slope - 2) for slope in three]
    assert distances == sorted(distances)
    best = sorted(trials.trials, key=lambda trial: float(trial["result"]["loss"]))[0]
    assert abs(best["misc"]["vals"]["slope"][0] - 2) <= 0.6
    ensemble = search.best_ensemble(3, model, data, max_evals=5)
    assert isinstance(ensemble, VotingModel)
    kept = sorted(float(r["loss"]) for r in search.result.trials.results if "model" in r)  # type: ignore[union-attr]
    losses = sorted(search.result.trials.losses())  # type: ignore[union-attr]
    assert kept == losses[:3]

    alone = [HyperParamModel(sc, num_workers=1, seed=4, verbose=0) for _ in range(2)]
    runs = [one.compute_trials(model, data, max_evals=8)[0] for one in alone]
    assert runs[0].vals == runs[1].vals
    assert runs[0].losses() == runs[1].losses()
    assert os.listdir(tmp_path) == []
    assert files_of_workers(sc) == there
