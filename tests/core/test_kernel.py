"""The compiled rules themselves: access modes, output buffers, ranges, non-finite results, threads."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

from elephas_fast._core import ACCESSES, Kernel, Parts, isas, rules

SCALARS = {
    "learning_rate": 0.05,
    "momentum": 0.9,
    "rho": 0.9,
    "one_minus_rho": 0.1,
    "epsilon": 1e-2,
    "alpha": 0.05,
    "one_minus_beta_1": 0.1,
    "one_minus_beta_2": 0.001,
}


def scalars(kernel: Kernel) -> list[float]:
    return [SCALARS[name] for name in kernel.scalars]


def vectors(kernel: Kernel, n: int, seed: int = 3) -> tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]:
    rng = np.random.default_rng(seed)
    # The first slot is large enough for a centered variance to stay positive.
    slots = tuple(rng.random(n).astype(np.float32) + (1 if k else 5) for k in range(kernel.slots))
    return rng.normal(size=n).astype(np.float32), slots, rng.normal(size=n).astype(np.float32)


def state(weights: np.ndarray, slots: tuple[np.ndarray, ...]) -> list[bytes]:
    return [a.tobytes() for a in (weights, *slots)]


@pytest.mark.parametrize("rule", rules())
@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("access", ["relaxed", "compare_exchange"])
def test_one_writer_gets_the_same_bits_with_any_access(rule: str, isa: str, access: str) -> None:
    results = []
    for mode in ("racy", access):
        kernel = Kernel(rule, mode, isa)
        weights, slots, gradient = vectors(kernel, 1023)
        for _ in range(3):
            assert kernel(scalars(kernel), weights, slots, gradient, scale=0.5, clip=0.8, decay=0.01) == 0
        results.append(state(weights, slots))
    assert results[0] == results[1]


@pytest.mark.parametrize("rule", rules())
@pytest.mark.parametrize("isa", isas())
def test_out_of_place_equals_in_place(rule: str, isa: str) -> None:
    kernel = Kernel(rule, isa=isa)
    weights, slots, gradient = vectors(kernel, 1023)
    before = state(weights, slots)
    weights_out, slots_out = np.empty_like(weights), tuple(np.empty_like(s) for s in slots)
    kernel(scalars(kernel), weights, slots, gradient, weights_out=weights_out, slots_out=slots_out)
    assert state(weights, slots) == before
    kernel(scalars(kernel), weights, slots, gradient)
    assert state(weights, slots) == state(weights_out, slots_out)


@pytest.mark.parametrize("isa", isas())
def test_the_reciprocal_of_every_significand_is_right_to_a_unit_in_the_last_place(isa: str) -> None:
    """Adam from w = 0 with m' = g = 1 and an untouched v = d^2 leaves -1 / d: sqrt(d^2) is d in binary arithmetic."""
    kernel = Kernel("adam", isa=isa)
    for exponent in (0, 1, 62, -62):
        for half in range(2):
            bits = np.arange(half << 22, (half + 1) << 22, dtype=np.uint32) | np.uint32(0x3F800000)
            divisors = np.ldexp(bits.view(np.float32), exponent)
            weights, ones = np.zeros_like(divisors), np.ones_like(divisors)
            slots = (np.zeros_like(divisors), divisors * divisors)
            assert kernel([1.0, 1.0, 0.0, 0.0], weights, slots, ones) == 0
            exact = -1 / divisors.astype(np.float64)
            units = np.spacing(np.abs(exact).astype(np.float32))
            assert np.max(np.abs(weights - exact) / units) < 0.75


@pytest.mark.parametrize("isa", isas())
def test_the_inverse_root_of_every_significand_is_right_to_a_unit_in_the_last_place(isa: str) -> None:
    """Adagrad from w = 0 with lr g = 1 and g^2 too small to change an accumulator a leaves -1 / sqrt(a)."""
    kernel = Kernel("adagrad", isa=isa)
    for exponent in (0, 1, 60, -41):
        for half in range(2):
            bits = np.arange(half << 22, (half + 1) << 22, dtype=np.uint32) | np.uint32(0x3F800000)
            accumulator = np.ldexp(bits.view(np.float32), exponent)
            weights, gradient = np.zeros_like(accumulator), np.full_like(accumulator, 2.0**-40)
            assert kernel([2.0**40, 0.0], weights, (accumulator,), gradient) == 0
            np.testing.assert_array_equal(accumulator, np.ldexp(bits.view(np.float32), exponent))
            exact = -1 / np.sqrt(accumulator.astype(np.float64))
            units = np.spacing(np.abs(exact).astype(np.float32))
            assert np.max(np.abs(weights - exact) / units) < 1.5


@pytest.mark.parametrize("isa", isas())
def test_an_inverse_root_of_zero_and_beyond_is_the_exact_one(isa: str) -> None:
    kernel = Kernel("adagrad", isa=isa)
    values = np.array([0.0, np.inf, np.nan, -1.0, 1e-45, 4.0, 3.4e38] * 19, np.float32)
    weights, gradient = np.zeros_like(values), np.full_like(values, 1e-30)
    bad = kernel([1.0, 0.0], weights, (values.copy(),), gradient)
    with np.errstate(all="ignore"):
        exact = np.float32(0) - gradient * (1 / np.sqrt(values))
    np.testing.assert_allclose(weights, exact, rtol=2e-7)
    assert bad == 4 * 19


# In AVX-512 these divide by way of an estimate.
ESTIMATING = tuple(rule for rule in rules() if rule.startswith(("rmsprop", "adagrad", "adam")))


@pytest.mark.parametrize("rule", rules())
@pytest.mark.parametrize("epsilon", [0.0, 1e-30, 1e-7])
def test_all_instruction_sets_give_the_same_bits_for_any_floats(rule: str, epsilon: float) -> None:
    rng = np.random.default_rng(11)
    n = 100_003
    zeros = rng.random((6, n)) < 0.02
    random = np.where(zeros, rng.integers(0, 2, (6, n)) << 31, rng.integers(0, 1 << 32, (6, n))).astype(np.uint32)
    ordinary = rng.random(n) < 0.5
    random[:, ordinary] = random[:, ordinary] & 0x8FFFFFFF | 0x30000000
    results = []
    for isa in isas():
        kernel = Kernel(rule, isa=isa)
        weights, gradient, *slots = (row.view(np.float32).copy() for row in random[: kernel.slots + 2])
        numbers = [epsilon if name == "epsilon" else SCALARS[name] for name in kernel.scalars]
        bad = kernel(numbers, weights, slots, gradient)
        for values in (weights, *slots):
            values[np.isnan(values)] = np.nan
        results.append((bad, [weights, *slots]))
        moved = [random[0], random[3]] if "momentum" in rule else [random[0]]
        assert 0 < bad < n
    bad, values = results[0]
    magnitude = np.abs([row.view(np.float32) for row in moved]).max(0)
    for other_bad, others in results[1:]:
        assert other_bad == bad
        for one, other in zip(values, others, strict=True):
            if rule in ESTIMATING:
                with np.errstate(invalid="ignore", over="ignore"):
                    apart = np.abs(one - other) / np.spacing(np.fmax(magnitude, np.abs(other)))
                np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
                assert np.nanmax(apart) <= 4
            else:
                assert one.tobytes() == other.tobytes()


def test_only_the_weights_out_of_place() -> None:
    kernel = Kernel("momentum")
    weights, slots, gradient = vectors(kernel, 50)
    expected_weights, expected_slots = weights.copy(), tuple(s.copy() for s in slots)
    kernel(scalars(kernel), expected_weights, expected_slots, gradient)
    out = np.empty_like(weights)
    kernel(scalars(kernel), weights, slots, gradient, weights_out=out, slots_out=slots)
    assert state(out, slots) == state(expected_weights, expected_slots)


@pytest.mark.parametrize("rule", rules())
def test_threads_do_not_change_the_bits(rule: str) -> None:
    results = []
    for threads in (1, 2, 3, 7):
        kernel = Kernel(rule)
        weights, slots, gradient = vectors(kernel, 2_000_003)
        assert kernel(scalars(kernel), weights, slots, gradient, threads=threads) == 0
        results.append(state(weights, slots))
    assert all(result == results[0] for result in results)


def test_four_threads_lose_nothing_through_compare_exchange() -> None:
    kernel = Kernel("sgd", "compare_exchange")
    n, pushes = 4099, 60
    weights = np.zeros(n, np.float32)
    gradients = [np.random.default_rng(k).integers(-50, 50, n).astype(np.float32) for k in range(4)]
    start = threading.Barrier(4)

    def push(gradient: np.ndarray) -> None:
        start.wait(timeout=30)
        for _ in range(pushes):
            kernel([1.0], weights, (), gradient)

    writers = [threading.Thread(target=push, args=(g,)) for g in gradients]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
        assert not writer.is_alive()
    np.testing.assert_array_equal(weights, -pushes * np.sum(gradients, axis=0))


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("rule", rules())
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_counts_elements_with_non_finite_results(rule: str, access: str, value: float) -> None:
    kernel = Kernel(rule, access)
    weights, slots, gradient = vectors(kernel, 5000)
    gradient[[0, 17, 2047, 2048, 4999]] = value
    assert kernel(scalars(kernel), weights, slots, gradient, threads=2) == 5
    assert np.isfinite(weights[1:17]).all()


def test_counts_overflow_in_a_slot_that_leaves_the_weight_finite() -> None:
    kernel = Kernel("adam")
    weights, slots, gradient = vectors(kernel, 100)
    gradient[3] = 1e30
    assert kernel(scalars(kernel), weights, slots, gradient) == 1
    assert np.isfinite(weights).all()
    assert np.isinf(slots[1][3])


def test_gradient_is_scaled_then_clipped_and_weights_decay_first() -> None:
    weights = np.array([1.0, -2.0, 4.0], np.float32)
    Kernel("sgd")([0.5], weights, (), np.array([1.0, -8.0, 0.25], np.float32), scale=2.0, clip=3.0, decay=0.25)
    np.testing.assert_array_equal(weights, np.array([0.75 - 1.0, -1.5 + 1.5, 3.0 - 0.25], np.float32))


def test_range_leaves_the_rest_alone() -> None:
    kernel = Kernel("adam")
    whole, slots, gradient = vectors(kernel, 301)
    weights, own = whole.copy(), tuple(s.copy() for s in slots)
    kernel(scalars(kernel), weights, own, gradient, begin=16, end=123)
    untouched = np.r_[0:16, 123:301]
    np.testing.assert_array_equal(weights[untouched], whole[untouched])
    kernel(scalars(kernel), weights, own, gradient, begin=0, end=16)
    kernel(scalars(kernel), weights, own, gradient, begin=123)
    kernel(scalars(kernel), whole, slots, gradient)
    assert state(weights, own) == state(whole, slots)


@pytest.mark.parametrize("threads", [1, 3])
def test_parts_have_their_own_scale_and_decay(threads: int) -> None:
    n = 1_000_000
    parts = Parts([(0, 10), (16, 400_000), (400_000, n - 5)], decays=[True, False, True])
    assert (len(parts), parts.end) == (3, n - 5)
    weights, gradient = np.ones(n, np.float32), np.ones(n, np.float32)
    gradient[10:16] = np.nan
    bad = Kernel("sgd")(
        [1.0], weights, (), gradient, parts=parts, scale=2.0, scales=[1.0, 2.0, 4.0], decay=0.5, threads=threads
    )
    assert bad == 0
    expected = np.ones(n, np.float32)
    expected[0:10] = 0.5 - 2
    expected[16:400_000] = 1 - 4
    expected[400_000 : n - 5] = 0.5 - 8
    np.testing.assert_array_equal(weights, expected)


def test_sums_of_squares_of_parts() -> None:
    x = np.arange(100, dtype=np.float32)
    sums = Parts([(3, 10), (10, 10), (50, 100)]).sums_of_squares(x)
    assert sums == [float(np.sum(x[3:10] ** 2)), 0.0, float(np.sum(x[50:] ** 2))]


def test_kernel_describes_itself_and_pickles() -> None:
    kernel = pickle.loads(pickle.dumps(Kernel("adam_amsgrad", "relaxed", "baseline")))
    assert (kernel.rule, kernel.access, kernel.isa, kernel.slots) == ("adam_amsgrad", "relaxed", "baseline", 3)
    assert Kernel("sgd").isa == isas()[0]
    assert isas()[-1] == "baseline"
    assert {name: Kernel(name).scalars for name in rules()} == rules()


def test_the_gil_is_released() -> None:
    kernel = Kernel("adam")
    weights, slots, gradient = vectors(kernel, 8_000_000)
    progress, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            progress[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    try:
        before = progress[0]
        for _ in range(50):  # another process may have the second core for a while
            kernel(scalars(kernel), weights, slots, gradient)
            moved = progress[0] - before
            if moved > 100:
                break
    finally:
        stop.set()
        counter.join(timeout=10)
    assert moved > 100
