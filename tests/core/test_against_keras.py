"""Every optimizer against Keras 3 and against float64 formulas: weights and slots, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from elephas_fast import _core
from elephas_fast.layout import Layout
from elephas_fast.optimizers import FlatOptimizer
from tests.core import cases, keras_side, reference

STEPS = 200
SIZE = 1023


def start(n: int, steps: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Weights float32[n] and gradients float32[steps, n] that drift, so that momenta and averages matter."""
    rng = np.random.default_rng(seed)
    drift = rng.normal(scale=0.3, size=n)
    gradients = rng.normal(size=(steps, n)) * rng.choice([0.1, 1.0, 2.0], size=(1, n)) + drift
    return rng.normal(size=n).astype(np.float32), gradients.astype(np.float32)


# In AVX-512 these divide by way of an estimate, so that their bits are that instruction set's own.
ESTIMATING = ("RMSprop", "Adagrad", "Adam")


def train(
    name: str, arguments: cases.Arguments, weights: np.ndarray, gradients: np.ndarray, **options: object
) -> list[np.ndarray]:
    """Weights and slots after our updates."""
    flat = FlatOptimizer(cases.ours(name, arguments), Layout.vector(weights.size), **options)
    w, slots = weights.copy(), flat.initial_slots()
    for step, gradient in enumerate(gradients):
        assert flat.apply(step, w, slots, gradient) == 0
    return [w, *slots]


def assert_near(got: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    """Relative agreement; elements that cancelled to almost nothing are measured against the vector's magnitude."""
    magnitude = np.max(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=0.1 * tolerance * magnitude, err_msg=what)


def check(name: str, arguments: cases.Arguments) -> None:
    optimizer = cases.ours(name, arguments)
    weights, gradients = start(SIZE, STEPS)
    labels = ["weights", *optimizer.slot_names]
    by_isa = {isa: train(name, arguments, weights, gradients, isa=isa) for isa in _core.isas()}
    for isa, other in by_isa.items():
        for label, a, b in zip(labels, by_isa["baseline"], other, strict=True):
            assert name in ESTIMATING or a.tobytes() == b.tobytes(), f"{label}: {isa} differs from baseline"
    results = by_isa if name in ESTIMATING else {"every": by_isa["baseline"]}

    keras = keras_side.Training(keras_side.optimizer(name, arguments), [weights])
    keras.run(gradients[:1])
    first = train(name, arguments, weights, gradients[:1])
    for label, a, b in zip(labels, first, _state(keras, optimizer.slot_names), strict=True):
        assert_near(a, b, 1e-5, f"{label} after 1 step")
    keras.run(gradients[1:])
    w, slots = reference.train(optimizer, weights, gradients)
    for isa, result in results.items():
        for label, a, b in zip(labels, result, _state(keras, optimizer.slot_names), strict=True):
            assert_near(a, b, 1e-5, f"{label} after {STEPS} steps, {isa}")
        for label, a, b in zip(labels, result, [w, *slots], strict=True):
            assert_near(a, b, 1e-4, f"{label} against float64, {isa}")


def _state(keras: keras_side.Training, names: tuple[str, ...]) -> list[np.ndarray]:
    return [keras.weights()[0], *(values[0] for values in keras.slots(names))]


@pytest.mark.parametrize(("name", "arguments"), cases.TABLE, ids=lambda v: v if isinstance(v, str) else str(v))
def test_table(name: str, arguments: cases.Arguments) -> None:
    check(name, arguments)


@pytest.mark.parametrize("name", cases.OWN)
def test_any_arguments(name: str) -> None:
    @settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(cases.drawn(name))
    def run(arguments: cases.Arguments) -> None:
        check(name, arguments)

    run()


@pytest.mark.parametrize("name", cases.OWN)
def test_at_least_forty_combinations(name: str) -> None:
    assert sum(case == name for case, _ in cases.TABLE) + 10 >= 40


@pytest.mark.parametrize("n", [1, 7, 1_000_003])
@pytest.mark.parametrize("name", cases.OWN)
def test_sizes(name: str, n: int) -> None:
    arguments = {**cases.OWN[name][-1], "weight_decay": 0.01, "clipnorm": 0.5}
    weights, gradients = start(n, 3)
    results = []
    for isa in _core.isas():
        one, two = (train(name, arguments, weights, gradients, isa=isa, threads=threads) for threads in (1, 2))
        assert [a.tobytes() for a in one] == [b.tobytes() for b in two]
        results.append(one)
    for other in results[1:]:
        assert name in ESTIMATING or [a.tobytes() for a in results[0]] == [b.tobytes() for b in other]
    keras = keras_side.Training(keras_side.optimizer(name, arguments), [weights])
    for gradient in gradients:
        keras.step(gradient)
    expected = _state(keras, cases.ours(name, arguments).slot_names)
    for result in results:
        for a, b in zip(result, expected, strict=True):
            assert_near(a, b, 1e-5, f"{n} elements")


@pytest.mark.parametrize("name", cases.OWN)
def test_no_elements(name: str) -> None:
    weights, gradients = start(0, 2)
    result = train(name, {"clipnorm": 1.0}, weights, gradients, threads=2)
    assert [a.size for a in result] == [0] * len(result)
