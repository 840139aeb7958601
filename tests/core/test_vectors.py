"""Whole-vector operations against NumPy."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing import shared_memory

import numpy as np
import pytest

from elephas_fast import _core

SIZES = [0, 1, 7, 1023, 1_200_007]


def vector(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


@pytest.mark.parametrize("n", SIZES)
def test_count_nonfinite(n: int) -> None:
    x = vector(n)
    assert _core.count_nonfinite(x, threads=3) == 0
    places = sorted({0, n // 2, n - 1}) if n else []
    for place, value in zip(places, [np.nan, -np.inf, np.inf], strict=False):
        x[place] = value
    assert _core.count_nonfinite(x, threads=3) == len(places)
    assert _core.count_nonfinite(np.array([3.4e38, 1e-45, -0.0], np.float32)) == 0


@pytest.mark.parametrize("n", SIZES)
def test_sum_of_squares(n: int) -> None:
    x = vector(n)
    one = _core.sum_of_squares(x)
    assert one == pytest.approx(np.sum(x.astype(np.float64) ** 2), rel=1e-12)
    assert [_core.sum_of_squares(x, threads=t) for t in (2, 3, 4)] == [one] * 3


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_weighted_mean(n: int, count: int) -> None:
    values = [vector(n, k) for k in range(count)]
    weights = [3.0, 0.0, 1.5, 40.0, 1e-3][:count]
    out = np.full(n, np.nan, np.float32)
    _core.weighted_mean(values, weights, out)
    exact = sum(w * v.astype(np.float64) for w, v in zip(weights, values, strict=True)) / sum(weights)
    np.testing.assert_allclose(out, exact, rtol=1e-7, atol=1e-12)
    again = np.empty(n, np.float32)
    _core.weighted_mean(values, weights, again, threads=3)
    assert out.tobytes() == again.tobytes()


def test_mean_of_equal_vectors_is_that_vector() -> None:
    x, out = vector(1000), np.empty(1000, np.float32)
    _core.weighted_mean([x] * 3, [7, 11, 13], out)
    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize("n", SIZES)
def test_subtract(n: int) -> None:
    a, b = vector(n), vector(n, 1)
    out = np.empty(n, np.float32)
    assert _core.subtract(a, b, out, threads=2) == 0
    np.testing.assert_array_equal(out, a - b)
    left, right = a.copy(), b.copy()
    _core.subtract(left, b, left)
    _core.subtract(a, right, right)
    assert left.tobytes() == right.tobytes() == out.tobytes()


def test_subtract_counts_overflow_and_cancelled_infinities() -> None:
    a = np.array([3e38, np.inf, 1.0], np.float32)
    b = np.array([-3e38, np.inf, 1.0], np.float32)
    assert _core.subtract(a, b, np.empty(3, np.float32)) == 2


@pytest.mark.parametrize("n", SIZES)
def test_copy(n: int) -> None:
    x, out = vector(n), np.zeros(n, np.float32)
    _core.copy(x, out, threads=2)
    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize("access", _core.ACCESSES)
def test_blend(access: str) -> None:
    weights, values = vector(1023), vector(1023, 1) * np.float32(1e7)
    expected = weights + np.float32(0.25) * (values - weights)
    assert _core.blend(weights, values, 0.25, access) == 0
    np.testing.assert_array_equal(weights, expected)
    assert _core.blend(weights, values, 1.0, access) == 0
    np.testing.assert_array_equal(weights, values)
    values[5] = np.inf
    assert _core.blend(weights, values, 0.5, access) == 1


def test_atomic_words() -> None:
    memory = np.zeros(3, np.uint64)
    words = _core.Words(memory)
    words.store(1, 2**64 - 1)
    assert words.load(1) == 2**64 - 1
    assert words.add(1, 3) == 2**64 - 1
    assert words.add(1, -1) == 2
    assert not words.compare_exchange(1, 2, 9)
    assert words.compare_exchange(1, 1, 9)
    assert memory.tolist() == [0, 9, 0]
    assert len(words) == 3
    assert _core.Words(memoryview(bytearray(8)).cast("Q")).load(0) == 0


def test_atomic_add_from_threads() -> None:
    memory = np.zeros(1, np.uint64)
    words = _core.Words(memory)

    def add() -> None:
        for _ in range(5000):
            words.add(0, 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert memory[0] == 20_000


def _add_in_segment(name: str, times: int) -> None:
    segment = shared_memory.SharedMemory(name=name)
    words = _core.Words(segment.buf.cast("Q"))
    for _ in range(times):
        words.add(1, 1)
    del words
    segment.close()


def test_atomic_add_from_processes() -> None:
    context = multiprocessing.get_context("fork")
    segment = shared_memory.SharedMemory(create=True, size=64)
    try:
        workers = [context.Process(target=_add_in_segment, args=(segment.name, 20_000)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=60)
            assert worker.exitcode == 0
        words = segment.buf.cast("Q")
        assert words[1] == 40_000
        words.release()
    finally:
        segment.close()
        segment.unlink()
