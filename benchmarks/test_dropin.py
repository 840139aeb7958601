"""`pytest benchmarks --benchmark-only`: the script of the drop-in suite on 5,000 rows, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.data import write

FEW_ROWS = 5_000


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    from elephas_fast import install_as_elephas

    install_as_elephas()
    from benchmarks.peers.dropin import Session

    folder = tmp_path_factory.mktemp("dropin")
    data = str(folder / "rows.npz")
    write(Path(data), FEW_ROWS)
    session = Session()
    session.open(data, workers=2)
    session.write(data, str(folder))
    yield session, folder
    session.spark.stop()


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous"])
def test_fit(benchmark: Any, opened: tuple[Any, Path], mode: str) -> None:
    session, _ = opened
    benchmark.group = "drop-in: fit, 1 epoch"
    found = benchmark.pedantic(session.fit, (mode, 1), rounds=2, warmup_rounds=1)
    assert found["accuracy"] > 0.5


def test_fit_estimator(benchmark: Any, opened: tuple[Any, Path]) -> None:
    session, folder = opened
    benchmark.group = "drop-in: fit, 1 epoch"
    found = benchmark.pedantic(session.fit_estimator, (str(folder), 1), rounds=2, warmup_rounds=1)
    assert found["accuracy"] > 0.5


@pytest.mark.parametrize("source", ["rdd", "array"])
def test_predict(benchmark: Any, opened: tuple[Any, Path], source: str) -> None:
    session, folder = opened
    outputs = folder / f"{source}.npy"
    benchmark.group = "drop-in: inference"
    benchmark.pedantic(session.predict, (source, str(folder), str(outputs)), rounds=2, warmup_rounds=1)
    assert np.load(outputs).shape == (FEW_ROWS, 10)


def test_transform(benchmark: Any, opened: tuple[Any, Path]) -> None:
    session, folder = opened
    outputs = folder / "transform.npy"
    benchmark.group = "drop-in: inference"
    benchmark.pedantic(session.transform, (str(folder), str(outputs)), rounds=2, warmup_rounds=1)
    assert np.load(outputs).shape == (len(session.rows.x_test), 10)
