"""From Keras optimizers, configurations and names to ours, and through JSON and back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from elephas_fast.optimizers import SGD, Adadelta, Adagrad, Adam, CosineDecay, Optimizer, RMSprop, get
from tests.core.cases import TABLE, ours
from tests.core.keras_side import optimizer as keras_optimizer

k = keras.optimizers
TO_OURS: list[tuple[Any, Optimizer]] = [
    ("sgd", SGD()),
    ("SGD", SGD()),
    ("rmsprop", RMSprop()),
    ("adagrad", Adagrad()),
    ("Adadelta", Adadelta()),
    ("adam", Adam()),
    ("adamw", Adam(weight_decay=0.004)),
    (SGD(0.5), SGD(0.5)),
    (SGD(0.5, 0.9).to_config(), SGD(0.5, 0.9)),
    ({"class_name": "adam", "config": {}}, Adam()),
    (k.SGD(0.25), SGD(0.25)),
    (k.SGD(0.25, momentum=0.5, nesterov=True), SGD(0.25, 0.5, True)),
    (k.RMSprop(0.25, rho=0.5, momentum=0.1, centered=True), RMSprop(0.25, 0.5, 0.1, centered=True)),
    (k.Adagrad(0.25, initial_accumulator_value=0.5), Adagrad(0.25, 0.5)),
    (k.Adadelta(0.25, rho=0.5, epsilon=0.1), Adadelta(0.25, 0.5, 0.1)),
    (k.Adam(0.25, amsgrad=True, clipnorm=2.0), Adam(0.25, amsgrad=True, clipnorm=2.0)),
    (k.AdamW(0.25, weight_decay=0.5), Adam(0.25, weight_decay=0.5)),
    (k.Adam(0.25, clipvalue=0.0), Adam(0.25)),
    (k.Adam(k.schedules.CosineDecay(0.5, 10)), Adam(CosineDecay(0.5, 10))),
    (k.serialize(k.Adam(0.25, global_clipnorm=3.0)), Adam(0.25, global_clipnorm=3.0)),
    (k.serialize(k.SGD(k.schedules.CosineDecay(0.5, 10))), SGD(CosineDecay(0.5, 10))),
]


@pytest.mark.parametrize(("identifier", "expected"), TO_OURS, ids=lambda v: type(v).__name__)
def test_get(identifier: Any, expected: Optimizer) -> None:
    assert get(identifier) == expected
    assert type(get(identifier)) is type(expected)


@pytest.mark.parametrize(("name", "arguments"), TABLE[::3])
def test_every_case_survives_keras_and_json(name: str, arguments: dict[str, Any]) -> None:
    mine = ours(name, arguments)
    config = json.loads(json.dumps(mine.to_config()))
    assert Optimizer.from_config(config) == mine
    theirs = get(keras_optimizer(name, arguments))
    if isinstance(mine.learning_rate, float):
        assert theirs.learning_rate == np.float32(mine.learning_rate)
        theirs = Optimizer.from_config(
            {**theirs.to_config(), "config": {**theirs.to_config()["config"], "learning_rate": mine.learning_rate}}
        )
    assert theirs == mine


def test_a_changed_learning_rate_is_taken() -> None:
    optimizer = k.Adam(0.5)
    optimizer.learning_rate = 0.125
    assert get(optimizer) == Adam(0.125)


def test_excluded_names_are_taken() -> None:
    optimizer = k.Adam(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    mine = get(optimizer)
    assert mine.exclude_from_weight_decay == ("bias",)
    assert (mine.decays("dense/bias"), mine.decays("dense/kernel")) == (False, True)


def _excluding_variables() -> Any:
    optimizer = k.Adam(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_list=[keras.Variable(1.0)])
    return optimizer


class Custom(k.SGD):
    pass


REFUSED: list[tuple[Any, str]] = [
    (k.Nadam(), "expected one of SGD, .*, got Nadam"),
    ("lion", "expected one of SGD, .*, got lion"),
    (Custom(), r"got .*test_convert\.Custom"),
    ({"class_name": "SGD", "registered_name": "mine>SGD", "config": {}}, "got mine>SGD"),
    (k.LossScaleOptimizer(k.SGD()), "got LossScaleOptimizer"),
    (k.SGD(use_ema=True), "optimizer SGD: expected use_ema=False, got True, which a parameter server cannot apply"),
    (k.SGD(gradient_accumulation_steps=4), "expected gradient_accumulation_steps=None, got 4"),
    (k.SGD(loss_scale_factor=8.0), "expected loss_scale_factor=None, got 8.0"),
    (k.SGD(lambda: 0.1), "learning_rate: expected a number or one of Keras' schedules"),
    (_excluding_variables(), "exclude_from_weight_decay"),
    (k.SGD, "expected a name, .* got type"),
    (None, "expected a name, .* got NoneType"),
    (3, "expected a name, .* got int"),
    ({"class_name": "SGD", "config": {"speed": 3}}, "SGD: expected arguments among .*, got speed"),
]


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize(("identifier", "message"), REFUSED, ids=lambda v: type(v).__name__)
def test_refused(identifier: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        get(identifier)
    assert "\n" not in str(caught.value)


BAD: list[tuple[type[Optimizer], dict[str, Any], str]] = [
    (SGD, {"learning_rate": "fast"}, "learning_rate: expected a finite number, got 'fast'"),
    (SGD, {"learning_rate": True}, "learning_rate: expected a finite number, got True"),
    (SGD, {"learning_rate": float("inf")}, "learning_rate: expected a finite number, got inf"),
    (SGD, {"momentum": 1.5}, r"momentum: expected a number in \[0, 1\], got 1.5"),
    (SGD, {"weight_decay": -0.1}, "weight_decay: expected a number >= 0, got -0.1"),
    (SGD, {"clipnorm": 0}, "clipnorm: expected a number > 0, got 0"),
    (SGD, {"clipnorm": 1, "global_clipnorm": 1}, "no other way to clip gradients, got clipnorm and global_clipnorm"),
    (SGD, {"exclude_from_weight_decay": "bias"}, "expected a sequence of patterns, got the string 'bias'"),
    (SGD, {"exclude_from_weight_decay": ["("]}, "expected regular expressions, got '\\('"),
    (RMSprop, {"rho": -1}, r"rho: expected a number in \[0, 1\], got -1"),
    (RMSprop, {"epsilon": -1e-9}, "epsilon: expected a number >= 0"),
    (Adagrad, {"initial_accumulator_value": -1}, "initial_accumulator_value: expected a number >= 0, got -1"),
    (Adadelta, {"rho": 2}, r"rho: expected a number in \[0, 1\], got 2"),
    (Adam, {"beta_1": 1.0}, r"beta_1: expected a number in \[0, 1\), got 1.0"),
    (Adam, {"beta_2": None}, "beta_2: expected a finite number, got None"),
]


@pytest.mark.parametrize(("kind", "arguments", "message"), BAD)
def test_bad_arguments(kind: type[Optimizer], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_unknown_arguments_and_classes() -> None:
    with pytest.raises(TypeError, match="speed"):
        SGD(speed=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"class_name: expected one of .*, got 'Lion'"):
        Optimizer.from_config({"class_name": "Lion", "config": {}})


def test_needs_neither_keras_nor_tensorflow() -> None:
    code = "import sys, elephas_fast.optimizers; print(sorted({'keras', 'tensorflow', 'pyspark'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
