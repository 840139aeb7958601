"""``search``: hyper-parameters of anything, by all Spark workers at once."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from pyspark import SparkContext
from pyspark.sql import SparkSession

from elephas_fast.config import whole
from elephas_fast.spark.job import context_of
from elephas_fast.spark.notebook import is_running_in_notebook
from elephas_fast.spark.surroundings import Surroundings, of_context, of_session
from elephas_fast.spark.trials import ContextTrials, DriverTrials, SessionTrials, pickled
from elephas_fast.tuning.desk import Desk
from elephas_fast.tuning.interrupts import noted_by
from elephas_fast.tuning.loop import Limits, Loop, Place
from elephas_fast.tuning.record import Record
from elephas_fast.tuning.result import SearchResult
from elephas_fast.tuning.space import Space
from elephas_fast.tuning.stopping import rule_of
from elephas_fast.tuning.table import Table

_PLACES: Final = ("workers", "driver")


def search(
    objective: Callable[[Any], Any],
    space: Any,
    *,
    algo: str | Callable[..., Any] = "tpe",
    max_evals: int = 25,
    parallelism: int | None = None,
    seed: int | None = None,
    trials: Any = None,
    timeout: float | None = None,
    trial_timeout: float | None = None,
    loss_threshold: float | None = None,
    stop: Any = None,
    trials_on: str = "workers",
    spark: SparkContext | SparkSession | None = None,
    keep_models: int | None = 5,
    custom_objects: Mapping[str, Any] | None = None,
    verbose: int = 1,
) -> SearchResult:
    """Look for the hyper-parameters with the least loss: one adaptive search, which each free worker is fed from.

    Args:
        objective: takes what ``space`` makes of a trial's values; returns the loss, or a dict with ``loss``,
            ``status`` (hyperopt's), a Keras ``model`` (or its ``to_json()``) with ``weights``, and plain data of its
            own. It may call ``report(epoch, loss)``. It and its data go to each Python worker once.
        space: of hyperopt's ``hp``.
        algo: 'tpe' (which begins with 12 random trials), 'random', 'anneal', or a ``suggest`` of hyperopt.
        max_evals: trials in all, those of ``trials`` included.
        parallelism: trials at once; ``None`` for as many as Spark runs tasks, or one in the driver.
        seed: the same seed gives the same trials at ``parallelism=1`` where the objective's losses are the same, also
            over a resumption. At more, each trial still depends on the seed, its number and the results known when it
            was suggested, but which are known is up to timing.
        trials: to go on from: a ``hyperopt.Trials``, or a file, written after each trial.
        timeout: seconds after which the search ends with what it has; trials under way are cancelled.
        trial_timeout: seconds after which a trial counts as failed, from when it begins.
        loss_threshold: a loss that is good enough to end the search.
        stop: ends hopeless trials by the losses they report: 'median', 'halving', ``MedianRule``,
            ``SuccessiveHalving`` or a rule of one's own.
        trials_on: 'workers': each trial is a Spark task. 'driver': each runs in a thread of the driver, to train on
            all workers with ``SparkModel.fit``.
        spark: a SparkContext or session; ``None`` for the active one.
        keep_models: of so many of the best trials the models are kept; ``None``: of all.
        custom_objects: layers and functions of one's own in the models.
        verbose: 0 shows nothing, 1 a live table, 2 only a line for each trial that has ended.

    A trial that raises, returns NaN, runs out of time or loses its process is recorded as failed. Ctrl-C ends the
    search and returns what it has. Raises ``ValueError`` for a bad argument and ``RuntimeError`` where Spark cannot
    run trials at all.
    """
    whole("max_evals", max_evals, 1)
    if trials_on not in _PLACES:
        raise ValueError(f"trials_on: expected 'workers' or 'driver', got {trials_on!r}")
    if keep_models is not None:
        whole("keep_models", keep_models, 0)
    if not callable(objective):
        raise TypeError(f"objective: expected a function of the hyper-parameters, got {type(objective).__name__}")
    for name, value in (("timeout", timeout), ("trial_timeout", trial_timeout)):
        if value is not None and not (_is_number(value) and value > 0):
            raise ValueError(f"{name}: expected seconds above 0, got {value!r}")
    if loss_threshold is not None and not (_is_number(loss_threshold) and not math.isnan(loss_threshold)):
        raise ValueError(f"loss_threshold: expected a number, got {loss_threshold!r}")
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose: expected 0, 1 or 2, got {verbose!r}")
    rule = rule_of(stop)
    walk = Space(space, algo)
    record = Record(trials, walk.labels, keep_models)
    chosen = _seed(seed, record)
    context, session = (None, None) if trials_on == "driver" else _spark(spark)
    around = of_context(context) if context is not None else of_session(session) if session is not None else None
    width = _width(parallelism, trials_on, around)
    limits = Limits(max_evals, width, timeout, trial_timeout, loss_threshold)
    table = Table(verbose, is_running_in_notebook())
    if trials_on == "driver":
        loop = Loop(walk, record, limits, rule, chosen, None)
        with noted_by(loop.interrupt):
            loop.run(DriverTrials(objective, loop), table)
        return SearchResult(walk, record, chosen, loop.interrupted, custom_objects)
    assert around is not None
    loop = Loop(walk, record, limits, rule, chosen, around.task_cpus)
    with noted_by(loop.interrupt):
        _on_workers(loop, table, pickled(objective), around.host, context, session)
    return SearchResult(walk, record, chosen, loop.interrupted, custom_objects)


def _on_workers(
    loop: Loop, table: Table, data: bytes, host: str, context: SparkContext | None, session: SparkSession | None
) -> None:
    desk = Desk(host, loop, b"" if context is not None else data).start()
    try:
        place: Any
        if context is not None:
            place = ContextTrials(context, data, desk.address)
        else:
            assert session is not None
            place = SessionTrials(session, data, desk.address)
        try:
            run: Place = place
            loop.run(run, table)
        finally:
            place.close()
    finally:
        desk.stop()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _seed(seed: int | None, record: Record) -> int:
    """The seed asked for, else that of the trials that are gone on from, else a new one."""
    chosen = seed if seed is not None else record.seed
    if chosen is None:
        chosen = secrets.randbits(31)
    record.seed = whole("seed", chosen, 0)
    return record.seed


def _spark(given: Any) -> tuple[SparkContext | None, SparkSession | None]:
    """The context, or where there is none to be had a session alone."""
    if isinstance(given, SparkContext):
        return given, None
    if given is None:
        given = SparkContext._active_spark_context or SparkSession.getActiveSession()
        if given is None:
            given = SparkSession.builder.getOrCreate()
        return _spark(given)
    if not callable(getattr(given, "range", None)):
        raise TypeError(f"spark: expected a SparkContext or a SparkSession, got {type(given).__name__}")
    context = context_of(given)
    return (context, None) if context is not None else (None, given)


def _width(parallelism: int | None, trials_on: str, around: Surroundings | None) -> int:
    if parallelism is not None:
        return whole("parallelism", parallelism, 1)
    return 1 if trials_on == "driver" or around is None else around.slots(1)
