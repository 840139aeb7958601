"""Keras for the bridge's tests: one thread, quiet, seeded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from elephas_fast.batches import Arrays, order, rounds
from elephas_fast.keras_bridge import Trainer, describe, runtime, weights_of


@pytest.fixture(scope="session")
def keras() -> Any:
    runtime.start(threads=1)
    return runtime.keras()


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    if "keras" in request.fixturenames:
        request.getfixturevalue("keras").utils.set_random_seed(7)


@pytest.fixture
def classifier(keras: Any) -> Callable[..., Any]:
    """Builds a compiled Sequential of 6 features and 3 classes around extra layers."""

    def build(*layers: Any, optimizer: Any = "sgd", metrics: Any = ("accuracy",), **compile_options: Any) -> Any:
        model = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(8, activation="tanh"), *layers, keras.layers.Dense(3)]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, metrics=list(metrics), **compile_options)
        return model

    return build


@pytest.fixture
def rows() -> Arrays:
    """45 rows of 6 features and a class of 3: with batches of 8 the last one is short."""
    generator = np.random.default_rng(3)
    return Arrays((generator.normal(size=(45, 6)).astype(np.float32),), (generator.integers(0, 3, 45),))


@pytest.fixture
def train() -> Callable[..., Any]:
    """Trains as a lone worker does, the server subtracting each delta; returns trainer, weights and epoch metrics."""

    def run(
        model: Any, arrays: Arrays, *, epochs: int = 1, batch_size: int = 8, frequency: Any = "batch", **options: Any
    ) -> tuple[Trainer, np.ndarray, list[Any]]:
        trainer = Trainer(describe(model))
        layout = trainer.layout
        flat, opaque = weights_of(model, layout)
        delta, new_opaque = np.full(layout.size, np.nan, np.float32), opaque.copy()
        trainer.reset(0)
        states = []
        for epoch in range(epochs):
            trainer.begin_epoch()
            indices = order(arrays.rows, shuffle=False, seed=0, partition=0, epoch=epoch)
            for batches in rounds(arrays.rows, batch_size, frequency):
                trainer.train_round(arrays, indices, batches, flat, opaque, delta, new_opaque, **options)
                flat[: layout.trainable_size] -= delta[: layout.trainable_size]
                flat[layout.trainable_size :] = delta[layout.trainable_size :]
                opaque[:] = new_opaque
            states.append(trainer.metric_state())
        return trainer, flat, states

    return run
