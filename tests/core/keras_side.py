"""The same updates by Keras 3 itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.core.cases import Arguments, with_schedule

# Where a Keras optimizer keeps each slot.
_SLOTS = {
    "SGD": {"momentum": "momentums"},
    "RMSprop": {
        "velocity": "_velocities",
        "momentum": "_momentums",
        "average_gradient": "_average_gradients",
    },
    "Adagrad": {"accumulator": "_accumulators"},
    "Adadelta": {"accumulated_grad": "_accumulated_grads", "accumulated_delta_var": "_accumulated_delta_vars"},
    "Adam": {"momentum": "_momentums", "velocity": "_velocities", "velocity_hat": "_velocity_hats"},
}


def optimizer(name: str, arguments: Arguments) -> Any:
    """The Keras optimizer with these arguments."""
    arguments = with_schedule(arguments, keras.optimizers.schedules)
    return getattr(keras.optimizers, name)(**arguments)


class Training:
    """Keras variables and an optimizer that updates them."""

    def __init__(self, optimizer: Any, weights: Sequence[np.ndarray], constraints: Sequence[Any] = ()) -> None:
        self.optimizer = optimizer
        self.variables = [keras.Variable(w, dtype="float32") for w in weights]
        for variable, constraint in zip(self.variables, constraints, strict=False):
            variable.constraint = constraint
        optimizer.build(self.variables)

        # One trace for any number of steps.
        signature = [tf.TensorSpec([None, *v.shape], tf.float32) for v in self.variables]

        @tf.function(input_signature=signature, autograph=False)
        def run(*gradients: Any) -> None:
            def step(k: Any) -> tuple[Any]:
                optimizer.apply([g[k] for g in gradients], self.variables)
                return (k + 1,)

            tf.while_loop(lambda k: k < tf.shape(gradients[0])[0], step, [0])

        self._run = run

    def run(self, *gradients: np.ndarray) -> None:
        """Apply `gradients[variable][step]` for all steps, as one graph."""
        self._run(*[tf.constant(g) for g in gradients])

    def step(self, *gradients: np.ndarray) -> None:
        """Apply one gradient per variable, eagerly."""
        self.optimizer.apply([tf.constant(g) for g in gradients], self.variables)

    def weights(self) -> list[np.ndarray]:
        """The variables' values."""
        return [v.numpy() for v in self.variables]

    def slots(self, names: Sequence[str]) -> list[list[np.ndarray]]:
        """For each slot name, its values, one array per variable."""
        homes = _SLOTS[type(self.optimizer).__name__]
        return [[v.numpy() for v in getattr(self.optimizer, homes[name])] for name in names]
