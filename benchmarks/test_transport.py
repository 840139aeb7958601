"""`pytest benchmarks --benchmark-only`: the codec, and a push with pull on each way in, checked first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.ours.transport import check, cluster, operation
from elephas_fast.client import connect
from elephas_fast.wire import Push, decode, encode


def test_codec(benchmark: Any) -> None:
    message = Push(generation=1, clock=2, base_version=3, rows=32, outbox=False)
    vector = np.zeros(100_000, np.float32).view(np.uint8).data

    def there_and_back() -> Any:
        return decode(encode(message, [vector]))

    assert there_and_back() == (message, [vector])
    benchmark(there_and_back)


@pytest.mark.parametrize("n", [1_000, 100_000])
@pytest.mark.parametrize(("transport", "mode"), [("shm", "hogwild"), ("shm", "asynchronous"), ("tcp", "asynchronous")])
def test_push_pull(benchmark: Any, transport: str, mode: str, n: int) -> None:
    with (
        cluster(n, "SGD", mode, transport, "none") as server,
        connect(server.address, transport=transport) as client,
    ):
        check(client, n, "SGD")
        benchmark.group = f"push + pull, {n}"
        benchmark(operation(client, n, live=False))
