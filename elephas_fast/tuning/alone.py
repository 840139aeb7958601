"""A search in this process alone, one trial after the other, as hyperas does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hyperopt

from elephas_fast.tuning.loop import Limits, Loop
from elephas_fast.tuning.record import Record
from elephas_fast.tuning.space import Space, space_of
from elephas_fast.tuning.trial import Order, run
from elephas_fast.tuning.user_functions import UserTrial


def search_here(
    objective: UserTrial, algo: str | Callable[..., Any], max_evals: int, *, trials: Any = None, seed: int = 0
) -> hyperopt.Trials:
    """The trials of a search over the objective's own hyper-parameters; adds to ``trials`` if there are any."""
    space = Space(space_of(objective.template.parameters), algo)
    record = Record(trials, space.labels, None)
    loop = Loop(space, record, Limits(max_evals, 1), None, seed, None)
    loop.run(_Here(objective), _Silent())
    return record.trials


class _Here:
    def __init__(self, objective: UserTrial) -> None:
        self._objective = objective

    def start(self, order: Order, done: Callable[[], None]) -> _Done:
        done()
        return _Done(run(self._objective, order, lambda epoch, loss: False, first=False))


class _Done:
    running = False

    def __init__(self, result: dict[str, Any]) -> None:
        self._result = result

    def result(self) -> dict[str, Any]:
        return self._result

    def cancel(self, timeout: float) -> None:
        return None


class _Silent:
    def show(self, loop: Loop, *, last: bool = False) -> None:
        return None
