"""What TensorFlow keeps of a traced model goes with the model."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import tensorflow as tf

from elephas_fast.keras_bridge import custom_gradients


def squares() -> Any:
    """A traced square whose gradient is said to be 7; it has not been asked for yet."""

    @tf.custom_gradient
    def square(x: tf.Tensor) -> Any:
        return x * x, lambda upstream: 7.0 * upstream

    function = tf.function(square)
    function(tf.constant(3.0))
    return function


def graph_of(function: Any) -> weakref.ref[Any]:
    return weakref.ref(function.get_concrete_function(tf.constant(3.0)).graph)


def test_a_graph_goes_with_its_function() -> None:
    function = squares()
    graph = graph_of(function)
    del function
    gc.collect()
    assert graph() is not None, "TensorFlow has learnt to let go of it: custom_gradients.py is of no use any more"
    assert custom_gradients.release() >= 1
    gc.collect()
    assert graph() is None


def test_what_is_in_use_keeps_its_gradient() -> None:
    function = squares()
    for _ in range(2):
        custom_gradients.release()
        gc.collect()
    x = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        y = function(x)
    assert tape.gradient(y, x).numpy() == 7.0
    with tf.GradientTape() as tape:
        y = tf.function(lambda value: 2.0 * function(value))(x)
    assert tape.gradient(y, x).numpy() == 14.0


def test_names_are_given_back() -> None:
    from tensorflow.python.framework.ops import gradient_registry

    def names() -> int:
        return sum(name.startswith("CustomGradient-") for name in gradient_registry.list())

    custom_gradients.release()
    gc.collect()
    before = names()
    function = squares()
    assert names() == before + 1
    del function
    custom_gradients.release()
    gc.collect()
    assert names() == before
