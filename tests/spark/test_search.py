"""``search`` on Spark's workers, with what goes wrong there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperopt import hp

from elephas_fast.hyperparam import report, search
from elephas_fast.tuning.record import load_trials
from tests.spark.conftest import assert_nothing_left

SPACE = {"x": hp.uniform("x", -5, 5), "kind": hp.choice("kind", ["plain"] * 3 + ["raises", "nan", "hangs", "killed"])}
SMALL = {"x": hp.uniform("x", -5, 5)}


def bowl(values):
    return (values["x"] - 1) ** 2


def hazardous(values):
    import os
    import signal
    import time

    if values["kind"] == "raises":
        raise KeyError("on purpose")
    if values["kind"] == "nan":
        return float("nan")
    if values["kind"] == "hangs":
        time.sleep(600)
    if values["kind"] == "killed":
        report(1, 0.0)
        os.kill(os.getpid(), signal.SIGKILL)
    return (values["x"] - 1) ** 2


@pytest.mark.parametrize("parallelism", [1, 2])
def test_whatever_happens_to_trials_the_search_goes_on(sc, parallelism):
    began = time.monotonic()
    result = search(
        hazardous, SPACE, max_evals=25, seed=8, spark=sc, parallelism=parallelism, trial_timeout=2, verbose=0
    )
    assert time.monotonic() - began < 120
    table = result.to_pandas()
    assert sorted(table["trial"]) == list(range(25))
    expected = {
        "raises": "KeyError: 'on purpose'", "nan": "the loss is nan", "hangs": "no end within 2 s",
        "killed": "its task was lost: the Python worker exited unexpectedly (killed, or out of memory)",
    }  # fmt: skip
    assert set(table["kind"]) == {*expected, "plain"}
    for kind, failure in expected.items():
        assert set(table[table["kind"] == kind]["failure"]) == {failure}
    plain = table[table["kind"] == "plain"]
    assert set(plain["state"]) == {"done"}
    assert result.best_loss == plain["loss"].min()
    assert_nothing_left(within=40)
    assert search(bowl, SMALL, max_evals=3, spark=sc, verbose=0, timeout=60).best_loss is not None


def test_workers_learn_the_same_as_the_driver(sc):
    runs = [
        search(bowl, SMALL, max_evals=15, seed=2, parallelism=1, spark=sc, verbose=0, trials_on=place)
        for place in ("workers", "driver")
    ]
    assert runs[0].trials.losses() == runs[1].trials.losses()


def surroundings_of_a_trial(values):
    import gc
    import os

    import keras  # noqa: F401  # from the second trial of a process on it is there before the objective is called

    return {
        "loss": values["x"], "policy": os.sched_getscheduler(0), "threads": os.environ["TF_NUM_INTRAOP_THREADS"],
        "frozen": gc.get_freeze_count(),
    }  # fmt: skip


def test_trials_make_room_for_each_other(sc):
    result = search(surroundings_of_a_trial, SMALL, max_evals=4, seed=1, spark=sc, parallelism=1, verbose=0)
    found = [document["result"] for document in result.trials.trials]
    assert {one["policy"] for one in found} == {os.SCHED_BATCH}
    assert {one["threads"] for one in found} == {"1"}
    workers = {one["worker"] for one in found}
    assert len(workers) < len(found), "expected a worker with two trials"
    assert max(one["frozen"] for one in found) > 100_000, "the collector passes over what has been imported"
    assert os.sched_getscheduler(0) == os.SCHED_OTHER, "the driver is left as it is"


def graphs_after_training(values):
    import gc

    import keras
    from tensorflow.python.framework.func_graph import FuncGraph

    gc.collect()
    graphs = sum(isinstance(one, FuncGraph) for one in gc.get_objects())
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(np.ones((8, 2)), np.ones(8), verbose=0)
    return {"loss": values["x"], "graphs": graphs}


def test_trials_leave_no_graphs_behind(sc):
    result = search(graphs_after_training, SMALL, max_evals=8, seed=1, spark=sc, parallelism=1, verbose=0)
    found: dict[str, list[int]] = {}
    for document in result.trials.trials:
        found.setdefault(document["result"]["worker"], []).append(document["result"]["graphs"])
    assert max(len(graphs) for graphs in found.values()) > 2
    assert all(len(set(graphs)) == 1 for graphs in found.values()), found


def test_data_reach_a_worker_once(sc):
    rows = np.random.default_rng(0).normal(size=2_000_000)

    def objective(values):
        return abs(float(rows.sum()) - values["x"])

    result = search(objective, SMALL, max_evals=20, parallelism=2, spark=sc, verbose=0)
    fetched = [document["result"]["fetched"] for document in result.trials.trials]
    workers = set(result.to_pandas()["worker"])
    assert len(workers) <= 2
    assert sum(fetched) == len(workers)
    assert result.best_loss == pytest.approx(min(abs(rows.sum() - x) for x in result.to_pandas()["x"]))


CONNECTED = """
import json, warnings
warnings.simplefilter("ignore")
import numpy as np
from hyperopt import hp
from pyspark.sql import SparkSession
from elephas_fast import search
from elephas_fast.hyperparam import report

spark = SparkSession.builder.remote("local[2]").config("spark.ui.enabled", "false").getOrCreate()
rows = np.ones(500_000)

def objective(values):
    import time
    for epoch in range(3):
        report(epoch, values["x"])
    if values["x"] > 3:
        time.sleep(600)
    return values["x"] * rows[0]

result = search(
    objective, {"x": hp.uniform("x", 0, 4)}, max_evals=12, trial_timeout=3, spark=spark, seed=0, verbose=0
)
print("FOUND", json.dumps([type(spark).__module__, result.trials.results]), flush=True)
spark.stop()
"""


@pytest.mark.timeout(400)
def test_spark_connect_which_has_no_context(tmp_path):
    """The objective is fetched from the driver once by each worker, and late trials are interrupted."""
    pytest.importorskip("grpc_status", reason="Spark Connect needs pyspark[connect]")
    script = tmp_path / "script.py"
    script.write_text(CONNECTED)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
    )  # fmt: skip
    assert "FOUND" in done.stdout, done.stderr
    module, results = json.loads(words(done.stdout, "FOUND", whole=True))
    assert "connect" in module
    assert time.monotonic() - began < 200
    late = [result for result in results if result["status"] == "fail"]
    assert late
    assert {result["failure"] for result in late} == {"no end within 3 s"}
    good = [result for result in results if result["status"] == "ok"]
    assert len(good) + len(late) == 12
    assert len(good) > sum(result["fetched"] for result in good)
    assert all(result["losses"] for result in results)


def test_early_stop_over_the_wire(sc):
    def objective(values):
        for epoch in range(10):
            report(epoch + 1, bowl(values) + 1 / (epoch + 1))
        return bowl(values)

    result = search(objective, SMALL, max_evals=20, seed=1, parallelism=2, spark=sc, stop="median", verbose=0)
    table = result.to_pandas()
    stopped = table[table["state"] == "stopped"]
    assert len(stopped) >= 3
    assert (stopped["epochs"] < 10).all()
    assert (table[table["state"] == "done"]["epochs"] == 10).all()


def test_what_cannot_be_sent_is_said_before_a_job(sc):
    lock = __import__("threading").Lock()
    with pytest.raises(ValueError, match="objective: could not be sent to the workers"):
        search(lambda values: lock and 1.0, SMALL, max_evals=1, spark=sc, verbose=0)


class Unreadable:
    """Cannot be read where it is sent to."""

    def __reduce__(self):
        return int, ("no number",)


def test_workers_that_cannot_begin_end_the_search(sc):
    thing = Unreadable()
    with pytest.raises(RuntimeError, match=r"3 trials in a row were lost before they began \(ValueError: invalid"):
        search(lambda values: float(bool(thing)), SMALL, max_evals=50, spark=sc, verbose=0)
    assert_nothing_left(within=40)


def test_each_trial_may_be_a_distributed_fit(sc, digits):
    import keras

    from elephas_fast import SparkModel
    from elephas_fast.utils.rdd_utils import to_simple_rdd

    x_train, y_train, x_test, y_test = digits
    rdd = to_simple_rdd(sc, x_train, y_train)

    def objective(values):
        net = [keras.Input((64,)), keras.layers.Dense(values["units"], "relu"), keras.layers.Dense(10, "softmax")]
        model = keras.Sequential(net)
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        spark_model = SparkModel(model, mode="hogwild", frequency="batch", num_workers=2)
        history = spark_model.fit(rdd, epochs=2, verbose=0)
        assert len(history.partitions) == 2
        return {"loss": -spark_model.evaluate(x_test, y_test)[1], "status": "ok", "model": model}

    result = search(
        objective, {"units": hp.choice("units", [16, 128])}, max_evals=3, seed=0, trials_on="driver", verbose=0
    )
    assert result.best_loss < -0.8, result.to_pandas()
    right = result.model.predict(x_test, verbose=0).argmax(axis=1) == y_test.argmax(axis=1)
    assert np.mean(right) == pytest.approx(-result.best_loss, abs=1e-6)
    assert_nothing_left(within=40)


def test_a_distributed_fit_that_takes_too_long_is_ended(sc, digits):
    from elephas_fast import SparkModel
    from elephas_fast.utils.rdd_utils import to_simple_rdd
    from tests.spark.conftest import dense_model

    x_train, y_train, *_ = digits
    rdd = to_simple_rdd(sc, x_train, y_train)

    def objective(values):
        SparkModel(dense_model(), num_workers=2).fit(rdd, epochs=100_000, verbose=0)
        return 0.0

    began = time.monotonic()
    result = search(objective, SMALL, max_evals=1, trials_on="driver", trial_timeout=4, verbose=0)
    assert result.trials.results[0]["failure"] == "no end within 4 s"
    assert time.monotonic() - began < 60
    assert_nothing_left(within=40)


INTERRUPTED = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
from hyperopt import hp
from pyspark import SparkConf, SparkContext
from elephas_fast import search

sc = SparkContext(conf=SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false").set("spark.log.level", "OFF"))

def objective(values):
    time.sleep(0.2 if values["x"] < 3 else 600)
    return values["x"]

def interrupt():
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.1)
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)

if sys.argv[2] == "interrupt":
    threading.Thread(target=interrupt).start()
result = search(objective, {"x": hp.uniform("x", 0, 4)}, max_evals=int(sys.argv[3]), spark=sc, trials=sys.argv[1],
                seed=1, trial_timeout=3 if sys.argv[2] == "resume" else None, verbose=0)
print("RESULT", result.interrupted, len(result.trials.trials), result.best_loss, flush=True)
again = search(objective, {"x": hp.uniform("x", 0, 2)}, max_evals=2, spark=sc, verbose=0)
print("AGAIN", len(again.trials.trials), flush=True)
sc.stop()
"""


def driver(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "kept.trials"), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def words(out: str, name: str, *, whole: bool = False) -> Any:
    rest = next(line.partition(name)[2] for line in out.splitlines() if name in line)
    return rest if whole else rest.split()


@pytest.mark.timeout(400)
def test_ctrl_c_returns_what_was_found_and_a_second_run_goes_on(tmp_path):
    out, err = driver(tmp_path, "interrupt", "1000").communicate(timeout=200)
    interrupted, count, best = words(out, "RESULT")
    assert interrupted == "True", err
    assert words(out, "AGAIN") == ["2"], "the context can be used on"
    kept, seed = load_trials(tmp_path / "kept.trials")
    assert (len(kept.trials), seed) == (int(count), 1)
    assert min(kept.losses()) == float(best)
    more = int(count) + 4
    out, err = driver(tmp_path, "resume", str(more)).communicate(timeout=200)
    interrupted, count, later = words(out, "RESULT")
    assert (interrupted, count) == ("False", str(more)), err
    assert float(later) <= float(best)
    assert load_trials(tmp_path / "kept.trials")[0].losses()[: len(kept.losses())] == kept.losses()


@pytest.mark.timeout(400)
def test_a_driver_that_is_killed_leaves_its_trials(tmp_path):
    process = driver(tmp_path, "killed", "1000")
    deadline = time.monotonic() + 120
    while not (tmp_path / "kept.trials").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    kept, _ = load_trials(tmp_path / "kept.trials")
    assert len(kept.trials) >= 1
    assert min(kept.losses()) == kept.best_trial["result"]["loss"]
