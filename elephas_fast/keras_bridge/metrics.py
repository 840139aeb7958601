"""Metrics across workers: every worker sends its metric variables, the driver adds them and reads the results.

Keras' metrics keep sums (totals and counts, confusion matrices, histograms of thresholds), so the sum of the workers'
variables is what one process would have counted over all rows; the result is exact, not a mean of means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from elephas_fast.keras_bridge import local_state, private, steps
from elephas_fast.keras_bridge.local_state import LogSums
from elephas_fast.keras_bridge.model_spec import ModelSpec, rebuild
from elephas_fast.keras_bridge.structure import structure_of

Array = NDArray[Any]
MetricState = list[Array]

_rebuilt: dict[str, Any] = {}
_checked: WeakKeyDictionary[Any, set[steps.Signature]] = WeakKeyDictionary()


def metric_state(model: Any, signature: steps.Signature | None, logs: LogSums) -> MetricState:
    """The model's metrics as arrays that add up over workers; an empty list before the first batch.

    ``[header, *metric variables, log sums]``: the header (JSON as uint8) tells what data the metrics were built for,
    ``logs`` holds (sum over rows, rows) of what a custom ``train_step`` returns beside its metrics.
    """
    if signature is None:
        return []
    header = {"signature": [signature.x, signature.y, signature.sample_weight], "logs": list(logs)}
    sums = np.array(list(logs.values()), np.float64).reshape(len(logs), 2)
    encoded = np.frombuffer(json.dumps(header).encode(), np.uint8)
    return [encoded, *local_state.read(local_state.metric_variables(model)), sums]


def merge_metrics(model_or_spec: Any, states: Sequence[MetricState]) -> dict[str, float]:
    """The metrics over the rows of all workers, in Keras' order, ``'loss'`` first.

    ``model_or_spec``: a compiled model, whose metrics are overwritten, or a ``ModelSpec``, which is rebuilt once and
    kept. ``states``: from ``Trainer.metric_state`` or ``Trainer.evaluate``, of training on one kind of data; empty
    states (no rows) count for nothing, and no states give ``{}``. Exact for metrics whose variables are sums. Raises
    ``ValueError`` where states of different models are mixed.
    """
    filled = [state for state in states if state]
    if not filled:
        return {}
    header = json.loads(filled[0][0].tobytes())
    model = _model(model_or_spec)
    for state in filled[1:]:
        if _shapes(state) != _shapes(filled[0]) or json.loads(state[0].tobytes())["logs"] != header["logs"]:
            raise ValueError(
                f"states: expected metric variables of the shapes {_shapes(filled[0])} as in the first state, "
                f"got {_shapes(state)}; merge states of one model only"
            )
    variables = _variables(model, _shapes(filled[0]), steps.Signature(*(_part(part) for part in header["signature"])))
    local_state.assign(variables, [_sum([state[i + 1] for state in filled]) for i in range(len(variables))])
    sums = _sum([state[-1] for state in filled])
    return results(model, dict(zip(header["logs"], map(tuple, sums.tolist()), strict=True)))


def check_rows(model: Any, rows: steps.Batch) -> None:
    """Raise ``ValueError``, in one sentence, where loss and metrics of a compiled model do not take such rows.

    Traces a step on their shapes and dtypes, which runs nothing, and builds the metrics on the way; rows like some
    that have been checked before cost nothing. A model that runs eagerly is not checked.
    """
    signature = steps.Signature.of(rows)
    if model.run_eagerly or signature in _checked.setdefault(model, set()):
        return
    try:
        failure = _build(model, signature)
    except Exception as error:  # Keras and the user's code raise anything here
        failure = error
    if failure is not None:
        described = ", ".join(f"{dtype}{list(shape)}" for dtype, shape in signature.y)
        reason = next(iter(str(failure).strip().splitlines()), type(failure).__name__)
        raise ValueError(f"rows: the model's loss and metrics do not take targets of {described} a row ({reason})")
    _checked[model].add(signature)


def results(model: Any, logs: LogSums) -> dict[str, float]:
    """The present metric results as numbers, or the logs of a custom step that are not the metrics, as Keras does."""
    measured = {name: _number(value) for name, value in private.metric_results(model).items()}
    if logs and set(logs) != set(measured):
        return {name: total / rows for name, (total, rows) in logs.items()}
    return measured


def add_logs(sums: LogSums, logs: Any, rows: int) -> None:
    """Add a batch's logs to the sums, weighted by its rows."""
    for name, value in logs.items() if isinstance(logs, Mapping) else ():
        total, count = sums.get(name, (0.0, 0.0))
        sums[name] = (total + float(np.mean(np.asarray(value))) * rows, count + rows)


def _variables(model: Any, shapes: list[tuple[int, ...]], signature: steps.Signature) -> list[Any]:
    """The model's metric variables, which must have these shapes; metrics that are not built yet are built."""
    found = local_state.metric_variables(model)
    failure: Exception | None = None
    if [tuple(variable.shape) for variable in found] != shapes:
        failure = _build(model, signature)
        found = local_state.metric_variables(model)
    if [tuple(variable.shape) for variable in found] != shapes:
        raise ValueError(
            f"states: expected metric variables of the model '{model.name}', got ones of the shapes {shapes}; "
            "merge with the model that was described"
        ) from failure
    return found


def _build(model: Any, signature: steps.Signature) -> Exception | None:
    """Build the metrics by tracing a step, which runs nothing; a model that runs eagerly evaluates a row of zeros."""
    structure = structure_of(model)
    try:
        function = steps.test_function(model, structure)
        function.prepare(signature)
        if model.run_eagerly:
            saved = local_state.read(model.variables)
            function.call(_Zeros(signature))
            local_state.assign(model.variables, saved)
    except Exception as error:  # a model with its own train_step need not be able to evaluate
        if model.run_eagerly:
            return error
        steps.train_function(model, structure).prepare(signature)
    return None


class _Zeros:
    """One row of zeros of a signature."""

    rows = 1

    def __init__(self, signature: steps.Signature) -> None:
        self.x = _empty(signature.x)
        self.y = _empty(signature.y)
        self.sample_weight = _empty(signature.sample_weight) or None


def _empty(part: steps.Part) -> tuple[Array, ...]:
    return tuple(np.zeros((1, *shape), dtype) for dtype, shape in part)


def _part(part: Any) -> steps.Part:
    return tuple((dtype, tuple(shape)) for dtype, shape in part)


def _shapes(state: MetricState) -> list[tuple[int, ...]]:
    return [array.shape for array in state[1:-1]]


def _sum(arrays: Sequence[Array]) -> Array:
    wide = np.float64 if arrays[0].dtype.kind == "f" else arrays[0].dtype
    return np.sum(arrays, axis=0, dtype=wide).astype(arrays[0].dtype)


def _number(value: Any) -> Any:
    array = np.asarray(value)
    return array.item() if array.size == 1 else array


def _model(model_or_spec: Any) -> Any:
    if not isinstance(model_or_spec, ModelSpec):
        return model_or_spec
    if model_or_spec.digest not in _rebuilt:
        _rebuilt.clear()
        _rebuilt[model_or_spec.digest] = rebuild(model_or_spec)
    return _rebuilt[model_or_spec.digest]
