"""The parameter store in one process, pushed to and read by several threads."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from elephas_fast import _core
from elephas_fast.optimizers import SGD
from elephas_fast.store import ATOMIC, Mark, ParameterStore
from tests.server.reference import Vector


def test_readers_only_ever_see_whole_pushes() -> None:
    size = 100_000
    deadline = time.monotonic() + 30.0
    problems: list[str] = []
    seen: set[int] = set()
    finished = threading.Event()
    with ParameterStore(np.zeros(size, np.float32)) as store:

        def read() -> None:
            out = np.empty(size, np.float32)
            while not finished.is_set():
                version = store.read(out, timeout=30.0)
                seen.add(version)
                if out.min() != out.max() or out[0] != -version:
                    problems.append(f"version {version}: {out.min()} to {out.max()}")

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        gradient = np.ones(size, np.float32)
        try:
            while store.version < 400 or (len(seen) < 20 and time.monotonic() < deadline):
                store.push(gradient)
        finally:
            finished.set()
            for reader in readers:
                reader.join(60)
        assert problems == []
        assert len(seen) >= 20
        assert not any(reader.is_alive() for reader in readers)
        np.testing.assert_array_equal(store.pull(), np.full(size, -store.version, np.float32))


@pytest.mark.parametrize("overtaking", [0, 1, 2, 3, 4])
def test_a_read_that_pushes_overtake_is_repeated(overtaking: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _core.copy
    attempts: list[int] = []
    with ParameterStore(np.zeros(10, np.float32)) as store:

        def interrupted(source: Vector, out: Vector) -> None:
            real(source[:5], out[:5])
            for _ in range(0 if attempts else overtaking):
                store.push(np.ones(10, np.float32))
            attempts.append(1)
            real(source[5:], out[5:])

        monkeypatch.setattr(_core, "copy", interrupted)
        out = np.empty(10, np.float32)
        version = store.read(out)
        np.testing.assert_array_equal(out, np.full(10, -version, np.float32))
        assert len(attempts) == (1 if overtaking < 2 else 2)
        assert store.version == overtaking


def test_a_read_that_is_always_overtaken_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with ParameterStore(np.zeros(4, np.float32)) as store:

        def overtaken(source: Vector, out: Vector) -> None:
            store.push(np.ones(4, np.float32))
            store.push(np.ones(4, np.float32))

        monkeypatch.setattr(_core, "copy", overtaken)
        with pytest.raises(TimeoutError, match=r"no consistent read of the weights within 0\.1 s"):
            store.read(np.empty(4, np.float32), timeout=0.1)


@pytest.mark.parametrize("access", [ATOMIC, "stripes", "compare_exchange"])
def test_no_thread_s_push_is_lost(access: str) -> None:
    size, threads, pushes = 257, 4, 300
    with ParameterStore(np.zeros(size, np.float32), access=access) as store:
        gradient = np.ones(size, np.float32)

        def push() -> None:
            for _ in range(pushes):
                store.push(gradient)

        writers = [threading.Thread(target=push) for _ in range(threads)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        assert store.version == threads * pushes
        np.testing.assert_array_equal(store.pull(), np.full(size, -threads * pushes, np.float32))


@pytest.mark.parametrize("access", ["racy", "relaxed"])
def test_lossy_hogwild_never_invents_a_value(access: str) -> None:
    size, threads, pushes = 50_000, 2, 100
    with ParameterStore(np.zeros(size, np.float32), access=access) as store:
        gradient = np.ones(size, np.float32)
        writers = [
            threading.Thread(target=lambda: [store.push(gradient) for _ in range(pushes)]) for _ in range(threads)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        weights = store.pull()
        np.testing.assert_array_equal(weights, np.round(weights))
        assert weights.min() >= -threads * pushes
        assert weights.max() <= -1
        assert store.version == threads * pushes


def test_a_snapshot_is_of_one_moment_while_others_push() -> None:
    """Each push subtracts one, so weights, version and clocks must tell the same number."""
    lines = 3
    enough = threading.Event()
    with ParameterStore(np.zeros(5000, np.float32), SGD(learning_rate=1.0), lines=lines, shared=True) as store:
        for line in range(lines):
            store.ledger.hello(line, 0)

        def push(line: int) -> None:
            clock = 0
            while not enough.is_set():
                clock += 1
                store.push(np.ones(5000, np.float32), marks=[Mark(line, 1, clock)])

        threads = [threading.Thread(target=push, args=(line,)) for line in range(lines)]
        for thread in threads:
            thread.start()
        moments = []
        for _ in range(20):
            moments.append(store.snapshot(lines))
            time.sleep(0.002)
        enough.set()
        for thread in threads:
            thread.join()
    assert len({moment.version for moment in moments}) > 2
    for moment in moments:
        assert moment.version == sum(line.clock for line in moment.lines)
        np.testing.assert_array_equal(moment.weights, -float(moment.version))
