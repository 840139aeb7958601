"""Keras' own callbacks and history, driven by the driver instead of by ``keras.Model.fit``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elephas_fast.keras_bridge import runtime
from elephas_fast.layout import Float32Array, Layout, Tensor
from elephas_fast.optimizers import get as get_optimizer


class DriverCallbacks:
    """The callbacks of one fit, with ``model`` as the driver's copy.

    ``on_epoch_*`` and ``on_train_*`` are called as Keras calls them; batches happen in the workers, so
    ``on_train_batch_*`` is never called. Raises ``TypeError`` for something that is no callback.
    """

    def __init__(self, model: Any, callbacks: Sequence[Any] | None, *, epochs: int, verbose: int) -> None:
        keras = runtime.keras()
        given = list(callbacks or [])
        for callback in given:
            if not isinstance(callback, keras.callbacks.Callback):
                raise TypeError(f"callbacks: expected keras.callbacks.Callback objects, got {type(callback).__name__}")
        self.given = bool(given)
        self.history = keras.callbacks.History()
        self._model = model
        self._list = keras.callbacks.CallbackList(
            [*given, self.history], add_history=False, add_progbar=False, model=model, epochs=epochs, verbose=verbose
        )
        model.stop_training = False
        if not model.optimizer.built:  # a file saved by a callback then holds an optimizer Keras can load
            model.optimizer.build(model.trainable_variables)
        self._first_learning_rate = self._learning_rate()

    @property
    def stopped(self) -> bool:
        """Whether a callback has asked to end the training."""
        return bool(self._model.stop_training)

    @property
    def new_learning_rate(self) -> float:
        """The learning rate of the model's optimizer where a callback has changed it, else 0."""
        rate = self._learning_rate()
        return 0.0 if rate == self._first_learning_rate else rate

    @property
    def learning_rates(self) -> tuple[float, float]:
        """Of the model's optimizer: as it was at first, and now; 0 where it follows a schedule."""
        return self._first_learning_rate, self._learning_rate()

    def _learning_rate(self) -> float:
        """0 where the optimizer follows a schedule, which callbacks cannot change."""
        optimizer = self._model.optimizer
        if isinstance(
            getattr(optimizer, "_learning_rate", None), runtime.keras().optimizers.schedules.LearningRateSchedule
        ):
            return 0.0
        return float(np.asarray(optimizer.learning_rate))

    def train_begin(self) -> None:
        """Before the first epoch."""
        self._list.on_train_begin()

    def go_on(self, epochs: int, history: Mapping[str, Sequence[float]], rates: tuple[float, float]) -> None:
        """After ``train_begin``: ``epochs`` have been trained before, with this ``history``; callbacks had changed the
        learning rate from the first of ``rates`` to the second, which holds again unless the model has another."""
        self.history.epoch.extend(range(epochs))
        self.history.history.update({name: list(values) for name, values in history.items()})
        if rates[0] != rates[1] and rates[0] == self._first_learning_rate:
            self._model.optimizer.learning_rate = rates[1]

    def epoch_begin(self, epoch: int) -> None:
        """Before an epoch, counted from 0."""
        self._list.on_epoch_begin(epoch)

    def epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """After an epoch, when the model holds its weights."""
        self._list.on_epoch_end(epoch, dict(logs))

    def train_end(self) -> None:
        """After the last epoch."""
        self._list.on_train_end()


def optimizer_slots(model: Any, layout: Layout) -> tuple[int, dict[str, Float32Array]]:
    """The state of the model's compiled optimizer: (iterations, slots by Keras' names, float32[trainable_size]).

    No slots before the optimizer's first step.
    """
    optimizer = model.optimizer
    slots: dict[str, Float32Array] = {}
    if not optimizer.built:
        return 0, slots
    for name, tensor, variable in _slot_places(model, layout):
        slot = slots.setdefault(name, np.zeros(layout.trainable_size, np.float32))
        slot[tensor.offset : tensor.offset + tensor.size] = np.asarray(variable.value).reshape(-1)
    return int(np.asarray(optimizer.iterations.value)), slots


def set_optimizer_slots(model: Any, layout: Layout, iterations: int, slots: Mapping[str, Float32Array]) -> None:
    """Give the model's compiled optimizer the state that ``optimizer_slots`` reads."""
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    for name, tensor, variable in _slot_places(model, layout):
        if name in slots:
            value = slots[name][tensor.offset : tensor.offset + tensor.size]
            variable.assign(value.reshape(tensor.shape))
    optimizer.iterations.assign(iterations)


def _slot_places(model: Any, layout: Layout) -> list[tuple[str, Tensor, Any]]:
    """(slot name, tensor, optimizer variable): Keras calls a slot by its weight's path and the slot's name."""
    variables: dict[str, list[Any]] = {}
    for variable in model.optimizer.variables:
        variables.setdefault(variable.path.rpartition("/")[2], []).append(variable)
    tensors = {id(weight): tensor for weight, tensor in zip(model.weights, layout.tensors, strict=True)}
    places = []
    for slot in get_optimizer(model.optimizer).slot_names:
        for weight in model.trainable_variables:
            named = variables.get(f"{weight.path.replace('/', '_')}_{slot}")
            if named:
                places.append((slot, tensors[id(weight)], named.pop(0)))
    return places
