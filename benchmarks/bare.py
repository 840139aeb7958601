"""Builds and calls `bare.c`: what memory or cache allows, for any kernel that moves the same bytes."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers.install import folder

SOURCE = Path(__file__).resolve().parent / "bare.c"
FLAGS = ("-O3", "-march=native", "-funroll-loops", "-fopenmp", "-shared", "-fPIC")


def _library() -> ctypes.CDLL:
    built = folder() / "bare.so"
    if not built.exists() or built.stat().st_mtime < SOURCE.stat().st_mtime:
        built.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([os.environ.get("CC", "cc"), *FLAGS, str(SOURCE), "-o", str(built)], check=True)
    return ctypes.CDLL(str(built))


def bare_loop(
    weights: np.ndarray, slots: Sequence[np.ndarray], gradients: Sequence[np.ndarray], threads: int
) -> Callable[[], object]:
    """A call that reads and writes float32[n] weights and 0 to 2 slots, and reads one gradient.

    With 2 slots the gradient may be int16[n], or there may be four float32 ones.
    """
    kind = "_four" if len(gradients) == 4 else "_half" if gradients[0].itemsize == 2 else ""
    function = getattr(_library(), f"bare_{len(slots)}{kind}")
    function.restype = None
    arrays = (weights, *slots, *gradients)
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    count, wide = ctypes.c_size_t(len(weights)), ctypes.c_int(threads)

    def run(_owners: tuple[np.ndarray, ...] = arrays) -> None:
        function(*addresses, count, wide)

    return run
