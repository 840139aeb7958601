"""Keras' own `optimizer.apply` in a `tf.function`, one variable of n floats, a given number of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from benchmarks.conversation import serve
from benchmarks.loops import loop
from benchmarks.rules import RULES, problem, sample


def set_threads(threads: int) -> dict[str, Any]:
    """Once, before anything else: TensorFlow keeps its threads."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return {}


def prepare(rule: str, n: int) -> tuple[Any, Callable[[], object]]:
    name, arguments = RULES[rule]
    optimizer = getattr(keras.optimizers, name)(**arguments)
    weights, gradient = problem(n)
    variable = keras.Variable(weights, name="weights")
    optimizer.build([variable])
    constant = tf.constant(gradient)

    @tf.function  # type: ignore[untyped-decorator]
    def apply() -> None:
        optimizer.apply([constant], [variable])

    return variable, apply


def after(rule: str, n: int, steps: int) -> dict[str, Any]:
    """A sample of the weights after `steps` applications."""
    variable, apply = prepare(rule, n)
    for _ in range(steps):
        apply()
    return {"weights": sample(keras.ops.convert_to_numpy(variable))}


def measure(rule: str, n: int, seconds: float) -> dict[str, Any]:
    """Seconds of each application."""
    _, apply = prepare(rule, n)
    for _ in range(3):
        apply()
    return {"seconds": loop(apply, seconds, least=3)}


if __name__ == "__main__":
    serve({"set_threads": set_threads, "after": after, "measure": measure})
