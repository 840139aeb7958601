"""What pyzmq gives without thought: DEALER and ROUTER, one message for a push and one for a pull, default options."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import zmq

from benchmarks.conversation import serve
from benchmarks.loops import loop


def answer(n: int, line: Any) -> None:
    socket = zmq.Context().socket(zmq.ROUTER)
    line.send(socket.bind_to_random_port("tcp://127.0.0.1"))
    weights = np.zeros(n, np.float32)
    while True:
        peer, call, *rest = socket.recv_multipart()
        if call == b"u":
            weights -= np.frombuffer(rest[0], np.float32)
            socket.send_multipart([peer, b"k"])
        else:
            socket.send_multipart([peer, weights.data])


@contextmanager
def running(n: int) -> Iterator[int]:
    context: Any = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=answer, args=(n, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(30):
            raise TimeoutError("the pyzmq server was not listening after 30 s")
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def measure(n: int, seconds: float) -> dict[str, Any]:
    """Seconds of each push with pull, one client."""
    with running(n) as port, zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(f"tcp://127.0.0.1:{port}")
        gradient, pulled = np.linspace(-1.0, 1.0, n, dtype=np.float32), np.empty(n, np.float32)

        def push_pull() -> None:
            socket.send_multipart([b"u", gradient.data])
            socket.recv()
            socket.send(b"g")
            pulled[:] = np.frombuffer(socket.recv(), np.float32)

        push_pull()
        if not np.array_equal(pulled, -gradient):
            raise AssertionError("pull after push: expected the gradient subtracted once, got something else")
        for _ in range(2):
            push_pull()
        return {"seconds": loop(push_pull, seconds)}


if __name__ == "__main__":
    serve({"measure": measure})
