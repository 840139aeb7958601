"""Elephas 0.2 to 0.4: optimizers on the server without memory, clips and constraints without effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elephas_fast import SparkModel
from elephas_fast.alias import optimizers as elephas_optimizers
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.defects.linear import kernel, linear, local_change, random_rows

RATE, BATCH, EPOCHS = 0.05, 4, 3
OPTIONS: dict[str, Any] = {
    "nb_epoch": EPOCHS, "batch_size": BATCH, "validation_split": 0.0, "shuffle": False, "num_workers": 1
}  # fmt: skip


class Momentum:
    def __init__(self, width: int) -> None:
        self.velocity = np.zeros(width)

    def __call__(self, change: np.ndarray, step: int) -> np.ndarray:
        self.velocity = 0.9 * self.velocity + 0.5 * change
        return self.velocity


class Adam:
    def __init__(self, width: int) -> None:
        self.m, self.v = np.zeros(width), np.zeros(width)

    def __call__(self, change: np.ndarray, step: int) -> np.ndarray:
        self.m = 0.9 * self.m + 0.1 * change
        self.v = 0.999 * self.v + 0.001 * change**2
        rate = 0.01 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        return rate * self.m / (np.sqrt(self.v) + 1e-8)


class Adagrad:
    def __init__(self, width: int) -> None:
        self.accumulator = np.zeros(width)

    def __call__(self, change: np.ndarray, step: int) -> np.ndarray:
        self.accumulator = self.accumulator + change**2
        return 0.1 * change / np.sqrt(self.accumulator + 1e-6)


class RMSprop:
    def __init__(self, width: int) -> None:
        self.velocity = np.zeros(width)

    def __call__(self, change: np.ndarray, step: int) -> np.ndarray:
        self.velocity = 0.9 * self.velocity + 0.1 * change**2
        return 0.01 * change / np.sqrt(self.velocity + 1e-6)


RULES = [
    (elephas_optimizers.SGD(lr=0.5, momentum=0.9), Momentum),
    (elephas_optimizers.Adam(lr=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-8), Adam),
    (elephas_optimizers.Adagrad(lr=0.1, epsilon=1e-6), Adagrad),
    (elephas_optimizers.RMSprop(lr=0.01, rho=0.9, epsilon=1e-6), RMSprop),
]


def followed(rule: Any, x: np.ndarray, y: np.ndarray, epochs: int) -> np.ndarray:
    """The weights after so many epochs in which ``rule``, kept from update to update, applies each batch's change."""
    weights, step = np.zeros(x.shape[1]), 0
    for _ in range(epochs):
        for i in range(0, len(x), BATCH):
            step += 1
            weights = weights - rule(local_change(weights, x[i : i + BATCH], y[i : i + BATCH], RATE, BATCH), step)
    return weights


@pytest.mark.parametrize(("optimizer", "reference"), RULES, ids=[type(rule).__name__ for rule, _ in RULES])
def test_defect_01_server_optimizers_remember(sc, optimizer, reference):
    """Momentum, accumulators and the step of Adam live through a training, and from one training to the next."""
    x, y = random_rows(20, 5)
    rdd = to_simple_rdd(sc, x, y)
    model = SparkModel(sc, linear(5, rate=RATE), optimizer=optimizer, mode="asynchronous", frequency="batch")
    model.train(rdd, **OPTIONS)
    np.testing.assert_allclose(kernel(model.master_network), followed(reference(5), x, y, EPOCHS), rtol=1e-3, atol=1e-5)
    model.train(rdd, **OPTIONS)
    twice = followed(reference(5), x, y, 2 * EPOCHS)
    np.testing.assert_allclose(kernel(model.master_network), twice, rtol=1e-3, atol=1e-5)


def test_defect_01_without_an_optimizer_the_whole_change_is_taken(sc):
    """Elephas' default, SGD(lr=0.01), moved the model by a hundredth of what its workers had learned."""
    x, y = random_rows(20, 5)
    model = SparkModel(sc, linear(5, rate=RATE), mode="asynchronous", frequency="epoch")
    model.train(to_simple_rdd(sc, x, y), **{**OPTIONS, "nb_epoch": 1})
    np.testing.assert_allclose(
        kernel(model.master_network), -local_change(np.zeros(5), x, y, RATE, BATCH), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("optimizer", [elephas_optimizers.Adagrad(lr=1.0), elephas_optimizers.Adadelta(lr=100.0)])
def test_defect_06_constraints_hold_on_the_server(sc, optimizer):
    x = np.ones((16, 3), np.float32)
    y = np.full(16, -1.0, np.float32)

    def trained(**layer: Any) -> np.ndarray:
        network = linear(3, kernel_initializer="ones", **layer)
        SparkModel(sc, network, optimizer=optimizer, frequency="batch", num_workers=1).train(
            to_simple_rdd(sc, x, y), **OPTIONS
        )
        return kernel(network)

    assert np.all(trained() < 0)
    assert np.all(trained(kernel_constraint="non_neg") >= 0)


@pytest.mark.parametrize(
    ("clip", "largest", "length"),
    [
        ({"clipvalue": 0.01}, 0.01, 0.01 * 2**0.5),
        ({"clipnorm": 0.01}, 0.01 / 2**0.5, 0.01),
        ({"clipnorm": 0.01, "clipvalue": 0.005}, 0.005, 0.005 * 2**0.5),
    ],
    ids=["clipvalue", "clipnorm", "both"],
)
def test_defect_06_clips_are_applied(sc, clip, largest, length):
    x, y = np.ones((8, 2), np.float32), np.full(8, 100.0, np.float32)
    network = linear(2)
    SparkModel(sc, network, optimizer=elephas_optimizers.SGD(lr=1.0, **clip), num_workers=1).train(
        to_simple_rdd(sc, x, y), **{**OPTIONS, "nb_epoch": 1, "batch_size": 8}
    )
    assert np.abs(kernel(network)).max() == pytest.approx(largest, rel=1e-4)
    assert np.linalg.norm(kernel(network)) == pytest.approx(length, rel=1e-4)
