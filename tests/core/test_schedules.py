"""Learning-rate schedules against Keras, step by step."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest

from elephas_fast import optimizers
from elephas_fast.optimizers import Schedule
from tests.core.cases import SCHEDULES

STEPS = [*range(160), 1000, 12_345, 10**6]


@pytest.mark.parametrize(("name", "arguments"), SCHEDULES)
def test_values(name: str, arguments: dict[str, Any]) -> None:
    ours = getattr(optimizers, name)(**arguments)
    theirs = getattr(keras.optimizers.schedules, name)(**arguments)
    expected = [float(theirs(np.int64(step))) for step in STEPS]
    np.testing.assert_allclose([ours(step) for step in STEPS], expected, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "arguments"), SCHEDULES)
def test_round_trips(name: str, arguments: dict[str, Any]) -> None:
    schedule = getattr(optimizers, name)(**arguments)
    assert Schedule.from_config(json.loads(json.dumps(schedule.to_config()))) == schedule
    theirs = getattr(keras.optimizers.schedules, name)(**arguments)
    assert Schedule.from_config(keras.optimizers.schedules.serialize(theirs)) == schedule


BAD = [
    ("ExponentialDecay", (0.1, 0, 0.5), "decay_steps: expected a number > 0, got 0"),
    ("ExponentialDecay", ("0.1", 1, 0.5), "initial_learning_rate: expected a finite number, got '0.1'"),
    ("PiecewiseConstantDecay", ([1, 2], [0.1]), "values: expected one more than boundaries"),
    ("PiecewiseConstantDecay", ([2, 1], [0.1, 0.2, 0.3]), "boundaries: expected increasing steps"),
    ("PolynomialDecay", (0.1, 10, 0.0, -1.0), "power: expected a number >= 0, got -1.0"),
    ("InverseTimeDecay", (0.1, 10, float("nan")), "decay_rate: expected a finite number, got nan"),
    ("CosineDecay", (0.1, -3), "decay_steps: expected a number > 0, got -3"),
    ("CosineDecayRestarts", (0.1, 10, 0.5), "t_mul: expected a number >= 1, got 0.5"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_bad_arguments(name: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(optimizers, name)(*arguments)


def test_unknown_schedules_are_refused() -> None:
    class Mine(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> float:
            return 0.1

        def get_config(self) -> dict[str, Any]:
            return {}

    with pytest.raises(ValueError, match=r"learning_rate: expected a number or one of Keras' schedules .*, got Mine"):
        optimizers.get(keras.optimizers.SGD(Mine()))
    with pytest.raises(ValueError, match=r"CosineDecay: expected arguments among .*, got steps"):
        Schedule.from_config({"class_name": "CosineDecay", "config": {"steps": 3}})
