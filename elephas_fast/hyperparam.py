"""Hyper-parameter search and voting ensembles: Elephas' ``HyperParamModel``, and ``search``, the form of today.

It translates; the work is in ``spark/search.py``, ``tuning/`` and ``spark/voting.py``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pyspark import SparkContext
from pyspark.sql import SparkSession

from elephas_fast.config import refuse_unknown, whole
from elephas_fast.keras_bridge.trial_models import report_callback
from elephas_fast.spark.search import search
from elephas_fast.spark.voting import VotingModel, check_voting, load_voting_model
from elephas_fast.tuning.alone import search_here
from elephas_fast.tuning.record import load_trials
from elephas_fast.tuning.reporting import TrialStopped, report
from elephas_fast.tuning.result import SearchResult
from elephas_fast.tuning.space import space_of
from elephas_fast.tuning.stopping import MedianRule, SuccessiveHalving
from elephas_fast.tuning.user_functions import UserTrial

__all__ = [
    "HyperParamModel",
    "HyperasWorker",
    "MedianRule",
    "SearchResult",
    "SuccessiveHalving",
    "TrialStopped",
    "VotingModel",
    "load_trials",
    "load_voting_model",
    "report",
    "report_losses",
    "search",
]

_SET_HERE = ("objective", "space", "max_evals", "parallelism", "spark", "keep_models", "custom_objects")
_OPTIONS = [name for name in inspect.signature(search).parameters if name not in _SET_HERE]


def report_losses(monitor: str = "val_loss") -> Any:
    """A Keras callback that reports ``monitor`` after each epoch, for ``fit(..., callbacks=[report_losses()])`` in an
    objective."""
    return report_callback(report, monitor)


class HyperParamModel:
    """Elephas' search over a ``model`` function with hyper-parameters in double braces.

    Args:
        sc: a SparkContext or session.
        num_workers: trials at once. As in Elephas ``max_evals`` is for each of them; but they share one search.
        custom_objects: layers and functions of one's own in the models.
        **options: of ``search`` (``algo``, ``seed``, ``trial_timeout``, ``stop``, ``trials``, ...).
    """

    def __init__(
        self,
        sc: SparkContext | SparkSession,
        num_workers: int = 4,
        *,
        custom_objects: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.spark_context = sc
        self.num_workers = whole("num_workers", num_workers, 1)
        self.custom_objects = dict(custom_objects or {})
        self.result: SearchResult | None = None
        self._options = options
        refuse_unknown(options, _OPTIONS, "option of HyperParamModel")

    def compute_trials(
        self,
        model: Callable[..., Any],
        data: Callable[[], Any],
        max_evals: int,
        notebook_name: str | None = None,
        *,
        keep_models: int | None = None,
    ) -> list[Any]:
        """Search; a list with the ``hyperopt.Trials`` of all ``num_workers * max_evals`` trials.

        ``model``: a function of what ``data()`` returns, with ``{{choice([...])}}`` and the like in it; it returns a
        dict with ``loss``, ``status`` and the ``model``, as it is or as ``to_json()`` with ``weights``.
        ``notebook_name``: read for the source of ``model`` where Python has none. ``result`` has the whole outcome.
        """
        objective = UserTrial(model, data, notebook_name)
        self.result = search(
            objective,
            space_of(objective.template.parameters),
            max_evals=self.num_workers * whole("max_evals", max_evals, 1),
            parallelism=self.num_workers,
            spark=self.spark_context,
            keep_models=keep_models,
            custom_objects=self.custom_objects,
            **self._options,
        )
        return [self.result.trials]

    def minimize(
        self, model: Callable[..., Any], data: Callable[[], Any], max_evals: int, notebook_name: str | None = None
    ) -> Any:
        """Search; the Keras model of the best trial, with its weights."""
        return self._searched(1, model, data, max_evals, notebook_name).model

    def best_models(
        self,
        nb_models: int,
        model: Callable[..., Any],
        data: Callable[[], Any],
        max_evals: int,
        notebook_name: str | None = None,
    ) -> list[Any]:
        """Search; the Keras models of the ``nb_models`` best trials, the best first. Warns where fewer have one."""
        result = self._searched(nb_models, model, data, max_evals, notebook_name)
        having = len(result.with_model)
        if 0 < having < nb_models:
            warnings.warn(
                f"nb_models: expected {nb_models} trials with a model, got {having}, which are returned; run more "
                "trials, or see why others failed in result.to_pandas()",
                stacklevel=2,
            )
        return result.models(max(1, min(nb_models, having)))

    def best_ensemble(
        self,
        nb_ensemble_models: int,
        model: Callable[..., Any],
        data: Callable[[], Any],
        max_evals: int,
        voting: str = "hard",
        weights: Sequence[float] | None = None,
        notebook_name: str | None = None,
        *,
        task: str | None = None,
    ) -> VotingModel:
        """Search; a ``VotingModel`` of the ``nb_ensemble_models`` best models, the first of ``weights`` being that of
        the best. ``task``: see there."""
        check_voting(voting, whole("nb_ensemble_models", nb_ensemble_models, 1), weights, task)
        members = self.best_models(nb_ensemble_models, model, data, max_evals, notebook_name)
        voices = None if weights is None else list(weights)[: len(members)]
        return VotingModel(members, voting, voices, task, custom_objects=self.custom_objects)

    def _searched(
        self, count: int, model: Callable[..., Any], data: Callable[[], Any], max_evals: int, notebook: str | None
    ) -> SearchResult:
        self.compute_trials(model, data, max_evals, notebook, keep_models=whole("nb_models", count, 1))
        assert self.result is not None
        return self.result


class HyperasWorker:
    """Elephas' worker, for scripts that drive it by hand: a random search in this process.

    Args:
        bc_model: a broadcast of ``(model, data)``, the user's two functions.
        bc_max_evals: a broadcast of the number of trials.
    """

    def __init__(self, bc_model: Any, bc_max_evals: Any) -> None:
        self.model, self.data = bc_model.value
        self.max_evals = whole("bc_max_evals", bc_max_evals.value, 1)

    def minimize(self, dummy_iterator: Iterable[int]) -> Iterator[Any]:
        """Yields the ``hyperopt.Trials`` of ``max_evals`` trials; the first element is the seed."""
        seed = next(iter(dummy_iterator))
        yield search_here(UserTrial(self.model, self.data), "random", self.max_evals, seed=int(seed))
