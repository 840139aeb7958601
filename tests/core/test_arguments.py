"""What `_core` says about wrong arguments: the argument, what was expected, what came; and nothing is written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from elephas_fast import _core
from elephas_fast._core import Kernel, Parts

N = 8


def f(n: int = N) -> np.ndarray:
    return np.ones(n, np.float32)


def frozen() -> np.ndarray:
    x = f()
    x.flags.writeable = False
    return x


def misaligned() -> np.ndarray:
    return np.zeros(4 * N + 4, np.uint8)[1 : 4 * N + 1].view(np.float32)


def overlapping() -> tuple[np.ndarray, np.ndarray]:
    x = f(N + 1)
    return x[:N], x[1:]


SHARED = f()
LEFT, RIGHT = overlapping()
sgd, momentum, adam = Kernel("sgd"), Kernel("momentum"), Kernel("adam")

BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: Kernel("lion"), ValueError, "rule: expected one of sgd, .*, got 'lion'"),
    (lambda: Kernel("sgd", "careful"), ValueError, "access: expected one of racy, relaxed, .*, got 'careful'"),
    (lambda: Kernel("sgd", isa="mmx"), ValueError, "isa: expected 'auto' or one of .*baseline.*, got 'mmx'"),
    (
        lambda: momentum([0.1], f(), (f(),), f()),
        ValueError,
        r"scalars: expected the 2 of rule 'momentum' \(learning_rate, momentum\), got 1",
    ),
    (lambda: sgd(["x"], f(), (), f()), TypeError, "must be real number, not str"),
    (lambda: momentum([0.1, 0.9], f(), (), f()), ValueError, "slots: expected 1 values, got 0"),
    (lambda: sgd([0.1], [1.0], (), f()), TypeError, "weights: expected a float32 vector, got list"),
    (lambda: sgd([0.1], None, (), f()), TypeError, "weights: expected a float32 vector, got NoneType"),
    (
        lambda: sgd([0.1], np.ones(N), (), f()),
        ValueError,
        r"weights: expected a float32 vector, got float64\[8\]",
    ),
    (lambda: sgd([0.1], f(), (), f(7)), ValueError, r"gradient: expected float32\[8\], got float32\[7\]"),
    (
        lambda: sgd([0.1], f().reshape(2, 4), (), f()),
        ValueError,
        r"weights: expected a float32 vector, got float32\[2, 4\]",
    ),
    (
        lambda: sgd([0.1], f().astype(">f4"), (), f()),
        ValueError,
        r"weights: expected a float32 vector, got >f4\[8\]",
    ),
    (lambda: sgd([0.1], f(), (), bytes(4 * N)), ValueError, r"gradient: expected float32\[8\], got .*format 'B'"),
    (
        lambda: sgd([0.1], f(), (), np.zeros(N, "datetime64[s]")),
        TypeError,
        r"gradient: expected float32\[8\], got .*dtype 'M'",
    ),
    (lambda: sgd([0.1], f(2 * N)[::2], (), f()), ValueError, "weights: expected contiguous .* stride of 8 bytes"),
    (lambda: sgd([0.1], frozen(), (), f()), ValueError, "weights: expected a writable buffer, got a read-only"),
    (lambda: sgd([0.1], misaligned(), (), f()), ValueError, "weights: expected elements aligned to 4 bytes"),
    (lambda: momentum([0.1, 0.9], f(), (f(9),), f()), ValueError, r"slots\[0\]: expected float32\[8\], got"),
    (lambda: sgd([0.1], SHARED, (), SHARED), ValueError, "weights: .* overlaps gradient"),
    (lambda: momentum([0.1, 0.9], LEFT, (RIGHT,), f()), ValueError, r"weights: .* overlaps slots\[0\]"),
    (lambda: adam([0.1] * 4, f(), (SHARED, SHARED), f()), ValueError, r"slots\[0\]: .* overlaps slots\[1\]"),
    (lambda: sgd([0.1], LEFT, (), f(), weights_out=RIGHT), ValueError, "weights_out: .* overlaps weights"),
    (lambda: sgd([0.1], f(), (), SHARED, weights_out=SHARED), ValueError, "weights_out: .* overlaps gradient"),
    (
        lambda: momentum([0.1, 0.9], f(), (SHARED,), f(), weights_out=SHARED, slots_out=(f(),)),
        ValueError,
        r"weights_out: .* overlaps slots\[0\]",
    ),
    (
        lambda: momentum([0.1, 0.9], f(), (f(),), f(), weights_out=f(), slots_out=()),
        ValueError,
        "slots_out: expected 1 values, got 0",
    ),
    (lambda: sgd([0.1], f(), (), f(), weights_out=frozen()), ValueError, "weights_out: expected a writable"),
    (
        lambda: Kernel("sgd", "relaxed")([0.1], f(), (), f(), weights_out=f()),
        ValueError,
        "weights_out: expected None with access 'relaxed'",
    ),
    (lambda: sgd([0.1], f(), (), f(), clip=0.0), ValueError, "clip: expected a number > 0, got 0.0"),
    (lambda: sgd([0.1], f(), (), f(), clip=float("nan")), ValueError, "clip: expected a number > 0, got nan"),
    (lambda: sgd([0.1], f(), (), f(), threads=0), ValueError, "threads: expected an int from 1 to 1024, got 0"),
    (lambda: sgd([0.1], f(), (), f(), threads=True), ValueError, "threads: expected an int .*, got True"),
    (lambda: sgd([0.1], f(), (), f(), begin=9), ValueError, "begin: expected an index from 0 to 8, got 9"),
    (lambda: sgd([0.1], f(), (), f(), begin=4, end=2), ValueError, "end: expected an index from 4 to 8, got 2"),
    (lambda: sgd([0.1], f(), (), f(), parts=Parts([(0, 9)])), ValueError, "at least the 9 elements of parts, got 8"),
    (lambda: sgd([0.1], f(), (), f(), scales=[1.0]), ValueError, "scales: expected None where parts is None"),
    (
        lambda: sgd([0.1], f(), (), f(), parts=Parts([(0, 8)]), scales=[]),
        ValueError,
        "scales: expected 1 values, got 0",
    ),
    (lambda: sgd([0.1], f(), (), f(), speed=3), TypeError, "speed"),
    (lambda: Parts([(4, 2)]), ValueError, r"ranges: expected ascending .* got \[4, 2\) after 0"),
    (lambda: Parts([(0, 4), (3, 5)]), ValueError, r"ranges: expected ascending .* got \[3, 5\) after 4"),
    (lambda: Parts([(0, 4)], [True, False]), ValueError, "decays: expected 1 values, got 2"),
    (lambda: Parts([(0, 9)]).sums_of_squares(f()), ValueError, "x: expected at least the 9 elements of parts"),
    (lambda: _core.count_nonfinite(np.ones(3)), ValueError, r"x: expected a float32 vector, got float64\[3\]"),
    (lambda: _core.weighted_mean([], [], f()), ValueError, "vectors: expected at least one, got none"),
    (lambda: _core.weighted_mean([f()], [1, 2], f()), ValueError, "weights: expected 1 values, got 2"),
    (lambda: _core.weighted_mean([f()], [0.0], f()), ValueError, "weights: expected finite numbers >= 0"),
    (lambda: _core.weighted_mean([f(), f()], [2, -1], f()), ValueError, "weights: expected finite numbers >= 0"),
    (lambda: _core.weighted_mean([f(7)], [1], f()), ValueError, r"vectors\[0\]: expected float32\[8\]"),
    (lambda: _core.weighted_mean([SHARED], [1], SHARED), ValueError, r"out: .* overlaps vectors\[0\]"),
    (lambda: _core.subtract(f(), LEFT, RIGHT), ValueError, "out: .* overlaps b"),
    (lambda: _core.subtract(f(), f(7), f()), ValueError, r"b: expected float32\[8\], got float32\[7\]"),
    (lambda: _core.copy(LEFT, RIGHT), ValueError, "out: .* overlaps source"),
    (lambda: _core.blend(SHARED, SHARED, 0.5), ValueError, "weights: .* overlaps values"),
    (lambda: _core.blend(f(), f(), 0.5, "slow"), ValueError, "access: expected one of"),
    (lambda: _core.non_negative(LEFT, RIGHT), ValueError, "out: .* overlaps weights"),
    (lambda: _core.bound_norms(f(), (2, 2, 3)), ValueError, r"shape: .* of 8 elements, got \(2, 2, 3\)"),
    (lambda: _core.bound_norms(f(), (1, 8, 1), minimum=2, maximum=1), ValueError, "minimum: expected a norm"),
    (lambda: _core.Words(np.zeros(3, np.uint64)).load(3), IndexError, "i: expected an index from 0 to 2, got 3"),
    (lambda: _core.Words(np.zeros(3, np.uint64)).load(-1), IndexError, "i: expected an index .*, got -1"),
    (lambda: _core.Words(np.zeros(3, np.int64)), ValueError, "words: expected a uint64 vector"),
    (lambda: _core.Words(bytes(8)), ValueError, "words: expected a uint64 vector"),
    (lambda: _core.Words(memoryview(bytes(8)).cast("Q")), ValueError, "words: .* writable"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message[:40] for _, _, message in BAD])
def test_bad_arguments(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    for buffer in (SHARED, LEFT, RIGHT):
        assert (buffer == 1).all()


def test_buffers_are_given_back_after_an_error() -> None:
    memory = bytearray(4 * N)
    with pytest.raises(ValueError, match="gradient"):
        sgd([0.1], memoryview(memory).cast("f"), (), f(7))
    memory.append(0)
    assert len(memory) == 4 * N + 1


def test_buffers_are_not_kept() -> None:
    memory = bytearray(4 * N)
    view = memoryview(memory).cast("f")
    assert sgd([0.5], view, (), f()) == 0
    assert view.tolist() == [-0.5] * N
    view.release()
    memory.append(0)
    assert len(memory) == 4 * N + 1
