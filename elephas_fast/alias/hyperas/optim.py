"""A search in this process, with double braces, without Spark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hyperopt
from hyperopt import space_eval

from elephas_fast.keras_bridge.trial_models import from_parts
from elephas_fast.tuning.alone import search_here
from elephas_fast.tuning.space import space_of
from elephas_fast.tuning.user_functions import UserTrial
from elephas_fast.tuning.weight_lists import arrays_of

__all__ = ["minimize"]


def minimize(
    model: Callable[..., Any],
    data: Callable[[], Any],
    algo: Callable[..., Any],
    max_evals: int,
    trials: hyperopt.Trials,
    functions: Any = None,
    rseed: int = 1337,
    notebook_name: str | None = None,
    verbose: bool = True,
    eval_space: bool = False,
    return_space: bool = False,
    keep_temp: bool = False,
) -> tuple[Any, ...]:
    """``(best hyper-parameters, best model)`` of ``max_evals`` trials, which are added to ``trials``; with
    ``return_space`` the space is third.

    The hyper-parameters are hyperopt's (a choice is the place of its option), or their values with ``eval_space``.
    ``functions`` and ``keep_temp`` are not needed: functions are found where they are, and there is no file. Raises
    ``ValueError`` where no trial has a loss.
    """
    objective = UserTrial(model, data, notebook_name)
    search_here(objective, algo, max_evals, trials=trials, seed=rseed)
    space = space_of(objective.template.parameters)
    try:
        best = trials.best_trial
    except hyperopt.exceptions.AllTrialsFailed:
        why = next((r["failure"] for r in trials.results if r.get("failure")), "none has ended")
        raise ValueError(f"model: expected a trial with a loss, got none; the first: {why}") from None
    found = space_eval(space, trials.argmin) if eval_space else trials.argmin
    result = best["result"]
    weights = result.get("weights")
    kept = None
    if result.get("model") is not None:
        kept = from_parts(result["model"], None if weights is None else arrays_of(weights))
    if verbose:
        print(f"best of {len(trials.trials)} trials: {result['loss']:.6g} with {found}")
    return (found, kept, space) if return_space else (found, kept)
