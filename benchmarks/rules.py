"""The optimizers of the kernels benchmark under one name each, with the same arguments for every contender.

The NumPy text is what a careful person writes in place, with two scratch vectors; formulas are Keras 3's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Vector = np.ndarray
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"learning_rate": 0.01}),
    "momentum": ("SGD", {"learning_rate": 0.01, "momentum": 0.9}),
    "RMSprop": ("RMSprop", {"learning_rate": 0.001, "rho": 0.9, "epsilon": 1e-7}),
    "Adagrad": ("Adagrad", {"learning_rate": 0.001, "initial_accumulator_value": 0.1, "epsilon": 1e-7}),
    "Adadelta": ("Adadelta", {"learning_rate": 0.001, "rho": 0.95, "epsilon": 1e-7}),
    "Adam": ("Adam", {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
}
SLOTS = {"SGD": 0, "momentum": 1, "RMSprop": 1, "Adagrad": 1, "Adadelta": 2, "Adam": 2}


def problem(n: int) -> tuple[Vector, Vector]:
    """Weights and a gradient, float32[n], the same for every contender; they repeat after a million elements."""
    random = np.random.default_rng(7)
    gradient = random.standard_normal(min(n, 1_000_003), dtype=np.float32)
    weights = random.standard_normal(min(n, 1_000_003), dtype=np.float32)
    return np.resize(weights, n), np.resize(gradient * np.float32(0.01), n)


def sample(weights: Vector) -> list[float]:
    """Some weights to compare contenders by, from all over the vector."""
    return [float(value) for value in weights[:: max(1, len(weights) // 97)]]


def numpy_rule(rule: str, w: Vector, g: Vector) -> Callable[[], None]:
    """One in-place step of `rule` per call, its slots kept between calls."""
    s, t = np.empty_like(w), np.empty_like(w)
    a, b = np.zeros_like(w), np.zeros_like(w)
    f = np.float32
    step = 0

    def sgd() -> None:
        np.multiply(g, f(0.01), out=s)
        np.subtract(w, s, out=w)

    def momentum() -> None:
        np.multiply(a, f(0.9), out=a)
        np.multiply(g, f(0.01), out=s)
        np.subtract(a, s, out=a)
        np.add(w, a, out=w)

    def decay(slot: Vector, kept: float, value: Vector) -> None:
        np.multiply(slot, f(kept), out=slot)
        np.multiply(value, f(1 - kept), out=t)
        np.add(slot, t, out=slot)

    def rmsprop() -> None:
        np.multiply(g, g, out=s)
        decay(a, 0.9, s)
        np.add(a, f(1e-7), out=s)
        np.sqrt(s, out=s)
        np.divide(g, s, out=s)
        np.multiply(s, f(0.001), out=s)
        np.subtract(w, s, out=w)

    def adagrad() -> None:
        np.multiply(g, g, out=s)
        np.add(a, s, out=a)
        np.add(a, f(1e-7), out=s)
        np.sqrt(s, out=s)
        np.divide(g, s, out=s)
        np.multiply(s, f(0.001), out=s)
        np.subtract(w, s, out=w)

    def adadelta() -> None:
        np.multiply(g, g, out=s)
        decay(a, 0.95, s)
        np.add(b, f(1e-7), out=s)
        np.add(a, f(1e-7), out=t)
        np.divide(s, t, out=s)
        np.sqrt(s, out=s)
        np.multiply(s, g, out=s)
        np.multiply(s, s, out=t)
        np.multiply(t, f(0.05), out=t)
        np.multiply(b, f(0.95), out=b)
        np.add(b, t, out=b)
        np.multiply(s, f(0.001), out=s)
        np.subtract(w, s, out=w)

    def adam() -> None:
        nonlocal step
        step += 1
        decay(a, 0.9, g)
        np.multiply(g, g, out=s)
        decay(b, 0.999, s)
        np.sqrt(b, out=s)
        np.add(s, f(1e-7), out=s)
        np.divide(a, s, out=s)
        np.multiply(s, f(0.001 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)), out=s)
        np.subtract(w, s, out=w)

    if rule == "Adagrad":
        a += f(0.1)
    steps = {"SGD": sgd, "momentum": momentum, "RMSprop": rmsprop, "Adagrad": adagrad}
    return {**steps, "Adadelta": adadelta, "Adam": adam}[rule]
