"""What a trial of a hyper-parameter search has to do with Keras: seeds, its model on the way home, its callback."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast.keras_bridge import custom_gradients, runtime
from elephas_fast.keras_bridge.configured import as_config, set_seed, unweighted


def prepare(seed: int, threads: int | None) -> None:
    """Seed Python, NumPy, and, where they have been imported, Keras and TensorFlow.

    ``threads``: TensorFlow's, in a worker, which also forgets the models of an earlier trial; ``None`` in the driver,
    whose TensorFlow and models are its user's.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # what objectives use without a generator of their own
    if threads is not None:
        _share_cores(threads)
    if "keras" not in sys.modules:
        return
    if threads is not None:
        runtime.start(threads, lean=True)
        custom_gradients.release()
        runtime.keras().utils.clear_session()
        _spare_modules()
    set_seed(seed)


@functools.cache
def _share_cores(threads: int) -> None:
    """Let this process take its turns beside the other workers': TensorFlow's threads, if the objective imports it, and
    longer turns (Linux' SCHED_BATCH), because Keras' training and its feeding thread wake each other for each batch."""
    for pool in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(pool, str(threads))
    if hasattr(os, "SCHED_BATCH"):
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):  # it has ended, or a container forbids it
                os.sched_setscheduler(int(thread), os.SCHED_BATCH, os.sched_param(0))


@functools.cache
def _spare_modules() -> None:
    """Let the garbage collector pass over what has been imported: ``clear_session`` calls it before each trial and
    Spark after each, and walking through that takes a quarter of a second."""
    gc.freeze()


def is_model(value: Any) -> bool:
    """Whether a value is a Keras model; does not import Keras."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(value, keras.Model)


def as_parts(model: Any) -> tuple[str, list[NDArray[Any]]]:
    """A model's configuration as JSON and its weights."""
    return as_config(model), [np.asarray(weight) for weight in model.get_weights()]


def from_parts(config: str, weights: list[NDArray[Any]] | None, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model of a configuration, JSON or YAML, with weights if there are any.

    Raises ``ValueError`` where Keras cannot build it or the weights are not of its shapes.
    """
    model = unweighted(as_config(config), custom_objects)
    if weights is not None:
        expected, got = [tuple(w.shape) for w in model.weights], [w.shape for w in weights]
        if expected != got:
            raise ValueError(f"weights: expected arrays of shapes {expected} for the model, got {got}")
        model.set_weights(weights)
    return model


def report_callback(report: Callable[[int, float], None], monitor: str) -> Any:
    """A Keras callback that reports ``monitor`` after each epoch, the first as 1."""
    keras = runtime.keras()

    class ReportLoss(keras.callbacks.Callback):  # type: ignore[name-defined,misc]
        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            found = dict(logs or {})
            if monitor not in found:
                raise ValueError(f"monitor: expected one of {', '.join(sorted(found))}, got {monitor!r}")
            report(epoch + 1, float(found[monitor]))

    return ReportLoss()
