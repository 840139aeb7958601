"""Slots in bfloat16: what is stored, that rounding is right on average, and that training needs that."""

from __future__ import annotations

import numpy as np
import pytest

from elephas_fast._core import Kernel, PushKernel, decode_bfloat16, encode_bfloat16, isas, rules

from .test_kernel import ESTIMATING, scalars, vectors

BETAS = (0.9, 0.999)


def encoded(x: np.ndarray) -> np.ndarray:
    out = np.empty(len(x), np.uint16)
    encode_bfloat16(x, out)
    return out


def decoded(x: np.ndarray) -> np.ndarray:
    out = np.empty(len(x), np.float32)
    decode_bfloat16(x, out)
    return out


def test_every_bfloat16_comes_back() -> None:
    every = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    values = decoded(every)
    np.testing.assert_array_equal(values.view(np.uint32) >> 16, every)
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(encoded(values)[numbers], every[numbers])
    assert np.isnan(decoded(encoded(values))[~numbers]).all()


def test_encoding_rounds_to_nearest_even() -> None:
    x = np.array([1.0, 1 + 2**-8, 1 + 2**-8 + 2**-20, 1 + 3 * 2**-8, -1 - 2**-8, 3.4e38, np.inf, -0.0], np.float32)
    expected = [1.0, 1.0, 1 + 2**-7, 1 + 2**-6, -1.0, np.inf, np.inf, -0.0]
    assert decoded(encoded(x)).tolist() == expected


@pytest.mark.parametrize("rule", rules())
def test_all_instruction_sets_round_alike(rule: str) -> None:
    results = []
    for isa in isas():
        kernel = PushKernel(rule, "bfloat16", isa)
        weights, slots, gradient = vectors(Kernel(rule), 4099)
        gradient[[5, 4098]] = np.nan, np.inf
        halves = [encoded(slot) for slot in slots]
        bad = kernel.each([scalars(kernel)] * 3, weights, halves, [gradient] * 3, seed=77)
        halves = [np.where(np.isnan(decoded(h)), np.uint16(0x7FC0), h) for h in halves]
        results.append([np.nan_to_num(weights), *halves])
        assert bad == 6
    weights, *halves = results[0]
    for other_weights, *others in results[1:]:
        if rule in ESTIMATING:
            np.testing.assert_allclose(other_weights, weights, rtol=1e-3, atol=1e-3)
            assert max(np.max(np.abs(a.astype(int) - b)) for a, b in zip(halves, others, strict=True)) <= 1
        else:
            assert [a.tobytes() for a in results[0]] == [a.tobytes() for a in (other_weights, *others)]


@pytest.mark.parametrize("rule", rules())
def test_a_step_is_the_float32_step_with_rounded_slots(rule: str) -> None:
    kernel = PushKernel(rule, "bfloat16")
    weights, slots, gradient = vectors(Kernel(rule), 1500)
    halves = [encoded(slot) for slot in slots]
    exact_weights, exact = weights.copy(), [decoded(h) for h in halves]
    kernel.each([scalars(kernel)], weights, halves, [gradient], seed=1)
    Kernel(rule)(scalars(kernel), exact_weights, exact, gradient)
    assert weights.tobytes() == exact_weights.tobytes()
    for half, slot in zip(halves, exact, strict=True):
        down, here = slot.view(np.uint32) >> 16, half.astype(np.uint32)
        assert ((here == down) | (here == down + 1)).all()


def test_rounding_is_right_on_average_and_differs_by_seed_and_element() -> None:
    """Momentum with mu = 1 and a gradient of 0 stores the slot again; here v = 1 + 0.3 units of bfloat16, unrounded."""
    kernel = PushKernel("momentum", "bfloat16")
    n, steps = 512, 4000
    ups = np.zeros((steps, n), bool)
    fraction = 0.3 * 2**-7
    for seed in range(steps):
        halves = [encoded(np.ones(n, np.float32))]
        kernel.each([[1.0, 1.0]], np.zeros(n, np.float32), halves, [np.full(n, -fraction, np.float32)], seed=seed)
        ups[seed] = decoded(halves[0]) > 1
    assert abs(ups.mean() - 0.3) < 0.003
    assert np.abs(ups.mean(axis=0) - 0.3).max() < 0.05
    assert np.abs(ups.mean(axis=1) - 0.3).max() < 0.1
    assert abs(np.corrcoef(ups[:-1].ravel(), ups[1:].ravel())[0, 1]) < 0.01


def adam_numbers(step: int, rate: float) -> list[float]:
    alpha = rate * np.sqrt(1 - BETAS[1] ** step) / (1 - BETAS[0] ** step)
    return [alpha, 1 - BETAS[0], 1 - BETAS[1], 1e-7]


def loss_after_training(slot_dtype: str) -> float:
    """Mean log loss of a 20-24-1 network on 2,000 rows after 2,500 steps of Adam in batches of 50."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2000, 20)).astype(np.float32)
    y = ((x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + 0.3 * rng.normal(size=2000)) > 0).astype(np.float32)
    weights = (rng.normal(size=20 * 24 + 24 + 24 + 1) * 0.2).astype(np.float32)
    gradient = np.zeros_like(weights)

    def views(flat: np.ndarray) -> tuple[np.ndarray, ...]:
        return flat[:480].reshape(20, 24), flat[480:504], flat[504:528], flat[528:]

    def forward(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w, b, out, bias = views(weights)
        hidden = np.tanh(rows @ w + b)
        return hidden, 1 / (1 + np.exp(-(hidden @ out + bias[0])))

    kernel = PushKernel("adam", slot_dtype)
    state = [np.zeros(len(weights), np.float32 if slot_dtype == "float32" else np.uint16) for _ in range(2)]
    for step in range(1, 2501):
        rows = rng.integers(0, 2000, 50)
        hidden, p = forward(x[rows])
        error = (p - y[rows]) / 50
        w_g, b_g, out_g, bias_g = views(gradient)
        back = np.outer(error, views(weights)[2]) * (1 - hidden**2)
        w_g[:], b_g[:], out_g[:], bias_g[:] = x[rows].T @ back, back.sum(0), hidden.T @ error, error.sum()
        kernel.each([adam_numbers(step, 0.003)], weights, state, [gradient], seed=step)
    _, p = forward(x)
    return float(-np.mean(y * np.log(p + 1e-7) + (1 - y) * np.log(1 - p + 1e-7)))


def test_training_with_bfloat16_slots_reaches_the_loss_of_float32_slots() -> None:
    exact, half = loss_after_training("float32"), loss_after_training("bfloat16")
    assert exact < 0.2
    assert abs(half - exact) < 0.01


def test_rounded_to_nearest_adams_velocity_would_stand_still() -> None:
    """A velocity moves by a thousandth of the way at most, half a unit of bfloat16 is a five-hundredth."""
    rounded, kept = np.full(64, 1.0, np.float32), [np.zeros(64, np.uint16), encoded(np.full(64, 1.0, np.float32))]
    zero = np.zeros(64, np.float32)
    for step in range(2000):
        Kernel("adam")(adam_numbers(1, 0.0), zero.copy(), [zero.copy(), rounded], zero)
        rounded = decoded(encoded(rounded))
        PushKernel("adam", "bfloat16").each([adam_numbers(1, 0.0)], zero.copy(), kept, [zero], seed=step)
    assert (rounded == 1).all()
    assert decoded(kept[1]).mean() == pytest.approx(0.999**2000, rel=0.1)
