"""Elephas 7.3.0's own parameter servers and clients on loopback, one weight of n floats. Runs in its
environment.

A block starts a fresh server, checks a push and a pull, times pairs of them, stops the server. Fresh, because
SocketServer keeps one spinning thread for each connection it ever had: this shows it at its best, and leaves
the processors idle for whoever is measured next. HttpServer forks its own Flask process, as in a fit;
SocketServer, a thread of the Spark driver in a fit, gets a process here, since the clients of a fit are other
processes too.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"

import numpy as np
from elephas.parameter import (  # type: ignore[import-not-found]
    HttpClient,
    HttpServer,
    SocketClient,
    SocketServer,
)
from elephas.utils.serialization import model_to_dict  # type: ignore[import-not-found]
from tensorflow.keras import Input, Sequential
from tensorflow.keras.layers import Dense

from benchmarks.conversation import serve
from benchmarks.loops import clients_at_once, loop
from benchmarks.peers.task import free_port

CLIENTS = {"http": HttpClient, "socket": SocketClient}


def vector_model(n: int) -> Any:
    """A serialized Keras model with one weight of shape (1, n), all zeros."""
    return model_to_dict(Sequential([Input((1,)), Dense(n, use_bias=False, kernel_initializer="zeros")]))


def hold_socket_server(n: int, mode: str, port: int, line: Any) -> None:
    server = SocketServer(vector_model(n), port, mode)
    server.start()
    line.send("listening")
    line.recv()
    server.runs = False
    os._exit(0)  # its threads never end by themselves: recv on a closed connection spins


@contextmanager
def running(kind: str, n: int, mode: str) -> Iterator[int]:
    """A started server of `kind` ('http', 'socket'); yields its port."""
    port = free_port()
    if kind == "http":
        server = HttpServer(vector_model(n), port, mode)
        server.start()
        try:
            yield port
        finally:
            server.stop()
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold_socket_server, args=(n, mode, port, theirs))
    process.start()
    try:
        if not ours.poll(60):
            raise TimeoutError("SocketServer was not listening after 60 s")
        ours.recv()
        yield port
    finally:
        ours.send("stop")
        process.join(5)
        process.kill()
        process.join()


def check(client: Any, n: int) -> None:
    """One push of a known delta, then a pull: the server subtracts it from zeros."""
    delta = np.linspace(-1.0, 1.0, n, dtype=np.float32).reshape(1, n)
    client.update_parameters([delta])
    pushed = time.monotonic()
    while not np.array_equal(client.get_parameters()[0], -delta):
        # SocketClient.update_parameters returns before the server has applied it
        if time.monotonic() - pushed > 10:
            raise AssertionError("pull after push: expected the pushed delta subtracted, got something else")


def make_client(kind: str, n: int, port: int) -> Any:
    client = CLIENTS[kind](port)
    delta = [np.full((1, n), 1e-6, np.float32)]

    def push_pull() -> None:
        client.update_parameters(delta)
        client.get_parameters()

    return push_pull


def measure(kind: str, n: int, seconds: float, mode: str = "asynchronous") -> dict[str, Any]:
    """Seconds of each push with pull, one client."""
    with running(kind, n, mode) as port:
        check(CLIENTS[kind](port), n)
        return {"seconds": loop(make_client(kind, n, port), seconds)}


def throughput(kind: str, n: int, clients: int, seconds: float, mode: str = "asynchronous") -> dict[str, Any]:
    """Pushes with pull per second of each of `clients` processes at once."""
    with running(kind, n, mode) as port:
        return {"rates": clients_at_once(make_client, (kind, n, port), clients, seconds, method="fork")}


def versions() -> dict[str, Any]:
    from importlib.metadata import version

    return {name: version(name) for name in ("elephas", "tensorflow", "keras", "pyspark", "numpy", "flask")}


if __name__ == "__main__":
    serve({"measure": measure, "throughput": throughput, "versions": versions})
