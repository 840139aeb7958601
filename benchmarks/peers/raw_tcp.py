"""The limit of a TCP transport: bare sockets on loopback, no arithmetic, buffers allocated once.

A push sends 4 n bytes and waits for one byte; a pull sends one byte and receives the 4 n bytes last pushed. An exchange
does both in one turn: it sends 4 n bytes and receives them.
"""

from __future__ import annotations

import multiprocessing
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.conversation import serve
from benchmarks.loops import clients_at_once, loop

HOST = "127.0.0.1"


def receive(sock: socket.socket, buffer: memoryview) -> bool:
    """Fills `buffer` from `sock`; False if the other side has closed."""
    got = 0
    while got < len(buffer):
        count = sock.recv_into(buffer[got:])
        if not count:
            return False
        got += count
    return True


def answer(sock: socket.socket, n: int) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    vector = memoryview(bytearray(4 * n))
    call = memoryview(bytearray(1))
    while receive(sock, call):
        if call[0] == ord("u"):
            if not receive(sock, vector):
                return
            sock.sendall(b"k")
        else:
            if call[0] == ord("x") and not receive(sock, vector):
                return
            sock.sendall(vector)


def listen(n: int, line: Any) -> None:
    listener = socket.create_server((HOST, 0))
    line.send(listener.getsockname()[1])
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0], n), daemon=True).start()


@contextmanager
def running(n: int) -> Iterator[int]:
    context: Any = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=listen, args=(n, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(30):
            raise TimeoutError("the raw server was not listening after 30 s")
        yield ours.recv()
    finally:
        process.kill()
        process.join()


class Client:
    """One connection; `push_pull` and `exchange` fill `pulled`."""

    def __init__(self, n: int, port: int):
        self.sock = socket.create_connection((HOST, port), 60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.vector = np.linspace(-1.0, 1.0, n, dtype=np.float32)
        self.pulled = np.empty(n, np.float32)
        self._call = memoryview(bytearray(1))

    def push_pull(self) -> None:
        self.sock.sendall(b"u")
        self.sock.sendall(self.vector.view(np.uint8).data)
        received = receive(self.sock, self._call)
        self.sock.sendall(b"g")
        if not received or not receive(self.sock, self.pulled.view(np.uint8).data):
            raise ConnectionError("the raw server closed the connection")

    def exchange(self) -> None:
        self.sock.sendall(b"x")
        self.sock.sendall(self.vector.view(np.uint8).data)
        if not receive(self.sock, self.pulled.view(np.uint8).data):
            raise ConnectionError("the raw server closed the connection")


def measure(n: int, seconds: float, turns: int = 2) -> dict[str, Any]:
    """Seconds of each push with pull, one client, in two turns or in one."""
    with running(n) as port:
        client = Client(n, port)
        operation = client.push_pull if turns == 2 else client.exchange
        for _ in range(3):
            operation()
        if not np.array_equal(client.pulled, client.vector):
            raise AssertionError("pull after push: expected the pushed vector, got something else")
        return {"seconds": loop(operation, seconds)}


def make_client(n: int, port: int) -> Any:
    return Client(n, port).push_pull


def throughput(n: int, clients: int, seconds: float) -> dict[str, Any]:
    """Pushes with pull per second of each of `clients` processes at once."""
    with running(n) as port:
        return {"rates": clients_at_once(make_client, (n, port), clients, seconds, method="spawn")}


if __name__ == "__main__":
    serve({"measure": measure, "throughput": throughput})
