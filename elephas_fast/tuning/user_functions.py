"""Elephas' ``data()`` and ``model(x_train, ...)`` as an objective."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle

from elephas_fast.keras_bridge import early_names
from elephas_fast.tuning.templates import Template, template_of


class UserTrial:
    """``model(*data())`` for the values of a trial. ``data`` runs once: in the driver, or where what it returns cannot
    be pickled, in each Python worker."""

    def __init__(self, model: Callable[..., Any], data: Callable[[], Any], notebook_name: str | None = None) -> None:
        if not callable(data):
            raise ValueError(f"data: expected a function without arguments, got {type(data).__name__}")
        self.template: Template = template_of(model, notebook_name)
        self._provide = data
        self._order = _order(model, data)
        self._early = early_names.installed()
        self._values: tuple[Any, ...] | None = self._ordered(data())

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """What ``model`` returns for a value of each of its hyper-parameters."""
        if self._early:
            early_names.install()
        if self._values is None:
            self._values = self._ordered(self._provide())
        return self.template.call(self._values, values)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        try:
            cloudpickle.dumps(self._values)
        except Exception:  # anything, from the user's objects
            state["_values"] = None
        return state

    def _ordered(self, returned: Any) -> tuple[Any, ...]:
        values = returned if isinstance(returned, tuple) else (returned,)
        return values if self._order is None else tuple(values[place] for place in self._order)


def _order(model: Callable[..., Any], data: Callable[[], Any]) -> list[int] | None:
    """Where each argument of ``model`` stands in what ``data`` returns, by their names, as hyperas had it; ``None``
    where names do not tell, and places do."""
    wanted = [
        parameter.name
        for parameter in inspect.signature(model).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(data)))
    except (OSError, TypeError, SyntaxError):
        return None
    returns = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    if len(returns) != 1 or not isinstance(returns[0], ast.Tuple):
        return None
    names = [getattr(element, "id", None) for element in returns[0].elts]
    return [names.index(name) for name in wanted] if wanted and set(wanted) <= set(names) else None
