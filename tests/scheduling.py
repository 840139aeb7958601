"""In which order ``pytest -n`` hands out the tests: file by file, as fixtures of a module want it, the long files
first, so that no worker sits over one while the other has nothing left to do."""

from __future__ import annotations

from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

LONGEST_FIRST: Final = (
    "spark/test_examples.py", "faults/test_doubles.py", "spark/test_generations.py", "faults/test_protocol.py",
    "spark/test_models.py", "spark/test_search.py", "spark/test_lifecycle.py", "spark/test_transformer.py",
    "spark/test_sync_every.py", "spark/test_estimator.py", "defects/test_modes.py", "spark/test_hyperparam.py",
    "faults/test_killed_driver.py", "faults/test_worker_kills.py", "spark/test_gradient_update.py",
    "defects/test_estimators.py", "spark/test_partitions.py", "faults/test_server_restart.py", "faults/test_resume.py",
    "spark/test_api_walk.py", "faults/test_lost_executor.py", "spark/test_fit.py",
)  # fmt: skip
"""Files of more than some 20 seconds, by ``pytest --durations``. One that is missing costs time and nothing else."""

ONE_BY_ONE: Final = ("spark/test_examples.py",)
"""Files whose tests share nothing: each starts a process of its own."""


class LongestFirst(LoadScopeScheduling):
    """What belongs together is a file, or a test of ``ONE_BY_ONE``; they are taken in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        file = _file(nodeid)
        return nodeid if file in ONE_BY_ONE else file


def make(config: pytest.Config, log: object) -> LongestFirst:
    """The scheduler; asked for by pytest-xdist."""
    config.option.loadscopereorder = False
    return LongestFirst(config, log)


def put_in_order(items: list[pytest.Item]) -> None:
    """Put the long files first; the others keep their order."""
    places = {file: place for place, file in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(_file(item.nodeid), len(places)))


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0].removeprefix("tests/")
