"""FlatOptimizer on layouts of several tensors: clipping, decay, constraints, padding, schedules over steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras import constraints as kc

from elephas_fast import _core
from elephas_fast.layout import Layout, TensorSpec
from elephas_fast.optimizers import SGD, Adam, FlatOptimizer, Optimizer, RMSprop
from tests.core import keras_side
from tests.core.cases import ours
from tests.core.test_against_keras import assert_near

SHAPES: dict[str, tuple[int, ...]] = {
    "dense/kernel": (33, 17),
    "dense/bias": (17,),
    "conv/kernel": (3, 3, 4, 5),
    "scale": (),
    "empty": (0, 3),
    "embeddings": (50, 8),
}
STEPS = 20


def build(constraints: dict[str, Any] | None = None) -> Layout:
    serialized = {k: kc.serialize(c) for k, c in (constraints or {}).items()}
    specs = [TensorSpec(name, shape, "float32", True, serialized.get(name)) for name, shape in SHAPES.items()]
    specs.insert(2, TensorSpec("moving_mean", (17,), "float32", False))
    specs.insert(4, TensorSpec("seed", (2,), "uint32", False))
    return Layout.build(specs)


def arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def fill(layout: Layout, values: dict[str, np.ndarray], padding: float = 0.0) -> np.ndarray:
    """The trainable part of the flat buffer."""
    flat = np.full(layout.trainable_size, padding, np.float32)
    for tensor in layout.tensors:
        if tensor.role == "trainable":
            flat[tensor.offset : tensor.offset + tensor.size] = values[tensor.name].reshape(-1)
    return flat


def read(layout: Layout, flat: np.ndarray) -> list[np.ndarray]:
    return [flat[t.offset : t.offset + t.size].reshape(t.shape) for t in layout.tensors if t.role == "trainable"]


def compare(
    name: str, arguments: dict[str, Any], constraints: dict[str, Any] | None = None, exclude: list[str] | None = None
) -> None:
    layout = build(constraints)
    optimizer = ours(name, arguments | ({"exclude_from_weight_decay": exclude} if exclude else {}))
    flat = FlatOptimizer(optimizer, layout)
    start = arrays(0)
    weights, slots = fill(layout, start), flat.initial_slots()

    theirs = keras_side.optimizer(name, arguments)
    training = keras_side.Training(theirs, list(start.values()), [(constraints or {}).get(name) for name in SHAPES])
    if exclude:
        theirs.exclude_from_weight_decay(
            var_list=[v for v, name in zip(training.variables, SHAPES, strict=True) if any(e in name for e in exclude)]
        )
    gradients = [arrays(100 + step) for step in range(STEPS)]
    training.run(*[np.stack([g[name] for g in gradients]) for name in SHAPES])
    for step, gradient in enumerate(gradients):
        assert flat.apply(step, weights, slots, fill(layout, gradient)) == 0
    for tensor_name, a, b in zip(SHAPES, read(layout, weights), training.weights(), strict=True):
        assert_near(a, b, 1e-5, tensor_name)
    for slot_name, slot, values in zip(flat.slot_names, slots, training.slots(flat.slot_names), strict=True):
        for tensor_name, a, b in zip(SHAPES, read(layout, slot), values, strict=True):
            assert_near(a, b, 1e-5, f"{slot_name} of {tensor_name}")


CLIPS = [{"clipnorm": 2.0}, {"clipnorm": 100.0}, {"clipvalue": 0.5}, {"global_clipnorm": 5.0}, {"global_clipnorm": 1e3}]


@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_clipping_per_weight_and_over_all(name: str, clip: dict[str, float]) -> None:
    compare(name, {**clip, "weight_decay": 0.01})


def test_weights_can_be_excluded_from_decay() -> None:
    compare("Adam", {"weight_decay": 0.3}, exclude=["bias", "emb"])


CONSTRAINTS = {
    "MaxNorm": {"dense/kernel": kc.MaxNorm(1.5), "conv/kernel": kc.MaxNorm(2, axis=[0, 1, 2])},
    "axis 1": {"dense/kernel": kc.MaxNorm(2.0, axis=1), "embeddings": kc.UnitNorm(axis=-1)},
    "middle axes": {"conv/kernel": kc.UnitNorm(axis=[1, 2])},
    "UnitNorm": {"dense/kernel": kc.UnitNorm(), "conv/kernel": kc.UnitNorm(axis=[0, 1, 2])},
    "MinMaxNorm": {"dense/kernel": kc.MinMaxNorm(0.7, 1.2), "dense/bias": kc.MinMaxNorm(5.0, 6.0)},
    "MinMaxNorm, slowly": {"embeddings": kc.MinMaxNorm(0.7, 1.2, rate=0.3, axis=1)},
    "NonNeg": {"dense/kernel": kc.NonNeg(), "dense/bias": kc.NonNeg(), "empty": kc.NonNeg()},
}


@pytest.mark.parametrize("kind", CONSTRAINTS)
def test_constraints(kind: str) -> None:
    compare("SGD", {"learning_rate": 0.1, "momentum": 0.5}, CONSTRAINTS[kind])


def test_constraints_act_on_the_output_buffer() -> None:
    layout = build({"dense/bias": kc.NonNeg()})
    flat = FlatOptimizer(SGD(0.1), layout)
    weights, gradient = fill(layout, arrays(0)), fill(layout, arrays(1))
    out = np.zeros_like(weights)
    flat.apply(0, weights, (), gradient, weights_out=out)
    expected = weights.copy()
    flat.apply(0, expected, (), gradient)
    np.testing.assert_array_equal(out, expected)
    assert (read(layout, weights)[1] < 0).any()
    assert (read(layout, out)[1] >= 0).all()


@pytest.mark.parametrize(
    "optimizer", [SGD(), Adam(epsilon=0.0, clipnorm=1.0), RMSprop(epsilon=0.0, global_clipnorm=1.0)], ids=str
)
def test_padding_is_neither_read_nor_written(optimizer: Optimizer) -> None:
    layout = build()
    flat = FlatOptimizer(optimizer, layout)
    gradient = fill(layout, arrays(1), padding=np.nan)
    padding = np.isnan(gradient)
    assert padding.any()
    weights = fill(layout, arrays(0))
    slots = flat.initial_slots()
    assert flat.apply(0, weights, slots, gradient) == 0
    for buffer in (weights, *slots):
        assert (buffer[padding] == 0).all()


def test_counts_non_finite_results() -> None:
    layout = build()
    flat = FlatOptimizer(Adam(), layout)
    gradient = fill(layout, arrays(1))
    gradient[[0, 40]] = np.inf, np.nan
    assert flat.apply(0, fill(layout, arrays(0)), flat.initial_slots(), gradient) == 2


@pytest.mark.parametrize("arguments", [{"clipnorm": 1.0}, {"global_clipnorm": 1.0}])
def test_a_gradient_of_infinite_norm_never_passes_as_finite(arguments: dict[str, float]) -> None:
    flat = FlatOptimizer(SGD(**arguments), Layout.vector(10))
    gradient = np.ones(10, np.float32)
    gradient[4] = np.inf
    assert flat.apply(0, np.ones(10, np.float32), (), gradient) >= 1


def test_scale_comes_before_clipping() -> None:
    layout = build()
    gradient = arrays(1)
    for clip in CLIPS:
        results = []
        for factor in (1.0, 0.25):
            flat = FlatOptimizer(SGD(0.1, **clip), layout)
            weights = fill(layout, arrays(0))
            scaled = fill(layout, {k: np.float32(1 / factor) * g for k, g in gradient.items()})
            flat.apply(0, weights, (), scaled, scale=factor)
            results.append(weights)
        np.testing.assert_allclose(results[0], results[1], rtol=1e-6, atol=1e-7)


def test_initial_slots_fill_the_given_buffers() -> None:
    flat = FlatOptimizer(ours("Adagrad", {"initial_accumulator_value": 0.75}), Layout.vector(5))
    out = [np.empty(5, np.float32)]
    assert flat.initial_slots(out)[0] is out[0]
    assert out[0].tolist() == [0.75] * 5
    assert flat.slot_names == ("accumulator",)


@pytest.mark.parametrize("access", _core.ACCESSES)
def test_access_modes(access: str) -> None:
    layout = build()
    flat = FlatOptimizer(Adam(0.01), layout, access=access, isa="baseline")
    weights, slots = fill(layout, arrays(0)), flat.initial_slots()
    expected, expected_slots = weights.copy(), flat.initial_slots()
    flat.apply(0, weights, slots, fill(layout, arrays(1)))
    FlatOptimizer(Adam(0.01), layout, isa="baseline", threads=2).apply(
        0, expected, expected_slots, fill(layout, arrays(1))
    )
    np.testing.assert_array_equal(weights, expected)


BAD_CONSTRAINTS = [
    ({"class_name": "Mine", "config": {}}, "one of Keras' own .*, got Mine"),
    ({"class_name": "MaxNorm", "registered_name": "pkg>MaxNorm", "config": {}}, "got pkg>MaxNorm"),
    ({"class_name": "MaxNorm", "config": {"axis": [0, 2]}}, "adjacent axes of its 3 dimensions, got axis="),
    ({"class_name": "UnitNorm", "config": {"axis": 3}}, "adjacent axes"),
    ({"class_name": "UnitNorm", "config": {"axes": 3}}, "expected arguments among axis, got axes"),
]


@pytest.mark.parametrize(("constraint", "message"), BAD_CONSTRAINTS)
def test_unknown_constraints_are_refused(constraint: dict[str, Any], message: str) -> None:
    layout = Layout.build([TensorSpec("cube", (2, 3, 4), "float32", True, constraint)])
    with pytest.raises(ValueError, match=f"constraint of weight 'cube': .*{message}"):
        FlatOptimizer(SGD(), layout)


def test_bad_calls() -> None:
    flat = FlatOptimizer(Adam(), Layout.vector(10))
    w = np.zeros(10, np.float32)
    with pytest.raises(ValueError, match=r"step: expected .* got -1"):
        flat.apply(-1, w, flat.initial_slots(), w.copy())
    with pytest.raises(ValueError, match="weights: expected the layout's 10 trainable elements, got 9"):
        flat.apply(0, w[:9], flat.initial_slots(), w.copy())
    with pytest.raises(ValueError, match="slots: expected 2 values, got 1"):
        flat.apply(0, w, flat.initial_slots()[:1], w.copy())
    with pytest.raises(ValueError, match=r"out: expected float32\[10\], got float64\[10\]"):
        flat.initial_slots([np.zeros(10), np.zeros(10)])
    with pytest.raises(ValueError, match="out: expected 2 slots, got 1"):
        flat.initial_slots([w])
