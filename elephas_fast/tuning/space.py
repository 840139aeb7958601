"""Where a search looks, and what it tries next: hyperopt's spaces and algorithms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import hyperopt
import numpy as np
from hyperopt import anneal, hp, rand, tpe
from hyperopt.base import JOB_STATE_RUNNING, Domain, spec_from_misc
from hyperopt.pyll.base import dfs

from elephas_fast.tuning.templates import Parameter

ALGORITHMS: Final = ("tpe", "random", "anneal")
TPE_RANDOM: Final = 12
"""Random trials before TPE begins to learn; hyperopt's 20 are most of a search of ``max_evals``' default. Not a share
of ``max_evals``, so that a resumed search has the same trials as one in one piece."""


def space_of(parameters: Iterable[Parameter]) -> dict[str, Any]:
    """hyperopt's space of a template: for each name its distribution.

    Raises ``ValueError`` for arguments that the distribution does not take.
    """
    space = {}
    for parameter in parameters:
        try:
            make = getattr(hp, parameter.distribution)
            space[parameter.name] = make(parameter.name, *parameter.arguments, **parameter.keywords)
        except Exception as error:  # hyperopt raises anything here
            raise ValueError(
                f"{parameter.name}: hyperopt refuses {parameter.distribution}{parameter.arguments} ({error})"
            ) from error
    return space


class Space:
    """A space and the algorithm that walks it."""

    def __init__(self, space: Any, algo: str | Callable[..., Any]) -> None:
        self._space = space
        try:
            self.domain = Domain(_nothing, space)
        except Exception as error:  # hyperopt raises anything here
            raise ValueError(f"space: expected what hyperopt can search ({type(error).__name__}: {error})") from error
        self.labels = sorted(self.domain.params)
        if not self.labels:
            raise ValueError("space: expected at least one hyper-parameter, for instance hp.uniform('rate', 0, 1)")
        self._suggest = _suggest_of(algo)
        self._options = _options_of(self.domain)

    def suggest(self, trials: hyperopt.Trials, number: int, seed: int) -> dict[str, Any] | None:
        """The document of trial ``number``, put into ``trials`` as running; ``None`` where there is nothing left to
        try. Depends on what has been recorded and on ``seed`` only."""
        trials.refresh()
        documents = self._suggest([number], self.domain, trials, seed)
        if not documents:
            return None
        documents[0]["state"] = JOB_STATE_RUNNING
        trials.insert_trial_docs(documents)
        trials.refresh()
        found: dict[str, Any] = next(doc for doc in trials.trials if doc["tid"] == number)
        return found

    def check(self, document: Mapping[str, Any]) -> None:
        """Raises ``ValueError`` for a trial whose choice this space has no option for."""
        for label, options in self._options.items():
            for place in document["misc"]["vals"][label]:
                if not 0 <= int(place) < len(options):
                    raise ValueError(
                        f"trials: expected those of this space, where {label} has {len(options)} options, got trial "
                        f"{document['tid']} with option {int(place)}; give another file, or the space they were made "
                        "with"
                    )

    def values(self, document: Mapping[str, Any]) -> Any:
        """What the objective is given for a document: the space with a value in each place."""
        return _plain(hyperopt.space_eval(self._space, spec_from_misc(document["misc"])))

    def shown(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The values by label, for people; a choice as its option where that is a number or text."""
        found = {}
        for label, values in document["misc"]["vals"].items():
            if len(values):
                value = _plain(values[0])
                options = self._options.get(label)
                found[label] = value if options is None else options[int(value)]
        return found


def _suggest_of(algo: str | Callable[..., Any]) -> Callable[..., Any]:
    """hyperopt's function for a name. Of n trials TPE takes ``0.75 sqrt(n)`` to be good, four of 25. By hyperopt's own
    0.25 it is one until there are 17, and two of 25, where Bergstra et al. (Algorithms for Hyper-Parameter
    Optimization, 2011, section 4) take a quantile of all."""
    if callable(algo):
        return algo
    if algo == "tpe":
        found: Callable[..., Any] = partial(tpe.suggest, n_startup_jobs=TPE_RANDOM, gamma=0.75, verbose=False)
        return found
    known: dict[str, Callable[..., Any]] = {"random": rand.suggest, "anneal": anneal.suggest}
    if algo in known:
        return known[algo]
    raise ValueError(f"algo: expected one of {', '.join(ALGORITHMS)} or a suggest function of hyperopt, got {algo!r}")


def _options_of(domain: Domain) -> dict[str, list[Any]]:
    """The options of each choice by label, those that are not simple by their place."""
    found: dict[str, list[Any]] = {}
    for node in dfs(domain.expr):
        if node.name == "switch" and node.pos_args[0].name == "hyperopt_param":
            label = node.pos_args[0].arg["label"].obj
            found[label] = [_option(option, place) for place, option in enumerate(node.pos_args[1:])]
    return found


def _option(node: Any, place: int) -> Any:
    value = _plain(node.obj) if node.name == "literal" else None
    return value if isinstance(value, str | int | float | bool) else place


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, also within dicts, lists and tuples."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    return value


def _nothing(_: Any) -> float:
    return 0.0
