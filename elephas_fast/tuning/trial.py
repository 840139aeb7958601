"""One trial where it runs: call the objective, and make of whatever happens a record that travels as plain data."""

from __future__ import annotations

import math
import os
import platform
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from elephas_fast.keras_bridge.trial_models import as_parts, is_model, prepare
from elephas_fast.tuning.reporting import Send, TrialStopped, trial
from elephas_fast.tuning.weight_lists import arrays_of
from elephas_fast.wire.objects import pack_object

_OWN: Final = ("loss", "status", "model", "weights")
_STATUSES: Final = ("new", "running", "suspended", "ok", "fail")
_LONGEST_TEXT: Final = 20_000


@dataclass(frozen=True)
class Order:
    """What a task is told: which trial, with which values, seed and TensorFlow threads (``None`` in the driver, whose
    TensorFlow is left as it is)."""

    number: int
    values: Any
    seed: int
    threads: int | None


def run(objective: Callable[[Any], Any], order: Order, send: Send, *, first: bool) -> dict[str, Any]:
    """The trial's result: ``status`` and ``loss`` as hyperopt has them, ``model`` and ``weights`` if there are any,
    what else the objective returned, and ``worker``, ``seconds``, ``fetched`` (``first``: its process had to read the
    objective), ``failure`` with ``traceback`` where it failed, ``stopped`` where ``report`` ended it.

    Never raises for what the objective does.
    """
    began = time.monotonic()
    try:
        prepare(order.seed, order.threads)
        with trial(send):
            result = read(objective(order.values))
    except TrialStopped as stopped:
        result = {"status": "suspended", "stopped": str(stopped)}
    except (Exception, SystemExit) as error:
        result = failed(f"{type(error).__name__}: {error}", traceback.format_exc())
    return {**result, "worker": worker_name(), "seconds": time.monotonic() - began, "fetched": first}


def failed(why: str, trace: str = "") -> dict[str, Any]:
    """The result of a trial without a loss."""
    found = {"status": "fail", "failure": why[:1000]}
    return {**found, "traceback": trace[-_LONGEST_TEXT:]} if trace else found


def read(returned: Any) -> dict[str, Any]:
    """What an objective returned as a result of plain data. Raises ``ValueError`` for what is none."""
    if not isinstance(returned, Mapping):
        returned = {"loss": returned, "status": "ok"}
    status = returned.get("status", "ok")
    if status not in _STATUSES:
        raise ValueError(f"status: expected one of {', '.join(_STATUSES)}, got {status!r}")
    found = {str(key): _data(value) for key, value in returned.items() if key not in _OWN}
    found["status"] = status
    if status == "ok":
        found["loss"] = _loss(returned.get("loss"))
        if math.isnan(found["loss"]) or math.isinf(found["loss"]):
            return failed(f"the loss is {found.pop('loss')}")
    model, weights = returned.get("model"), returned.get("weights")
    if is_model(model):
        model, own = as_parts(model)
        weights = own if weights is None else weights
    if model is not None and not isinstance(model, str):
        raise ValueError(f"model: expected a Keras model or its to_json(), got {type(model).__name__}")
    if model is not None:
        found["model"] = model
    if weights is not None:
        found["weights"] = weights if isinstance(weights, bytes) else arrays_of(weights)
    return found


def worker_name() -> str:
    """This process, for people: ``host:pid``."""
    return f"{platform.node()}:{os.getpid()}"


def _loss(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"loss: expected a number, got {value!r}"[:300]) from None


def _data(value: Any) -> Any:
    """The value, where it is plain data, else its ``repr``."""
    try:
        pack_object(value)
    except (TypeError, RecursionError):
        return repr(value)[:1000]
    return value
