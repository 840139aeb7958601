"""elephas_fast's parameter server and client: push + pull of one vector of n floats, through the public API
only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.conversation import serve
from benchmarks.loops import clients_at_once, loop
from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.layout import Layout
from elephas_fast.optimizers import SGD, Adam, FlatOptimizer, Optimizer

OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "SGD": lambda: SGD(learning_rate=1.0),
    "Adam": lambda: Adam(learning_rate=0.001),
}


def check(client: Any, n: int, optimizer: str) -> None:
    """One push of a known gradient to zeros, then a pull: what the rule says after its first step."""
    gradient = np.linspace(-1.0, 1.0, n, dtype=np.float32)
    pulled = np.empty(n, np.float32)
    client.exchange(gradient, pulled, np.empty(0, np.uint8))
    epsilon = 1e-7 / np.sqrt(1.0 - 0.999)  # Keras adds epsilon before the bias correction of the second moment
    expected = -gradient if optimizer == "SGD" else -0.001 * gradient / (np.abs(gradient) + epsilon)
    np.testing.assert_array_equal(pulled, client.pull())
    np.testing.assert_allclose(pulled, expected, rtol=2e-4, atol=1e-7)


def operation(client: Any, n: int, live: bool) -> Callable[[], object]:
    """A push and a pull: into the client's own memory, or none at all where the weights are `live`, as a worker of a
    hogwild fit has them.
    """
    gradient, opaque = np.full(n, 1e-6, np.float32), np.empty(0, np.uint8)
    if live and client.shared_weights is None:
        raise AssertionError("live weights: expected them in the server's memory, got none")
    out = None if live else np.empty(n, np.float32)
    return lambda: client.exchange(gradient, out, opaque)


def cluster(n: int, optimizer: str, mode: str, transport: str, security: str) -> Any:
    rule = OPTIMIZERS[optimizer]()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "security: 'none'")
        return ParameterCluster(
            np.zeros(n, np.float32), optimizer=rule, mode=mode, transport=transport, security=security
        )


def measure(
    n: int, seconds: float, transport: str, optimizer: str, mode: str, live: bool = False, security: str = "none"
) -> dict[str, Any]:
    """Seconds of each push with pull, one client; both return when done. Not encrypted, as the peers are not, unless
    ``security`` says so."""
    server = cluster(n, optimizer, mode, transport, security)
    with server, connect(server.address, transport=transport) as client:
        check(client, n, optimizer)
        push_pull = operation(client, n, live)
        for _ in range(3):
            push_pull()
        return {"seconds": loop(push_pull, seconds)}


def make_client(n: int, address: Any, transport: str, live: bool) -> Callable[[], object]:
    return operation(connect(address, transport=transport), n, live)


def throughput(
    n: int, clients: int, seconds: float, transport: str, optimizer: str, mode: str, live: bool = False
) -> dict[str, Any]:
    """Pushes with pull per second of each of `clients` processes at once."""
    with cluster(n, optimizer, mode, transport, "none") as server:
        arguments = (n, server.address, transport, live)
        return {"rates": clients_at_once(make_client, arguments, clients, seconds, method="spawn")}


def bare(n: int, seconds: float, optimizer: str) -> dict[str, Any]:
    """Seconds of the optimizer kernel in private memory, one thread, and a copy of the weights: no transport
    at all.
    """
    flat = FlatOptimizer(OPTIMIZERS[optimizer](), Layout.vector(n))
    weights, gradient, out = np.zeros(n, np.float32), np.full(n, 1e-6, np.float32), np.zeros(n, np.float32)
    slots = flat.initial_slots(None)
    step = iter(range(1 << 62))

    def apply_and_copy() -> None:
        flat.apply(next(step), weights, slots, gradient)
        np.copyto(out, weights)

    for _ in range(3):
        apply_and_copy()
    return {"seconds": loop(apply_and_copy, seconds)}


if __name__ == "__main__":
    serve({"measure": measure, "throughput": throughput, "bare": bare})
