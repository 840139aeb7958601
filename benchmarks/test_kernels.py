"""`pytest benchmarks --benchmark-only`: each optimizer's application to one vector, checked against NumPy
first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.ours.kernels import Memory, prepare
from benchmarks.rules import RULES


@pytest.mark.parametrize("n", [100_000, 1_000_000])
@pytest.mark.parametrize("rule", RULES)
def test_apply(benchmark: Any, rule: str, n: int) -> None:
    weights, apply = prepare("ours", Memory(), rule, n, 1)
    expected, numpy_apply = prepare("numpy", Memory(), rule, n, 1)
    for _ in range(3):
        apply()
        numpy_apply()
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6)
    benchmark.group = f"apply {rule}, {n}"
    benchmark(apply)
