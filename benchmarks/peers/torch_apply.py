"""PyTorch's CPU optimizers, `fused=True` and `foreach=True`, one parameter of n floats. Runs in its
environment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # type: ignore[import-not-found]

from benchmarks.conversation import serve
from benchmarks.loops import loop
from benchmarks.rules import problem, sample

OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"lr": 0.01}),
    "momentum": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
    "RMSprop": (torch.optim.RMSprop, {"lr": 0.001, "alpha": 0.9, "eps": 1e-7}),
    "Adagrad": (torch.optim.Adagrad, {"lr": 0.001, "initial_accumulator_value": 0.1, "eps": 1e-7}),
    "Adadelta": (torch.optim.Adadelta, {"lr": 0.001, "rho": 0.95, "eps": 1e-7}),
    "Adam": (torch.optim.Adam, {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-7}),
}


def set_threads(threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    return {}


def prepare(rule: str, n: int, kind: str) -> tuple[Any, Callable[[], object]]:
    weights, gradient = problem(n)
    parameter = torch.nn.Parameter(torch.from_numpy(weights))
    parameter.grad = torch.from_numpy(gradient)
    constructor, arguments = OPTIMIZERS[rule]
    return parameter, constructor([parameter], **arguments, **{kind: True}).step


def after(rule: str, n: int, steps: int, kind: str) -> dict[str, Any]:
    """A sample of the weights after `steps` applications; not every rule adds epsilon where Keras does."""
    parameter, step = prepare(rule, n, kind)
    for _ in range(steps):
        step()
    return {"weights": sample(parameter.detach().numpy())}


def measure(rule: str, n: int, seconds: float, kind: str) -> dict[str, Any]:
    """Seconds of each application; kind: 'fused' or 'foreach'."""
    _, step = prepare(rule, n, kind)
    for _ in range(3):
        step()
    return {"seconds": loop(step, seconds, least=3)}


if __name__ == "__main__":
    serve({"set_threads": set_threads, "after": after, "measure": measure})
