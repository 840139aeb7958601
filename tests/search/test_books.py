"""The books of a search: numbers, attempts, what is the user's own, and Ctrl-C between two entries."""

from __future__ import annotations

import math
import signal

import hyperopt
import numpy as np
import pytest

from elephas_fast.spark.trials import DriverTrials
from elephas_fast.tuning.loop import Limits, Loop
from elephas_fast.tuning.record import Record, load_trials
from elephas_fast.tuning.space import Space
from tests.search.conftest import SPACE, bowl


@pytest.mark.parametrize("step", [
    (Space, "suggest"), (Record, "claim"), (Record, "begin"), (DriverTrials, "start"), (Record, "finish"),
    (Record, "save"), (Record, "forget_unfinished"),
])  # fmt: skip
def test_ctrl_c_between_two_steps_of_the_books_loses_nothing(here, tmp_path, monkeypatch, step):
    """The signal comes in the driver's thread, right after the step; then the search goes on as if there had been
    none."""
    owner, name = step
    own, calls = getattr(owner, name), []

    def then_interrupted(*arguments):
        found = own(*arguments)
        calls.append(name)
        if len(calls) == (1 if name == "forget_unfinished" else 5):
            signal.raise_signal(signal.SIGINT)
        return found

    before = signal.getsignal(signal.SIGINT)
    file = tmp_path / "kept.trials"
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, then_interrupted)
        cut = here(max_evals=9, trials=file)
    assert signal.getsignal(signal.SIGINT) is before
    assert cut.interrupted
    assert {document["state"] for document in cut.trials.trials} == {hyperopt.JOB_STATE_DONE}
    assert len(cut.trials.trials) == 9 if name == "forget_unfinished" else 4 <= len(cut.trials.trials) <= 5
    assert load_trials(file)[0].losses() == cut.trials.losses()
    assert here(max_evals=9, trials=file).trials.losses() == here(max_evals=9).trials.losses()


def test_a_number_that_is_missing_is_made_up_for(here):
    whole = here(max_evals=8)
    with_gap = here(max_evals=6)
    del with_gap.trials._dynamic_trials[2]
    with_gap.trials.refresh()
    found = here(max_evals=8, trials=with_gap.trials)
    assert sorted(document["tid"] for document in found.trials.trials) == list(range(8))
    losses = {document["tid"]: document["result"]["loss"] for document in found.trials.trials}
    assert [losses[number] for number in range(8)] == whole.trials.losses()


def test_what_the_users_own_trials_hold_stays(here):
    mine = here(lambda values: {"loss": bowl(values), "status": "ok", "model": "{}"}, max_evals=4).trials
    (mark,) = hyperopt.rand.suggest([9], hyperopt.Domain(bowl, SPACE), mine, 0)
    mine.insert_trial_docs([mark])
    here(lambda values: {"loss": bowl(values), "status": "ok", "model": "{}"}, max_evals=8, trials=mine, keep_models=1)
    states = {document["tid"]: document["state"] for document in mine._dynamic_trials}
    assert states == {**dict.fromkeys(range(8), hyperopt.JOB_STATE_DONE), 9: hyperopt.JOB_STATE_NEW}
    kept = [document["tid"] for document in mine.trials if "model" in document["result"]]
    best = min((result for result in mine.results if "loss" in result), key=lambda result: result["loss"])
    assert set(range(4)) <= set(kept)
    assert len(kept) <= 5
    assert "model" in best


def test_nan_is_never_the_best(here):
    """hyperopt's own ``fmin`` records it as a loss like any other."""
    mine = hyperopt.Trials()
    hyperopt.fmin(
        lambda values: math.nan if values["x"] < 1 else bowl(values), SPACE, hyperopt.rand.suggest, 10, trials=mine,
        rstate=np.random.default_rng(0), show_progressbar=False, verbose=False,
    )  # fmt: skip
    assert math.isnan(mine.losses()[0]) or any(map(math.isnan, mine.losses()))
    found = here(max_evals=10, trials=mine)
    assert found.best_loss == min(loss for loss in mine.losses() if not math.isnan(loss))


def test_an_attempt_that_spark_has_replaced_is_not_heard_and_ends_nothing():
    """Of a task that is started again, or twice, whichever ends first is the trial."""
    answers = []

    class Twice:
        running = False

        def start(self, order, done):
            answers.append([
                loop.begun(order.number, 7, "a"), loop.reported(order.number, 7, 1, 5.0),
                loop.begun(order.number, 8, "b"), loop.reported(order.number, 7, 2, 4.0),
                loop.reported(order.number, 8, 1, 3.0), loop.begun(order.number, 7, "a"),
                loop.reported(order.number, 9, 1, 2.0), loop.reported(order.number, 8, 2, 1.0),
                loop.reported(order.number + 1, 0, 1, 1.0),
            ])  # fmt: skip
            return self

        def result(self):
            return {"loss": 1.0, "status": "ok"}

        def cancel(self, timeout):
            raise AssertionError

        def show(self, loop, *, last=False):
            return None

    record = Record(None, ["kind", "x"], None)
    loop = Loop(Space(SPACE, "random"), record, Limits(1, 1), None, 0, None)
    loop.run(Twice(), Twice())
    assert answers == [[False] * 8 + [True]]
    assert record.trials.results[0]["losses"] == [(1, 2.0)]


def test_trials_lost_after_their_beginning_do_not_end_the_search():
    """Three in a row that were lost before it do."""

    class Lost:
        running = False

        def __init__(self, begins):
            self.begins, self.number = iter(begins), 0

        def start(self, order, done):
            if next(self.begins):
                loop.begun(order.number, 0, "a")
            return self

        def result(self):
            raise RuntimeError("gone")

        def cancel(self, timeout):
            raise AssertionError

        def show(self, loop, *, last=False):
            return None

    begins = [False, False, True, False, False, True]
    loop = Loop(Space(SPACE, "random"), Record(None, ["kind", "x"], None), Limits(6, 1), None, 0, None)
    loop.run(Lost(begins), Lost([]))
    assert len(loop.record.finished) == 6
    loop = Loop(Space(SPACE, "random"), Record(None, ["kind", "x"], None), Limits(6, 1), None, 0, None)
    with pytest.raises(RuntimeError, match=r"3 trials in a row were lost before they began \(gone\)"):
        loop.run(Lost([True, False, False, False]), Lost([]))
