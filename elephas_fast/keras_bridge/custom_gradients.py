"""Gradients that TensorFlow keeps for good, and with them every model that was ever traced.

``tf.custom_gradient``, which the traced training and test steps of a Keras classifier contain, registers a function
under a new name each time it is traced. The function holds the graph it was traced in, the registry holds the function,
and nothing ever leaves the registry: a process that trains one model after the other grows by megabytes with each.
"""

from __future__ import annotations

import threading
import weakref
from types import FunctionType
from typing import Any

_lock = threading.Lock()


def release() -> int:
    """Let each of these functions live as long as its graph, which from now on holds it instead of the registry. Frees
    nothing by itself; the garbage collector does, where the graph is of no use any more. Returns how many it found.

    A function whose graph is not found, as in a TensorFlow that builds them otherwise, stays as it is. Thread-safe.
    """
    from tensorflow.python.framework.ops import gradient_registry

    registry: dict[str, dict[str, Any]] = getattr(gradient_registry, "_registry", {})
    found = 0
    with _lock:
        for name, entry in list(registry.items()):
            function = entry.get("type")
            graph = _graph_of(function) if name.startswith("CustomGradient-") else None
            if graph is None:
                continue
            graph._elephas_fast_gradients = [*getattr(graph, "_elephas_fast_gradients", ()), function]
            entry["type"] = weakref.proxy(function)
            weakref.finalize(function, registry.pop, name, None)
            found += 1
    return found


def _graph_of(function: Any) -> Any | None:
    """The graph of a tensor that the function's closure reaches by functions, lists and tuples."""
    from tensorflow.python.framework.func_graph import FuncGraph

    if type(function) is not FunctionType:  # a proxy, which an earlier call has left
        return None
    reached: list[Any] = [function]
    known = {id(function)}
    for value in reached:
        if isinstance(value, FunctionType):
            inside = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        elif isinstance(value, list | tuple):
            inside = list(value)
        else:
            graph = getattr(value, "graph", None)
            if isinstance(graph, FuncGraph):
                return graph
            continue
        reached += [item for item in inside if id(item) not in known]
        known.update(map(id, inside))
    return None


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
