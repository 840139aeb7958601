"""`pytest benchmarks --benchmark-only`: a fit of 10,000 rows on local[2] in each mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks.data import write
from benchmarks.ours.fit import Session


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    path = tmp_path_factory.mktemp("rows") / "rows.npz"
    write(path, 10_000)
    opened = Session()
    opened.open(str(path), workers=2)
    yield opened
    opened.context.stop()


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
def test_fit(benchmark: Any, session: Session, mode: str) -> None:
    found: list[float] = []

    def fit() -> None:
        share = 0.5 if mode != "synchronous" else 1.0
        found.append(session.fit(mode, "epoch", 2, 32, [64], share=share)["accuracy"])

    benchmark.group = "fit"
    benchmark.pedantic(fit, rounds=3, warmup_rounds=1)
    assert np.mean(found) > 0.5
