"""`pytest benchmarks --benchmark-only`: one push into shared memory with each kind of access, nobody else writing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.ours.writers import Board, make_kernel_writer
from elephas_fast import _core


@pytest.mark.parametrize("n", [100_000, 1_000_000])
@pytest.mark.parametrize(
    ("access", "stripe"), [("racy", _core.STRIPE), ("racy", 0), ("relaxed", 0), ("compare_exchange", 0)],
    ids=["stripes", "racy", "relaxed", "compare_exchange"],
)  # fmt: skip
def test_push(benchmark: Any, access: str, stripe: int, n: int) -> None:
    board = Board(n, stripe)
    push = make_kernel_writer(board, access)
    benchmark.group = f"push, {n}"
    benchmark(push)
    np.testing.assert_array_equal(board.weights, np.full(n, -float(board.words.load(1)), np.float32))
