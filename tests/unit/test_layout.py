"""The flat layout: where every weight lives, and that its values come back unchanged."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elephas_fast.layout import ALIGNMENT, Layout, TensorSpec

FLAT = ("float32", "float16", "bfloat16")
OPAQUE = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def values_of(spec: TensorSpec, seed: int) -> np.ndarray[Any, Any]:
    """Arbitrary values of a spec: any bit pattern of an integer, finite floats."""
    random = np.random.default_rng(seed)
    dtype = dtype_of(spec.dtype)
    if spec.dtype in FLAT:
        return random.standard_normal(spec.shape).astype(np.float32).astype(dtype)
    if spec.dtype == "bool":
        return random.integers(0, 2, spec.shape).astype(np.bool_)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, spec.shape, dtype=dtype, endpoint=True)


MODEL = [
    TensorSpec("dense/kernel", (7, 3), "float32", True, {"class_name": "MaxNorm", "config": {"max_value": 2.0}}),
    TensorSpec("dense/bias", (3,), "float16", True),
    TensorSpec("norm/moving_mean", (5,), "float32", False),
    TensorSpec("half/kernel", (2, 2), "bfloat16", True),
    TensorSpec("empty/kernel", (0, 4), "float32", True),
    TensorSpec("scale", (), "float32", True),
    TensorSpec("half/state", (33,), "bfloat16", False),
    *(TensorSpec(f"opaque/{dtype}", (3, 5), dtype, index % 2 == 0) for index, dtype in enumerate(OPAQUE)),
    TensorSpec("seed", (), "uint32", False),
]

specs = st.lists(
    st.builds(
        TensorSpec,
        name=st.text(min_size=1, max_size=8),
        shape=st.lists(st.integers(0, 7), max_size=3).map(tuple),
        dtype=st.sampled_from(FLAT + OPAQUE),
        trainable=st.booleans(),
    ),
    max_size=12,
)


def test_every_tensor_starts_on_a_cache_line_in_its_own_part() -> None:
    layout = Layout.build(MODEL)
    for tensor in layout.tensors:
        if tensor.role == "opaque":
            assert tensor.offset % ALIGNMENT == 0
            assert tensor.offset + tensor.nbytes <= layout.opaque_size
        else:
            assert 4 * tensor.offset % ALIGNMENT == 0
            begin, end = (
                (0, layout.trainable_size)
                if tensor.role == "trainable"
                else (
                    layout.trainable_size,
                    layout.size,
                )
            )
            assert begin <= tensor.offset <= tensor.offset + tensor.size <= end
    assert layout.trainable_size % 16 == 0
    assert [t.name for t in layout.tensors] == [s.name for s in MODEL]


@given(specs)
def test_places_never_overlap_and_values_come_back(given_specs: list[TensorSpec]) -> None:
    layout = Layout.build(given_specs)
    ends = 0
    for begin, end in layout.ranges:
        assert begin >= ends
        ends = end
    arrays = [values_of(spec, index) for index, spec in enumerate(given_specs)]
    flat, opaque = layout.flatten(arrays)
    for array, back, spec in zip(arrays, layout.unflatten(flat, opaque), given_specs, strict=True):
        assert back.dtype == dtype_of(spec.dtype)
        assert back.shape == spec.shape
        assert back.tobytes() == array.tobytes()
    assert Layout.from_json(layout.to_json()) == layout


@pytest.mark.parametrize("dtype", FLAT + OPAQUE)
def test_each_dtype_comes_back_bit_for_bit(dtype: str) -> None:
    spec = TensorSpec("w", (4, 9), dtype, True)
    array = values_of(spec, 3)
    layout = Layout.build([spec])
    (back,) = layout.unflatten(*layout.flatten([array]))
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()
    assert not np.shares_memory(back, array)


def test_padding_is_zero_and_stays_zero() -> None:
    layout = Layout.build(MODEL)
    flat, opaque = layout.flatten([values_of(spec, 1) for spec in MODEL])
    used = np.zeros(layout.size, bool)
    for begin, end in layout.ranges:
        used[begin:end] = True
    assert not flat[~used].any()
    assert opaque.nbytes == layout.opaque_size


def test_flatten_writes_into_the_buffers_it_is_given() -> None:
    layout = Layout.build(MODEL)
    flat, opaque = np.zeros(layout.size, np.float32), np.zeros(layout.opaque_size, np.uint8)
    given_flat, given_opaque = layout.flatten([values_of(spec, 1) for spec in MODEL], flat, opaque)
    assert given_flat is flat
    assert given_opaque is opaque
    assert flat.any()


def test_arrays_that_are_not_contiguous_are_taken_by_value() -> None:
    layout = Layout.build([TensorSpec("a", (3, 4), "float32", True), TensorSpec("b", (3, 4), "int64", True)])
    whole = np.arange(12).reshape(4, 3)
    arrays: list[Any] = [whole.T.astype(np.float32, order="K"), whole.T]
    back = layout.unflatten(*layout.flatten(arrays))
    np.testing.assert_array_equal(back[0], arrays[0])
    np.testing.assert_array_equal(back[1], arrays[1])


@pytest.mark.parametrize("dtype", ["float64", "complex64", "string", "float8_e4m3fn"])
def test_dtypes_that_would_change_their_values_are_refused_by_name(dtype: str) -> None:
    with pytest.raises(ValueError, match=f"weight 'dense/kernel'.*{dtype}"):
        Layout.build([TensorSpec("dense/kernel", (2,), dtype, True)])


PAIR = Layout.build([TensorSpec("a", (2,), "float32", True), TensorSpec("b", (2,), "int64", False)])
A: Any = np.zeros(2, np.float32)
B: Any = np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("arrays", "buffers", "message"),
    [
        ([A], (), r"arrays: expected 2 weights, got 1"),
        ([A, B, B], (), r"arrays: expected 2 weights, got 3"),
        ([np.zeros(3, np.float32), B], (), r"weight 'a': expected float32\[2\], got float32\[3\]"),
        ([A.astype(np.float64), B], (), r"weight 'a': expected float32\[2\], got float64\[2\]"),
        ([A, B.astype(np.int32)], (), r"weight 'b': expected int64\[2\], got int32\[2\]"),
        ([A, B], (np.zeros(15, np.float32),), r"flat: expected float32\[16\], got float32\[15\]"),
        ([A, B], (np.zeros(16, np.float64),), r"flat: expected float32\[16\], got float64\[16\]"),
        ([A, B], (np.zeros(16, np.float32), np.zeros(1, np.uint8)), r"opaque: expected uint8\[64\], got uint8\[1\]"),
    ],
)
def test_what_does_not_fit_is_refused(arrays: list[Any], buffers: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PAIR.flatten(arrays, *buffers)


def test_unflatten_checks_its_buffers() -> None:
    with pytest.raises(ValueError, match=r"flat: expected float32\[16\], got float32\[1\]"):
        PAIR.unflatten(np.zeros(1, np.float32), np.zeros(64, np.uint8))


def test_a_bare_vector_has_no_padding() -> None:
    layout = Layout.vector(5)
    assert (layout.trainable_size, layout.size, layout.opaque_size) == (5, 5, 0)
    (back,) = layout.unflatten(*layout.flatten([np.arange(5, dtype=np.float32)]))
    np.testing.assert_array_equal(back, np.arange(5))
    assert Layout.vector(0).size == 0
    with pytest.raises(ValueError, match="size: expected a number of elements >= 0, got -1"):
        Layout.vector(-1)


def test_a_model_without_weights_is_a_layout() -> None:
    layout = Layout.build([])
    assert (layout.size, layout.opaque_size, layout.ranges) == (0, 0, ())
    assert layout.unflatten(*layout.flatten([])) == []


def test_the_fingerprint_tells_layouts_apart() -> None:
    base = Layout.build(MODEL)
    assert base.fingerprint == Layout.build(MODEL).fingerprint
    assert len(base.fingerprint) == 32
    assert set(base.fingerprint) <= set("0123456789abcdef")
    others = [
        [*MODEL[:-1], replace(MODEL[-1], name="other")],
        MODEL[:-1],
        MODEL[::-1],
        [*MODEL[:-1], replace(MODEL[-1], shape=(1,))],
        [*MODEL[:-1], replace(MODEL[-1], dtype="int32")],
        [*MODEL[:1], replace(MODEL[1], trainable=False), *MODEL[2:]],
    ]
    prints = {Layout.build(other).fingerprint for other in others} | {base.fingerprint}
    assert len(prints) == len(others) + 1


def test_layouts_survive_json_and_pickle_with_their_constraints() -> None:
    layout = Layout.build(MODEL)
    assert json.loads(layout.to_json())["size"] == layout.size
    for copy in (Layout.from_json(layout.to_json()), pickle.loads(pickle.dumps(layout))):
        assert copy == layout
        assert copy.fingerprint == layout.fingerprint
        assert copy.tensors[0].constraint == {"class_name": "MaxNorm", "config": {"max_value": 2.0}}


def test_layouts_are_hashable_also_with_constraints() -> None:
    assert len({Layout.build(MODEL), Layout.build(MODEL), Layout.vector(3)}) == 2
