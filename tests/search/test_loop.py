"""The adaptive loop and its record: repeated, resumed, saved, and with everything going wrong."""

from __future__ import annotations

import math
import threading
import time

import hyperopt
import numpy as np
import pytest
from hyperopt import hp

from elephas_fast.spark.search import search
from elephas_fast.tuning.record import load_trials
from elephas_fast.tuning.reporting import report
from tests.search.conftest import SPACE, bowl


@pytest.mark.parametrize("algo", ["tpe", "random", "anneal", hyperopt.rand.suggest])
def test_the_same_seed_gives_the_same_search(here, algo):
    first, again, other = here(algo=algo), here(algo=algo), here(algo=algo, seed=4)
    assert first.trials.losses() == again.trials.losses()
    assert first.trials.vals == again.trials.vals
    assert first.trials.losses() != other.trials.losses()
    assert first.best_loss == min(first.trials.losses())
    assert bowl(first.best_values) == first.best_loss
    assert first.best == {**first.best_values}


def test_it_learns(here):
    """In as many trials TPE comes much closer than random search does, on (geometric) average over seeds."""
    tpe = [here(algo="tpe", max_evals=40, seed=seed).best_loss for seed in range(5)]
    random = [here(algo="random", max_evals=40, seed=seed).best_loss for seed in range(5)]
    assert np.mean(np.log(tpe)) < np.mean(np.log(random)) - np.log(2)


def test_a_drawn_seed_repeats_the_search(here):
    first = here(seed=None)
    assert here(seed=first.seed).trials.losses() == first.trials.losses()
    assert here(seed=None).seed != first.seed


@pytest.mark.parametrize("kept", ["file", "trials"])
def test_a_search_in_two_parts_is_the_search_in_one(here, tmp_path, kept):
    whole = here(max_evals=15)
    file = tmp_path / "kept.trials"
    part = here(max_evals=6, trials=file if kept == "file" else None)
    rest = here(max_evals=15, trials=file if kept == "file" else part.trials, seed=None if kept == "file" else 3)
    assert rest.trials.losses() == whole.trials.losses()
    assert rest.best == whole.best
    assert len(rest.trials.trials) == 15


def test_hyperopts_own_fmin_goes_on_from_the_trials(here):
    found = here(max_evals=8)
    hyperopt.fmin(bowl, SPACE, hyperopt.tpe.suggest, 12, trials=found.trials, show_progressbar=False, verbose=False)
    assert len(found.trials.trials) == 12
    assert found.trials.best_trial["result"]["loss"] <= found.trials.losses()[0]


def test_the_file_is_plain_data_and_whole(here, tmp_path):
    file = tmp_path / "kept.trials"
    result = here(trials=file)
    trials, seed = load_trials(file)
    assert seed == 3
    assert trials.losses() == result.trials.losses()
    assert [path.name for path in tmp_path.iterdir()] == ["kept.trials"]
    result.save(tmp_path / "again")
    assert load_trials(tmp_path / "again")[0].vals == result.trials.vals
    for damaged in (b"", b"\x80\x04N.", file.read_bytes()[:-9]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="expected a file that a search has written"):
            here(trials=file)


def test_trials_of_another_space_are_refused(here):
    found = here(max_evals=2)
    with pytest.raises(ValueError, match=r"trials: expected those of this space \(y\), got trial 0 with kind, x"):
        here(lambda values: 0.0, {"y": hp.uniform("y", 0, 1)}, trials=found.trials)


def test_trials_with_options_that_the_space_no_longer_has_are_refused(here):
    found = here(max_evals=6)
    with pytest.raises(ValueError, match=r"where kind has 1 options, got trial \d with option 1; give another file"):
        here(space={**SPACE, "kind": hp.choice("kind", ["plain"])}, trials=found.trials)


def test_a_report_that_is_not_finite_counts_as_the_worst(here, tmp_path):
    def objective(values):
        for epoch, loss in enumerate((3.0, math.nan, -math.inf, 2.0)):
            report(epoch, loss)
        return bowl(values)

    here(objective, max_evals=2, trials=tmp_path / "kept")
    found = here(objective, max_evals=3, trials=tmp_path / "kept").trials.results
    wanted = [(0, 3.0), (1, math.inf), (2, math.inf), (3, 2.0)]
    assert [[tuple(pair) for pair in result["losses"]] for result in found] == [wanted] * 3


def test_failures_are_recorded_and_do_not_distort(here):
    def fragile(values):
        if values["x"] < -3:
            raise KeyError("too low")
        if values["x"] < -2:
            return math.nan
        if values["x"] < -1:
            return {"loss": -math.inf, "status": "ok"}
        if values["x"] > 4:
            raise SystemExit(3)
        if values["x"] > 3:
            return {"loss": "good", "status": "ok"}
        if values["x"] > 2:
            return {"status": "fail", "loss": -100.0}
        return bowl(values)

    table = here(fragile, max_evals=60, algo="random").to_pandas()
    failures = dict(zip(table["x"], table["failure"], strict=True))
    for x, failure in failures.items():
        wanted = (
            "KeyError: 'too low'" if x < -3 else "the loss is nan" if x < -2 else "the loss is -inf" if x < -1
            else "SystemExit: 3" if x > 4 else "ValueError: loss: expected a number, got 'good'" if x > 3
            else None
        )  # fmt: skip
        assert failure == wanted or (wanted is None and not isinstance(failure, str)), x
    assert set(table[table["state"] == "done"]["x"].between(-1, 2)) == {True}
    found = here(fragile, max_evals=60)
    assert found.best_loss < 0.2
    assert found.trials.best_trial["result"]["loss"] == found.best_loss
    assert "too low" in next(r["traceback"] for r in found.trials.results if "KeyError" in r.get("failure", ""))


def test_nothing_but_failures(here):
    result = here(lambda values: math.nan, max_evals=3)
    assert result.best is None
    assert result.best_loss is None
    with pytest.raises(ValueError, match="expected a trial with a loss, got none of 3; the first: the loss is nan"):
        _ = result.model
    with pytest.raises(ValueError, match="count: expected a whole number >= 1, got 0"):
        result.models(0)


def test_limits(here):
    assert len(here(loss_threshold=1e9).trials.trials) == 1
    began = time.monotonic()
    cut = here(lambda values: time.sleep(0.2) or 1.0, timeout=1.0, max_evals=1000)
    assert 2 <= len(cut.trials.trials) <= 6
    assert time.monotonic() - began < 5
    assert all(document["state"] == hyperopt.JOB_STATE_DONE for document in cut.trials.trials)


def test_a_trial_that_hangs_in_the_driver_is_given_up(here):
    def hangs(values):
        while values["kind"] == "shifted":
            time.sleep(0.01)
        return bowl(values)

    result = here(hangs, trial_timeout=0.4, max_evals=6)
    table = result.to_pandas()
    assert set(table[table["kind"] == "shifted"]["failure"]) == {"no end within 0.4 s"}
    assert set(table[table["kind"] == "plain"]["state"]) == {"done"}
    assert not [t for t in threading.enumerate() if t.name.startswith("elephas_fast-trial")]


def test_early_stop_saves_epochs_and_keeps_the_best(here):
    def curve(values):
        for epoch in range(20):
            report(epoch + 1, bowl(values) + 5.0 / (epoch + 1))
        return bowl(values)

    whole = here(curve, max_evals=30)
    for rule in ("median", "halving"):
        result = here(curve, max_evals=30, stop=rule)
        table = result.to_pandas()
        assert table["epochs"].sum() <= 0.7 * whole.to_pandas()["epochs"].sum()
        stopped = table[table["state"] == "stopped"]
        assert len(stopped) > 5
        assert stopped["loss"].isna().all()
        assert (stopped["epochs"] < 20).all()
        assert (table[table["state"] == "done"]["epochs"] == 20).all()
        assert result.trials.best_trial["result"]["loss"] == result.best_loss


def test_report_outside_a_search_does_nothing():
    report(1, 2.0)


def test_several_at_once_use_what_is_known(here):
    seen, lock = set(), threading.Lock()

    def objective(values):
        with lock:
            seen.add(threading.current_thread().name)
        time.sleep(0.05)
        return bowl(values)

    began = time.monotonic()
    result = here(objective, max_evals=16, parallelism=4)
    assert time.monotonic() - began < 16 * 0.05
    assert sorted(document["tid"] for document in result.trials.trials) == list(range(16))
    assert len(seen) == 16


def test_a_space_that_ends(here):
    """An algorithm that has no more suggestions ends the search."""

    def three(new_ids, domain, trials, seed):
        return hyperopt.rand.suggest(new_ids, domain, trials, seed) if len(trials.trials) < 3 else []

    assert len(here(algo=three).trials.trials) == 3


def test_the_objective_gets_plain_numbers_in_the_form_of_the_space():
    kinds = []

    def objective(values):
        kinds.append((type(values["n"]), type(values["deep"][0]), values["fixed"]))
        return float(values["n"])

    space = {"n": hp.randint("n", 5), "deep": [hp.uniform("u", 0, 1)], "fixed": "word"}
    result = search(objective, space, max_evals=2, verbose=0, trials_on="driver", seed=0)
    assert result.to_pandas()["n"].tolist() == result.trials.losses()
    assert set(kinds) == {(int, float, "word")}


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"algo": "grid"}, ValueError, "algo: expected one of tpe, random, anneal"),
    ({"max_evals": 0}, ValueError, "max_evals: expected a whole number >= 1"),
    ({"parallelism": 0}, ValueError, "parallelism: expected a whole number >= 1"),
    ({"timeout": 0}, ValueError, "timeout: expected seconds above 0"),
    ({"trial_timeout": -1}, ValueError, "trial_timeout: expected seconds above 0"),
    ({"trial_timeout": "soon"}, ValueError, "trial_timeout: expected seconds above 0, got 'soon'"),
    ({"loss_threshold": math.nan}, ValueError, "loss_threshold: expected a number, got nan"),
    ({"loss_threshold": "low"}, ValueError, "loss_threshold: expected a number, got 'low'"),
    ({"verbose": 7}, ValueError, "verbose: expected 0, 1 or 2, got 7"),
    ({"stop": "soon"}, ValueError, "stop: expected None"),
    ({"trials_on": "moon"}, ValueError, "trials_on: expected 'workers' or 'driver', got 'moon'"),
    ({"trials": 3}, TypeError, "trials: expected a hyperopt.Trials or the path of a file, got int"),
    ({"objective": 3}, TypeError, "objective: expected a function"),
    ({"space": {"x": 1}}, ValueError, "space: expected at least one hyper-parameter"),
    ({"space": [hp.uniform("a", 0, 1), hp.uniform("a", 0, 1)]}, ValueError, "space: expected what hyperopt can search"),
    ({"seed": -1}, ValueError, "seed: expected a whole number >= 0"),
])  # fmt: skip
def test_bad_arguments_are_one_sentence(here, options, error, words):
    with pytest.raises(error, match="expected") as caught:
        here(**options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
