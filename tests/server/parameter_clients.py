"""What processes of the parameter API's tests run. Keras is not needed for it, and not imported."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from elephas_fast.parameter import BaseParameterClient, HttpClient
from elephas_fast.transport import Address


def push_ones(port: int, times: int) -> list[float]:
    """Subtract ones so many times; the first element as it was seen after each."""
    seen = []
    with HttpClient(port) as client:
        for _ in range(times):
            client.update_parameters([np.ones_like(w) for w in client.get_parameters()])
            seen.append(float(client.get_parameters()[0].flat[0]))
    assert "tensorflow" not in sys.modules
    return seen


def take(client: BaseParameterClient) -> list[Any]:
    """The weights, by a client that has been pickled."""
    return client.get_parameters()


def take_by(address: Address) -> list[Any]:
    """The weights, by a client that is given the address."""
    return HttpClient(address=address).get_parameters()


def as_another_user(port: int, user: int) -> str:
    """What a client run by another user comes to."""
    pid_out, pid_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setuid(user)
        try:
            HttpClient(port).get_parameters()
            text = "let in"
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        os.write(pid_in, text.encode())
        os._exit(0)
    os.close(pid_in)
    os.waitpid(pid, 0)
    with os.fdopen(pid_out) as file:
        return file.read()
