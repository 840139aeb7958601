"""Several gradients in one pass give the bits of a pass each: queued pushes, means, bfloat16 gradients."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from elephas_fast._core import Kernel, Parts, PushKernel, decode_bfloat16, encode_bfloat16, isas, rules, weighted_mean

from .test_kernel import scalars, state, vectors

SIZES = [1, 63, 1023, 5000]


def gradients_for(count: int, n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=n).astype(np.float32) for _ in range(count)]


def halves_of(x: np.ndarray) -> np.ndarray:
    out = np.empty(len(x), np.uint16)
    encode_bfloat16(x, out)
    return out


@pytest.mark.parametrize("rule", rules())
@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("options", [{}, {"clip": 0.7}])
def test_queued_pushes_equal_passes_of_their_own(rule: str, isa: str, options: dict[str, float]) -> None:
    kernel, queue = Kernel(rule, isa=isa), PushKernel(rule, isa=isa)
    for n in SIZES:
        for count in (1, 2, 5):
            gradients = gradients_for(count, n)
            numbers = [[x * (1 + k) / 8 for x in scalars(kernel)] for k in range(count)]
            scales, decays = [1.0, 0.5, 0.25, 2.0, 1.0][:count], [0.01 * k for k in range(count)]
            weights, slots, _ = vectors(kernel, n)
            for k in range(count):
                kernel(numbers[k], weights, slots, gradients[k], scale=scales[k], decay=decays[k], **options)
            other, other_slots, _ = vectors(kernel, n)
            bad = queue.each(numbers, other, other_slots, gradients, scales=scales, decays=decays, **options)
            assert bad == 0
            assert state(weights, slots) == state(other, other_slots)


@pytest.mark.parametrize("rule", rules())
@pytest.mark.parametrize("isa", isas())
def test_a_mean_in_the_pass_equals_one_made_before(rule: str, isa: str) -> None:
    kernel, fused = Kernel(rule, isa=isa), PushKernel(rule, isa=isa)
    for n in SIZES:
        for shares in ([1.0], [3.0, 1.0], [0.0, 2.0, 5.0]):
            gradients = gradients_for(len(shares), n)
            mean = np.empty(n, np.float32)
            weighted_mean(gradients, shares, mean)
            weights, slots, _ = vectors(kernel, n)
            kernel(scalars(kernel), weights, slots, mean, scale=0.5, clip=0.9, decay=0.02)
            other, other_slots, _ = vectors(kernel, n)
            options = {"scale": 0.5, "clip": 0.9, "decay": 0.02}
            assert fused.mean(scalars(kernel), other, other_slots, gradients, shares, **options) == 0
            assert state(weights, slots) == state(other, other_slots)


@pytest.mark.parametrize("isa", isas())
def test_bfloat16_gradients_equal_decoded_ones(isa: str) -> None:
    kernel, queue = Kernel("adam", isa=isa), PushKernel("adam", isa=isa)
    first, second = gradients_for(2, 2077)
    decoded = np.empty_like(first)
    decode_bfloat16(halves_of(first), decoded)
    weights, slots, _ = vectors(kernel, 2077)
    kernel(scalars(kernel), weights, slots, decoded)
    kernel(scalars(kernel), weights, slots, second)
    other, other_slots, _ = vectors(kernel, 2077)
    assert queue.each([scalars(kernel)] * 2, other, other_slots, [halves_of(first), second]) == 0
    assert state(weights, slots) == state(other, other_slots)


@pytest.mark.parametrize("slot_dtype", ["float32", "bfloat16"])
def test_threads_and_ranges_do_not_change_the_bits(slot_dtype: str) -> None:
    n = 1_000_003
    queue = PushKernel("adam", slot_dtype)
    gradients = [gradients_for(1, n)[0], halves_of(gradients_for(2, n)[1])]
    results = []
    for threads, cuts in ((1, [0, n]), (3, [0, n]), (2, [0, 700_001, 700_009, n])):
        weights = np.zeros(n, np.float32)
        slots = [np.zeros(n, np.uint16 if slot_dtype == "bfloat16" else np.float32) for _ in range(2)]
        for begin, end in itertools.pairwise(cuts):
            numbers = [[0.05, 0.1, 0.001, 1e-7]] * 2
            queue.each(numbers, weights, slots, gradients, seed=9, begin=begin, end=end, threads=threads)
        results.append(state(weights, tuple(slots)))
    assert results[0] == results[1] == results[2]


def test_parts_leave_the_rest_alone_and_say_what_decays() -> None:
    weights, gradient = np.ones(20, np.float32), np.ones(20, np.float32)
    gradient[8:10] = np.nan
    parts = Parts([(0, 8), (10, 18)], decays=[True, False])
    assert PushKernel("sgd").each([[1.0], [2.0]], weights, (), [gradient] * 2, decays=[0.5, 0.0], parts=parts) == 0
    np.testing.assert_array_equal(weights, np.repeat(np.float32([-2.5, 1, -2, 1]), [8, 2, 8, 2]))


@pytest.mark.parametrize("rule", rules())
def test_counts_what_is_not_finite_after_each_push(rule: str) -> None:
    kernel, queue = Kernel(rule), PushKernel(rule)
    gradients = gradients_for(3, 1000)
    gradients[1][[3, 500, 999]] = np.inf, np.nan, -np.inf
    weights, slots, _ = vectors(kernel, 1000)
    expected = [kernel(scalars(kernel), weights, slots, gradient) for gradient in gradients]
    other, other_slots, _ = vectors(kernel, 1000)
    assert queue.each([scalars(kernel)] * 3, other, other_slots, gradients) == sum(expected) == 6
    for mine, theirs in zip((other, *other_slots), (weights, *slots), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_push_kernel_describes_itself_and_pickles() -> None:
    kernel = pickle.loads(pickle.dumps(PushKernel("adam_amsgrad", "bfloat16", "baseline")))
    assert (kernel.rule, kernel.slot_dtype, kernel.isa, kernel.slots) == ("adam_amsgrad", "bfloat16", "baseline", 3)
    assert kernel.scalars == Kernel("adam_amsgrad").scalars


def test_bad_arguments_are_named() -> None:
    x, y, z = (np.zeros(4, np.float32) for _ in range(3))
    h = np.zeros(4, np.uint16)
    sgd, momentum = PushKernel("sgd"), PushKernel("momentum", "bfloat16")
    with pytest.raises(ValueError, match="slot_dtype: expected 'float32' or 'bfloat16', got 'float16'"):
        PushKernel("sgd", "float16")
    with pytest.raises(ValueError, match=r"rule: expected one of .*, got 'nadam'"):
        PushKernel("nadam")
    with pytest.raises(ValueError, match="scalars: expected 2 values, got 1"):
        sgd.each([[0.1]], x, (), [y, z])
    with pytest.raises(ValueError, match=r"scalars: expected the 1 of rule 'sgd' \(learning_rate\), got 2"):
        sgd.each([[0.1, 0.2]], x, (), [y])
    with pytest.raises(ValueError, match=r"slots\[0\]: expected uint16\[4\], got float32\[4\]"):
        momentum.each([[0.1, 0.9]], x, [y], [z])
    with pytest.raises(ValueError, match=r"gradients\[1\]: expected uint16\[4\], got uint16\[3\]"):
        sgd.each([[0.1]] * 2, x, (), [y, h[:3]])
    with pytest.raises(
        ValueError, match=r"weights: expected memory of its own, got a buffer that overlaps gradients\[0\]"
    ):
        sgd.each([[0.1]], x, (), [x])
    with pytest.raises(ValueError, match="shares: expected finite numbers >= 0 with a sum > 0, got"):
        sgd.mean([0.1], x, (), [y, z], [1.0, -1.0])
    with pytest.raises(ValueError, match="gradients: expected at least one, got none"):
        sgd.mean([0.1], x, (), [], [])
    with pytest.raises(ValueError, match="weights: expected at least the 5 elements of parts, got 4"):
        sgd.each([[0.1]], x, (), [y], parts=Parts([(0, 5)]))
    with pytest.raises(ValueError, match="clip: expected a number > 0, got 0"):
        sgd.each([[0.1]], x, (), [y], clip=0.0)
    with pytest.raises(TypeError, match=r"gradients\[0\]: expected float32\[4\], got list"):
        sgd.each([[0.1]], x, (), [[0.0] * 4])
