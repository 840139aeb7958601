"""Double braces in a user's function, in a module, in a closure, in a notebook."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from elephas_fast.alias.hyperas.distributions import conditional
from elephas_fast.spark.trials import pickled
from elephas_fast.tuning.space import Space, space_of
from elephas_fast.tuning.templates import template_of
from elephas_fast.tuning.user_functions import UserTrial

SCALE = 3
OPTIONS = ["a", "b"]


class Layer:
    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments, self.named = arguments, named


def everything(x, y=2, *, z: UnknownName = 3):  # noqa: F821  # an annotation that is never evaluated
    found = [Layer({{uniform(0, 1)}}), Layer(rate={{uniform(0, 1)}}), Layer({{choice([1, 2])}}, size={{randint(5)}})]
    found[0].named = {{quniform(1, 10, 2)}}
    depth = {{choice(["three", "four"])}}
    if {{choice(["yes", "no"])}} == "yes" and conditional({{choice([True, False])}}):
        depth += "!"
    return x, y, z, found, depth, {{loguniform(math.log(0.1), math.log(SCALE))}}, {{normal(0, SCALE)}}


NAMES = ["Layer", "rate", "Layer_1", "size", "named", "depth", "conditional", "conditional_1", "value", "value_1"]


def test_names_come_from_where_the_braces_stand():
    assert [parameter.name for parameter in template_of(everything).parameters] == NAMES


def test_values_take_the_place_of_the_braces():
    template = template_of(everything)
    values = dict(zip(NAMES, [0.5, 0.25, 2, 4, 6, "four", "yes", True, 1.5, -1.0], strict=True))
    x, y, z, found, depth, rate, shift = template.call(("x",), values)
    assert (x, y, z, depth, rate, shift) == ("x", 2, 3, "four!", 1.5, -1.0)
    assert found[0].arguments == (0.5,)
    assert found[1].named == {"rate": 0.25}
    assert (found[2].arguments, found[2].named) == ((2,), {"size": 4})
    assert found[0].named == 6


def test_arguments_are_evaluated_with_the_names_of_the_module():
    found = {parameter.name: parameter for parameter in template_of(everything).parameters}
    assert found["value"].arguments == (math.log(0.1), math.log(3))
    assert found["value_1"].arguments == (0, 3)


def with_layers():
    from collections import OrderedDict as Own

    kept = SCALE
    return {{choice([Layer(kept), Own(a=1)])}}, {{choice(OPTIONS)}}, {{choice([Layer, Own])}}


def test_options_that_are_no_literals_are_made_by_the_trial_itself():
    template = template_of(with_layers)
    first, second, third = template.parameters
    assert first.arguments == (["Layer(kept)", "Own(a=1)"],)
    assert second.arguments == (["a", "b"],)
    layer, option, kind = template.call((), {first.name: "Layer(kept)", second.name: "b", third.name: "Layer"})
    assert isinstance(layer, Layer)
    assert layer.arguments == (3,)
    assert (option, kind) == ("b", Layer)
    made, _, _ = template.call((), {first.name: "Own(a=1)", second.name: "b", third.name: "Own"})
    assert dict(made) == {"a": 1}


def test_braces_in_and_beside_the_targets_of_assignments():
    def model(_hyperparameters):
        found = {}
        found[{{choice(["a", "b"])}}] = _hyperparameters
        rate: float = {{uniform(0, 1)}}
        rate += {{randint(3)}}
        return found, rate, {{choice([*OPTIONS, Layer])}}

    template = template_of(model)
    key, rate, more, last = template.parameters
    assert [parameter.name for parameter in template.parameters] == ["value", "rate", "rate_1", "value_1"]
    assert last.arguments == (["a", "b", Layer],)
    values = {key.name: "b", rate.name: 0.5, more.name: 2, last.name: Layer}
    assert template.call((7,), values) == ({"b": 7}, 2.5, Layer)


def test_closures_and_pickling():
    bias = 7

    def inner(x):
        return x * {{uniform(0, 1)}} + bias

    template = cloudpickle.loads(cloudpickle.dumps(template_of(inner)))
    assert template.call((2,), {"value": 0.5}) == 8


def test_errors_name_the_users_file_and_line():
    def fails():
        rate = {{uniform(0, 1)}}
        raise RuntimeError(rate)

    with pytest.raises(RuntimeError) as caught:
        template_of(fails).call((), {"rate": 1})
    last = caught.traceback[-1]
    assert Path(str(last.path)).name == "test_templates.py"
    assert "raise RuntimeError" in str(last.statement)


@pytest.mark.parametrize("name", [
    "choice([1, 2])", "pchoice([(0.1, 1), (0.9, 2)])", "randint(4)", "uniform(0, 1)", "uniformint(1, 4)",
    "quniform(0, 9, 3)", "loguniform(-2, 2)", "qloguniform(0, 3, 1)", "normal(0, 1)", "qnormal(0, 5, 1)",
    "lognormal(0, 1)", "qlognormal(0, 1, 1)",
])  # fmt: skip
def test_every_distribution_of_hyperopt(name, tmp_path):
    function = from_file(tmp_path, f"def model():\n    return {{{{{name}}}}}\n")
    space = Space(space_of(template_of(function).parameters), "random")
    import hyperopt

    document = space.suggest(hyperopt.Trials(), 0, 1)
    assert document is not None
    values = space.values(document)
    assert template_of(function).call((), values) == values["value"]


def from_file(folder: Path, text: str) -> Any:
    path = folder / "script.py"
    path.write_text(text)
    names: dict[str, Any] = {}
    exec(compile(text, str(path), "exec"), names)
    return names["model"]


@pytest.mark.parametrize(("text", "words"), [
    ("def model():\n    return 1\n", "expected a hyper-parameter in double braces"),
    ("def model():\n    return {{1 + 1}}\n", "in double braces, got {{1 + 1}}"),
    ("def model():\n    return {{gamma(1)}}\n", "in double braces, got {{gamma(1)}}"),
    ("def model(rows):\n    return {{uniform(0, len(rows))}}\n", "could not evaluate {{uniform(0, len(rows))}}"),
    ("model = lambda: {{uniform(0, 1)}}\n", "made by def"),
])  # fmt: skip
def test_what_is_no_template_is_one_sentence(tmp_path, text, words):
    with pytest.raises(ValueError, match="model: ") as caught:
        template_of(from_file(tmp_path, text))
    assert words in str(caught.value)


def test_a_set_of_a_set_of_two_is_no_template(tmp_path):
    text = "def model():\n    return {{1, 2}} if False else {{uniform(0, 1)}}\n"
    (only,) = template_of(from_file(tmp_path, text)).parameters
    assert only.distribution == "uniform"


def test_no_source_is_said_and_a_notebook_is_read(tmp_path):
    names: dict[str, Any] = {}
    exec("def model(x):\n    return x + {{randint(3)}}\n", names)
    with pytest.raises(ValueError, match="finds no source of model"):
        template_of(names["model"])
    cells = [
        {"cell_type": "markdown", "source": ["def model(x): no"]},
        {"cell_type": "code", "source": ["%time\n", "def model(x):\n", "    return x + {{randint(3)}}\n"]},
    ]
    (tmp_path / "book.ipynb").write_text(json.dumps({"cells": cells}))
    template = template_of(names["model"], str(tmp_path / "book"))
    assert template.call((1,), {"value": 2}) == 3
    with pytest.raises(ValueError, match="notebook_name: expected a notebook"):
        template_of(names["model"], str(tmp_path / "none"))


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    template_of(everything).call((1,), dict.fromkeys(NAMES, "four"))
    assert os.listdir(tmp_path) == []


def test_data_is_given_by_name_where_names_tell(tmp_path):
    def data():
        x_test, x_train = 1, 2
        return x_test, x_train

    def model(x_train, x_test):
        return x_train, x_test, {{uniform(0, 1)}}

    assert UserTrial(model, data)({"value": 0}) == (2, 1, 0)

    def other(a, b):
        return a, b, {{uniform(0, 1)}}

    assert UserTrial(other, data)({"value": 0}) == (1, 2, 0)


def test_the_users_own_modules_need_not_be_where_the_trial_is(tmp_path, monkeypatch):
    """A module that a script imports its two functions from, with another one beside it."""
    (tmp_path / "own_rows.py").write_text("class Rows(list):\n    pass\n\ndef total(rows):\n    return sum(rows)\n")
    (tmp_path / "own_lock.py").write_text(
        "import threading\nLOCK = threading.Lock()\n\ndef one():\n    return LOCK and 1\n"
    )
    (tmp_path / "own_model.py").write_text(
        "import own_rows\nfrom own_rows import Rows\n\ndef data():\n    return Rows([1, 2])\n\n"
        "def twice(value):\n    return 2 * value\n\ndef model(rows):\n"
        "    return twice(own_rows.total(rows)) + {{uniform(0, 1)}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("own_model")
    objectives = [UserTrial(module.model, module.data), lambda values: module.twice(values["value"])]
    sent = [pickled(objective) for objective in objectives]
    held = importlib.import_module("own_lock")
    assert cloudpickle.loads(pickled(lambda values: held.one()))(None) == 1, "that module stays where it is"
    assert "own_model" not in cloudpickle.list_registry_pickle_by_value()
    monkeypatch.undo()
    for name in ("own_model", "own_rows"):
        monkeypatch.delitem(sys.modules, name)
    assert [cloudpickle.loads(data)({"value": 1}) for data in sent] == [7, 2]


def test_data_that_cannot_be_pickled_is_made_where_it_is_used():
    calls = []

    def data():
        return (value for value in [1, 2, 3])

    def model(rows):
        return sum(rows) + {{uniform(0, 1)}}

    sent = cloudpickle.loads(cloudpickle.dumps(UserTrial(model, data)))
    assert sent({"value": 1}) == 7
    assert textwrap.dedent("") == "".join(calls)
