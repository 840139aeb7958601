"""What a search has found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import hyperopt
import pandas as pd

from elephas_fast.config import whole
from elephas_fast.keras_bridge.trial_models import from_parts
from elephas_fast.tuning.picture import draw
from elephas_fast.tuning.record import Record, save_trials
from elephas_fast.tuning.space import Space
from elephas_fast.tuning.table import state_of
from elephas_fast.tuning.weight_lists import arrays_of

_COLUMNS: Final = ("trial", "state", "loss", "seconds", "worker", "epochs", "failure")


class SearchResult:
    """What ``search`` returns: also after Ctrl-C or a timeout, with what was found until then.

    ``trials``: a ``hyperopt.Trials`` of all trials that have ended. ``interrupted``: whether Ctrl-C ended the search.
    ``seed``: to repeat it with.
    """

    def __init__(
        self, space: Space, record: Record, seed: int, interrupted: bool, custom_objects: Mapping[str, Any] | None
    ) -> None:
        self.trials: hyperopt.Trials = record.trials
        self.seed, self.interrupted = seed, interrupted
        self._space, self._record = space, record
        self._custom_objects = custom_objects

    @property
    def best(self) -> dict[str, Any] | None:
        """The hyper-parameters of the best trial by label, a choice as its option; ``None`` without a loss."""
        best = self._record.best()
        return self._space.shown(best[0]) if best else None

    @property
    def best_values(self) -> Any:
        """What the objective was given in the best trial: the space with its values. Raises ``ValueError`` without."""
        return self._space.values(self._best())

    @property
    def best_loss(self) -> float | None:
        """The least loss; ``None`` where no trial has one."""
        best = self._record.best()
        return float(best[0]["result"]["loss"]) if best else None

    @property
    def model(self) -> Any:
        """The Keras model of the best trial. Raises ``ValueError`` where its objective returned none."""
        return self.model_of(self._best())

    def models(self, count: int) -> list[Any]:
        """The models of the ``count`` best trials that have one, the best first."""
        whole("count", count, 1)
        having = self.with_model
        if len(having) < count:
            raise ValueError(
                f"models: expected {count} trials with a model, got {len(having)}; return 'model' from the objective, "
                "run more trials, or search with a greater keep_models"
            )
        return [self.model_of(document) for document in having[:count]]

    @property
    def with_model(self) -> list[dict[str, Any]]:
        """The documents of the trials that have a loss and a model, the best first."""
        return [document for document in self._record.best() if document["result"].get("model") is not None]

    def model_of(self, document: Mapping[str, Any]) -> Any:
        """The Keras model of a trial. Pickled weights are read by ``weight_lists``, which runs no code of theirs."""
        result = document["result"]
        if result.get("model") is None:
            raise ValueError(
                f"trial {document['tid']}: expected a model, got none; return 'model' and 'weights' from the objective"
            )
        weights = result.get("weights")
        return from_parts(result["model"], None if weights is None else arrays_of(weights), self._custom_objects)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each trial: ``trial``, ``state``, ``loss``, ``seconds``, ``worker``, ``epochs`` (losses reported),
        ``failure``, and a column for each hyper-parameter, which is ``param_loss`` for one that is called ``loss``."""
        rows, columns = [], self._columns()
        for document in self._record.finished:
            result = document["result"]
            rows.append({
                "trial": document["tid"], "state": state_of(result), "loss": result.get("loss"),
                "seconds": result.get("seconds"), "worker": result.get("worker"),
                "epochs": len(result.get("losses", ())), "failure": result.get("failure"),
                **{columns[label]: value for label, value in self._space.shown(document).items()},
            })  # fmt: skip
        return pd.DataFrame(rows, columns=[*_COLUMNS, *columns.values()])

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """A matplotlib figure of loss against trial and of each hyper-parameter against loss; also written to ``path``.

        Raises ``ImportError`` without matplotlib.
        """
        return draw(self.to_pandas(), self._columns(), path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trials to a file that ``search(..., trials=path)`` goes on from."""
        save_trials(self.trials, path, self.seed)

    def __repr__(self) -> str:
        finished = len(self._record.finished)
        return f"SearchResult({finished} trials, best loss {self.best_loss}, {self.best})"

    def _columns(self) -> dict[str, str]:
        """The column of each hyper-parameter."""
        found: dict[str, str] = {}
        taken = {*_COLUMNS, *self._space.labels}
        for label in self._space.labels:
            column = label
            while column in taken and (column != label or label in _COLUMNS):
                column = f"param_{column}"
            taken.add(column)
            found[label] = column
        return found

    def _best(self) -> dict[str, Any]:
        best = self._record.best()
        if best:
            return best[0]
        failures = [document["result"].get("failure") for document in self._record.finished]
        why = next((str(failure) for failure in failures if failure), "none has ended")
        raise ValueError(f"search: expected a trial with a loss, got none of {len(failures)}; the first: {why}")
