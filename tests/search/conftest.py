"""Searches in this process: the driver's loop with trials that run in threads, without Spark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hyperopt import hp

from elephas_fast.spark.search import search
from elephas_fast.tuning.result import SearchResult

SPACE = {"x": hp.uniform("x", -5, 5), "kind": hp.choice("kind", ["plain", "shifted"])}


def bowl(values: dict[str, Any]) -> float:
    """Least, 0, at x = 1 of the plain kind."""
    return float((values["x"] - 1) ** 2 + (values["kind"] == "shifted"))


@pytest.fixture
def here() -> Callable[..., SearchResult]:
    """``search`` with trials in the driver."""

    def run(objective: Callable[..., Any] = bowl, space: Any = SPACE, **options: Any) -> SearchResult:
        return search(objective, space, **{"max_evals": 12, "seed": 3, "verbose": 0, "trials_on": "driver", **options})

    return run
