"""What a model remembers between batches apart from its weights: optimizer variables, seeds, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast.keras_bridge import private
from elephas_fast.keras_bridge.local_rule import LocalRule
from elephas_fast.keras_bridge.steps import Signature
from elephas_fast.layout import Layout

Array = NDArray[Any]
LogSums = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class LaneState:
    """A copy of the local state; several partitions that share a process each keep one."""

    optimizer: tuple[Array, ...]
    rule: tuple[Array, ...]
    seeds: tuple[Array, ...]
    metrics: tuple[Array, ...]
    signature: Signature | None
    logs: LogSums


class LocalState:
    """The local state of one model. Built from a fresh model, whose values ``reset`` returns to.

    ``rule``: the optimizer in compiled form, for rounds of one batch; ``None`` where Keras' own takes every step.
    ``signature``: the data the metrics have seen this epoch, ``None`` before the first batch. ``logs``: (sum over rows,
    rows) of what a custom step returns beside its metrics.
    """

    rule: LocalRule | None
    signature: Signature | None
    logs: LogSums

    def __init__(self, model: Any, layout: Layout) -> None:
        self._model = model
        self._layout = layout
        self.rule = None
        self._optimizer = getattr(model, "optimizer", None) if model.compiled else None
        if self._optimizer is not None and not self._optimizer.built:
            self._optimizer.build(model.trainable_variables)
        self._generators = private.seed_generators(model)
        self._fresh = read(self._optimizer_variables())
        self._fresh_seeds = read(self._seed_variables())
        self.signature = None
        self.logs = {}

    def reset(self, seed: int, *, single_batches: bool) -> None:
        """Put everything back to the fresh model; generators without a seed of their own get one from ``seed``.

        ``single_batches``: every round will be one batch, so that a compiled rule may take the optimizer's steps.
        """
        self.rule = None
        assign(self._optimizer_variables(), self._fresh)
        if single_batches:
            self.rule = LocalRule.of(self._model, self._layout)
        seeds = list(self._fresh_seeds)
        for index, generator in enumerate(self._generators):
            if not private.is_fixed_seed(generator):
                drawn = np.random.SeedSequence([seed, index]).generate_state(1, np.uint32)[0] >> 1
                seeds[index] = np.array([drawn, 0], seeds[index].dtype)
        assign(self._seed_variables(), seeds)
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Forget the metrics."""
        if self._model.compiled:
            self._model.reset_metrics()
        self.signature, self.logs = None, {}

    def save(self) -> LaneState:
        """A copy of the present state."""
        return LaneState(
            read(self._optimizer_variables()),
            () if self.rule is None else self.rule.save(),
            read(self._seed_variables()),
            read(metric_variables(self._model)),
            self.signature,
            dict(self.logs),
        )

    def restore(self, state: LaneState) -> None:
        """Continue from a saved state."""
        assign(self._optimizer_variables(), state.optimizer)
        if self.rule is not None:
            self.rule.restore(state.rule)
        assign(self._seed_variables(), state.seeds)
        self.restore_metrics(state.metrics, state.signature, state.logs)

    def restore_metrics(self, metrics: Sequence[Array], signature: Signature | None, logs: LogSums) -> None:
        """Continue with these metrics."""
        self.begin_epoch()
        if signature is not None:
            assign(metric_variables(self._model), metrics)
            self.signature, self.logs = signature, dict(logs)

    def set_learning_rate(self, value: float) -> None:
        """Set the optimizer's learning rate. Raises ``TypeError`` where it follows a schedule."""
        self._model.optimizer.learning_rate = value
        if self.rule is not None:
            self.rule.set_learning_rate(value)

    def _optimizer_variables(self) -> list[Any]:
        """Those of Keras' optimizer, which do not change where a compiled rule takes the steps."""
        return [] if self._optimizer is None or self.rule is not None else list(self._optimizer.variables)

    def _seed_variables(self) -> list[Any]:
        return [generator.state for generator in self._generators]


def metric_variables(model: Any) -> list[Any]:
    """The variables of all metrics of a compiled model, in Keras' order; none before its first batch."""
    return [variable for metric in model.metrics for variable in metric.variables]


def read(variables: Sequence[Any]) -> tuple[Array, ...]:
    """Copies of the values."""
    return tuple(variable.value.numpy() for variable in variables)


def assign(variables: Sequence[Any], values: Sequence[Array]) -> None:
    """Set the values."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
