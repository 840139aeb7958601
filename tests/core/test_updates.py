"""The calls that optimizers of Elephas 0.2 to 0.4 had, on lists of arrays."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

from elephas_fast.layout import Layout, TensorSpec
from elephas_fast.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    FlatOptimizer,
    Optimizer,
    RMSprop,
    deserialize,
    get,
    serialize,
)
from tests.core import reference
from tests.core.cases import OWN, TABLE, Arguments, ours

RNG = np.random.default_rng(0)
SHAPES = [(3, 4), (5,), ()]
PARAMS = [RNG.normal(size=shape).astype(np.float32) for shape in SHAPES]
GRADS = [[RNG.normal(size=shape).astype(np.float32) for shape in SHAPES] for _ in range(6)]
KINDS = [SGD, RMSprop, Adagrad, Adadelta, Adam]


def updated(optimizer: Optimizer, steps: range = range(6), start: list[Any] | None = None) -> list[np.ndarray]:
    params = PARAMS if start is None else start
    for step in steps:
        params = optimizer.get_updates(params, None, GRADS[step])
    return params


def assert_equal(some: list[np.ndarray], others: list[np.ndarray]) -> None:
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "arguments"), TABLE)
def test_repeated_updates_are_the_kernels(name: str, arguments: Arguments) -> None:
    optimizer = ours(name, arguments)
    layout = Layout.build(TensorSpec(f"w{i}", shape, "float32", True) for i, shape in enumerate(SHAPES))
    weights, opaque = layout.flatten(PARAMS)
    flat = FlatOptimizer(optimizer, layout)
    slots = flat.initial_slots()
    for step in range(6):
        flat.apply(step, weights, slots, GRADS[step])
    assert_equal(updated(optimizer), layout.unflatten(weights, opaque))


@pytest.mark.parametrize(("name", "own"), [(name, own) for name, owns in OWN.items() for own in owns])
def test_repeated_updates_are_the_formulas(name: str, own: Arguments) -> None:
    optimizer = ours(name, own)
    got = updated(optimizer)
    for i, shape in enumerate(SHAPES):
        gradients = np.array([grads[i] for grads in GRADS])
        expected, _ = reference.train(optimizer, PARAMS[i], gradients)
        np.testing.assert_allclose(got[i], expected, rtol=1e-4, atol=1e-5)
        assert got[i].shape == shape
        assert got[i].dtype == np.float32


def test_slots_are_not_begun_anew_at_each_update() -> None:
    """In Elephas they were: momentum was dropped, and Adam never left its first step."""
    ones = [np.ones(2, np.float32)]
    for optimizer, first in [(SGD(lr=0.1, momentum=0.9), 0.1), (Adagrad(lr=0.1), None), (Adam(lr=0.1), None)]:
        one = optimizer.get_updates(ones, [], ones)
        two = optimizer.get_updates(one, [], ones)
        steps = [float(ones[0][0] - one[0][0]), float(one[0][0] - two[0][0])]
        assert first is None or steps[0] == pytest.approx(first)
        assert optimizer.get_state()[0] == 2
        if not isinstance(optimizer, Adam):
            assert steps[0] != pytest.approx(steps[1], rel=1e-3)
    assert SGD(lr=1.0, decay=1.0).get_updates(ones, None, ones)[0][0] == 0.0
    decaying = SGD(lr=1.0, decay=1.0)
    assert updated_twice(decaying, ones) == pytest.approx(1 - 1 - 1 / 2)


def updated_twice(optimizer: Optimizer, ones: list[np.ndarray]) -> float:
    return float(optimizer.get_updates(optimizer.get_updates(ones, None, ones), None, ones)[0][0])


@pytest.mark.parametrize("kind", KINDS)
def test_constraints_hold_for_all(kind: type[Optimizer]) -> None:
    """In Elephas Adagrad and Adadelta left them out."""
    optimizer = kind(learning_rate=5.0)
    free = kind(learning_rate=5.0).get_updates(PARAMS, None, GRADS[0])
    held = optimizer.get_updates(PARAMS, [lambda w: np.maximum(w, 0), None, lambda w: w * 0], GRADS[0])
    np.testing.assert_array_equal(held[0], np.maximum(free[0], 0))
    np.testing.assert_array_equal(held[1], free[1])
    assert held[2] == 0
    assert (free[0] < 0).any()


@pytest.mark.parametrize("arguments", [{"clipvalue": 0.1}, {"clipnorm": 0.1}])
def test_clipping_is_done(arguments: Arguments) -> None:
    """In Elephas it was accepted and forgotten."""
    ones = [np.ones(4, np.float32)]
    (new,) = SGD(lr=1.0, **arguments).get_updates(ones, [], ones)
    np.testing.assert_allclose(1 - new, 0.1 if "clipvalue" in arguments else 0.05, rtol=1e-6)


@pytest.mark.parametrize(("name", "own"), [(name, own) for name, owns in OWN.items() for own in owns])
def test_state_is_taken_up_by_another(name: str, own: Arguments) -> None:
    first, second = ours(name, own), ours(name, own)
    assert first.get_state() == []
    middle = updated(first, range(3))
    state = first.get_state()
    assert len(state) == 1 + len(first.slot_names) * len(SHAPES)
    second.set_state(state)
    assert_equal(updated(second, range(3, 6), middle), updated(first, range(3, 6), middle))
    assert_equal(second.get_state(), first.get_state())
    assert state[0] == 3
    first.set_state([])
    assert_equal(updated(first, range(3)), middle)


def test_what_an_optimizer_remembers_is_its_own() -> None:
    optimizer = SGD(0.1, momentum=0.9)
    updated(optimizer)
    fresh = SGD(0.1, momentum=0.9)
    assert optimizer == fresh
    assert hash(optimizer) == hash(fresh)
    assert optimizer.to_config() == fresh.to_config()
    for other in (pickle.loads(pickle.dumps(optimizer)), copy.copy(optimizer), get(optimizer.to_config())):
        assert other == optimizer
        assert other.get_state() == []
    assert len(optimizer.get_state()) == 4


def test_what_does_not_fit_is_said() -> None:
    optimizer = Adam()
    updated(optimizer)
    for params, constraints, grads, message in [
        (PARAMS, None, GRADS[0][:2], r"grads: expected the shapes of params, .* got \[\(3, 4\), \(5,\)\]"),
        (PARAMS, [None], GRADS[0], "constraints: expected 3 or none, got 1"),
        (PARAMS[1:], None, GRADS[0][1:], "params: expected the shapes of the first call"),
    ]:
        with pytest.raises(ValueError, match=message):
            optimizer.get_updates(params, constraints, grads)
    for values in ([np.array(1), np.ones(3)], [np.array(1)] * 4):
        with pytest.raises(ValueError, match="value_list: expected the number of updates and 2 slots"):
            optimizer.set_state(values)
    with pytest.raises(ValueError, match="value_list"):
        SGD().set_state([np.array(1), np.ones(3)])
    with pytest.raises(ValueError, match="custom_objects: expected none, got Mine"):
        deserialize(serialize(Adam()), {"Mine": Adam})


def test_double_precision_comes_back_as_it_was() -> None:
    (new,) = SGD(lr=0.5).get_updates([np.ones(3)], [], [np.ones(3)])
    assert new.dtype == np.float64
    np.testing.assert_array_equal(new, 0.5)


@pytest.mark.parametrize(("name", "arguments"), TABLE)
def test_configurations_come_back(name: str, arguments: Arguments) -> None:
    optimizer = ours(name, arguments)
    short = optimizer.get_config()
    assert short["name"] == name
    for config in (serialize(optimizer), short):
        assert deserialize(json.loads(json.dumps(config))) == optimizer
        assert get(config) == optimizer
    if not arguments:
        assert short["lr"] == optimizer.lr == optimizer.learning_rate


def test_the_short_form_of_the_early_releases() -> None:
    assert SGD(lr=0.2, momentum=0.5, decay=0.1, nesterov=True).get_config() == {
        "name": "SGD", "lr": 0.2, "decay": 0.1, "momentum": 0.5, "nesterov": True,
    }  # fmt: skip
    assert get({"name": "sgd", "lr": 0.2, "decay": 0.1}) == SGD(lr=0.2, decay=0.1)
    assert get("sgd", {"lr": 0.2}) == SGD(0.2)
