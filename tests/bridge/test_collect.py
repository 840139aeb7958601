"""Rows of every form a user may write become the same arrays; bad rows are named."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from elephas_fast.batches import Arrays, Block, InputSpec, collect

X = [InputSpec("x", (3,), "float32")]
Y = [InputSpec("y")]
VALUES = np.arange(15, dtype=np.float32).reshape(5, 3)


def one(rows, inputs=X, outputs=Y):
    return collect(iter(rows), inputs=inputs, outputs=outputs)


@pytest.mark.parametrize(
    "row",
    [
        lambda x, y: (x, y),
        lambda x, y: [x, y],
        lambda x, y: (list(map(float, x)), float(y)),
        lambda x, y: (x.astype(np.float64), np.array([y])[0]),
        lambda x, y: (tuple(x), np.float64(y)),
        lambda x, y: ({"x": x}, {"y": y}),
        lambda x, y: Block((x[None],), (np.array([y]),)),
    ],
    ids=["tuple", "list", "numbers", "float64", "scalars", "dict", "block"],
)
def test_forms_of_a_row(row):
    targets = np.array([0.0, 1.0, 0.5, 2.0, 1.0], np.float32)
    arrays = one(row(x, y) for x, y in zip(VALUES, targets, strict=True))
    np.testing.assert_array_equal(arrays.x[0], VALUES)
    np.testing.assert_array_equal(arrays.y[0], targets)
    assert (arrays.x[0].dtype, arrays.y[0].dtype, arrays.rows) == (np.float32, np.float32, 5)
    assert arrays.sample_weight is None


@pytest.mark.parametrize(
    ("targets", "dtype"),
    [
        ([1, 2], np.int64),
        ([np.int32(1), np.int32(2)], np.int32),
        ([np.int8(1), np.int8(2)], np.int32),
        ([True, False], np.int32),
        ([np.int32(1), 2], np.int64),
        ([np.uint32(1), np.uint32(2)], np.int64),
        ([1.5, 2.5], np.float32),
        ([np.float16(1.5), np.float64(2.5)], np.float32),
        ([1, 2.5], np.float32),
        ([1.5, 2], np.float32),
    ],
)
def test_targets_keep_their_kind(targets, dtype):
    arrays = one((VALUES[0], y) for y in targets)
    assert arrays.y[0].dtype == dtype
    np.testing.assert_array_equal(arrays.y[0], np.array(targets, dtype))


def test_a_late_float_does_not_truncate_the_labels_before():
    arrays = one([*((VALUES[0], i) for i in range(1000)), (VALUES[0], 0.25), (VALUES[0], 7)])
    assert arrays.y[0].dtype == np.float32
    np.testing.assert_array_equal(arrays.y[0], [*range(1000), 0.25, 7])


def test_inputs_are_cast_to_the_models_dtype():
    arrays = one([(VALUES[1], 0.0)], [InputSpec("ids", (3,), "int32")])
    assert arrays.x[0].dtype == np.int32
    np.testing.assert_array_equal(arrays.x[0], [[3, 4, 5]])
    words = one([(["a", "bc", ""], 0.0)], [InputSpec("words", (3,), "string")])
    assert words.x[0].tolist() == [["a", "bc", ""]]


@pytest.mark.parametrize("count", [1, 255, 256, 257, 5000])
def test_many_rows_keep_their_order(count):
    values = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    arrays = one((values[i], i) for i in range(count))
    np.testing.assert_array_equal(arrays.x[0], values)
    np.testing.assert_array_equal(arrays.y[0], np.arange(count))
    assert arrays.x[0].flags.c_contiguous


def test_large_rows_are_joined_across_chunks(monkeypatch):
    from elephas_fast.batches import column

    monkeypatch.setattr(column, "_LARGEST_CHUNK", 100 * 12)
    values = np.random.default_rng(0).normal(size=(999, 3)).astype(np.float32)
    np.testing.assert_array_equal(one((v, 0.0) for v in values).x[0], values)


def test_blocks_and_rows_mix():
    block = Block((VALUES[1:4],), (np.array([1, 2, 3]),))
    arrays = one([(VALUES[0], 0), block, (VALUES[4], 4), Block((VALUES[:0],), (np.zeros(0, int),))])
    np.testing.assert_array_equal(arrays.x[0], VALUES)
    np.testing.assert_array_equal(arrays.y[0], range(5))


def test_a_single_block_is_not_copied_and_not_written():
    block = Block((VALUES,), (np.arange(5),))
    arrays = one([block])
    assert np.shares_memory(arrays.x[0], VALUES)
    joined = one([block, (VALUES[0], 9)])
    assert not np.shares_memory(joined.x[0], VALUES)
    assert joined.rows == 6


def test_block_iterates_as_the_user_had_the_rows_and_pickles():
    block = pickle.loads(pickle.dumps(Block((VALUES, VALUES[:, 0]), (np.arange(5),), (np.ones(5),))))
    rows = list(block)
    assert len(block) == len(rows) == 5
    (a, b), y, weight = rows[2]
    np.testing.assert_array_equal(a, VALUES[2])
    assert (b, y, weight) == (6.0, 2, 1.0)
    with pytest.raises(ValueError, match=r"Block: expected x and arrays of one length, got lengths \[4, 5\]"):
        Block((VALUES,), (np.arange(4),))


SEVERAL = [InputSpec("a", (2,), "float32"), InputSpec("b", (), "float32")]
TARGETS = [InputSpec("u"), InputSpec("v")]


@pytest.mark.parametrize("form", ["tuple", "list", "dict", "block"])
def test_several_inputs_and_outputs(form):
    a, b, u, v = np.ones((4, 2)), np.arange(4.0), np.arange(4), np.zeros((4, 3))
    rows = {
        "tuple": [((a[i], b[i]), (u[i], v[i])) for i in range(4)],
        "list": [[[a[i], b[i]], [u[i], v[i]]] for i in range(4)],
        "dict": [({"b": b[i], "a": a[i]}, {"v": v[i], "u": u[i]}) for i in range(4)],
        "block": [Block((a, b), (u, v))],
    }[form]
    arrays = one(rows, SEVERAL, TARGETS)
    for got, wanted in zip((*arrays.x, *arrays.y), (a, b, u, v), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("weights", "count"),
    [([0.5, 2], 1), ([(0.5, 1), (2, 3)], 2), ([{"u": 1, "v": 2}, {"u": 3, "v": 4}], 2), ([[1, 2], [3, 4]], 2)],
)
def test_sample_weights(weights, count):
    rows = [((VALUES[0, :2], 1.0), (0, 1.0), w) for w in weights]
    arrays = one(rows, SEVERAL, TARGETS)
    assert arrays.sample_weight is not None
    assert [w.dtype for w in arrays.sample_weight] == [np.float32] * count
    assert [len(w) for w in arrays.sample_weight] == [2] * count


def test_sample_weight_per_timestep():
    arrays = one([(VALUES[0], VALUES[0], [1, 0, 1])] * 2)
    assert arrays.sample_weight is not None
    np.testing.assert_array_equal(arrays.sample_weight[0], [[1, 0, 1]] * 2)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_an_axis_of_one_may_be_missing_or_surplus(shape):
    for given in (2.0, [2.0], np.float32(2), np.full(shape, 2.0)):
        arrays = one([(given, given)] * 2, [InputSpec("x", shape, "float32")], [InputSpec("y", shape)])
        assert arrays.x[0].shape == (2, *shape)
        assert arrays.y[0].shape == (2, *shape)


def test_open_axes_are_settled_by_the_first_row():
    spec = [InputSpec("x", (None, 2), "float32")]
    assert one([(np.zeros((4, 2)), 0)] * 3, spec).x[0].shape == (3, 4, 2)
    with pytest.raises(ValueError, match=r"row 1: x: expected shape \(4, 2\), got \(5, 2\)"):
        one([(np.zeros((4, 2)), 0), (np.zeros((5, 2)), 0)], spec)


def test_features_alone():
    arrays = one(VALUES, outputs=[])
    np.testing.assert_array_equal(arrays.x[0], VALUES)
    assert arrays.y == ()
    pairs = one([(VALUES[0, :2], 1.0)], SEVERAL, [])
    assert [x.shape for x in pairs.x] == [(1, 2), (1,)]
    np.testing.assert_array_equal(one([Block((VALUES,))], outputs=[]).x[0], VALUES)


def test_no_rows():
    arrays = one([])
    assert (arrays.rows, arrays.x[0].shape, arrays.y[0].shape) == (0, (0, 3), (0,))
    assert arrays.x[0].dtype == np.float32
    assert one([], [InputSpec("x", (None, 2), "int32")]).x[0].shape == (0, 0, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(VALUES[0], 0), (VALUES[0, :2], 0)], r"row 1: x: expected shape \(3,\), got \(2,\)"),
        ([(VALUES[0], 0), (VALUES[0], [1, 2])], r"row 1: y: expected shape \(\), got \(2,\)"),
        ([(VALUES[0], 0, 1), (VALUES[0], 0)], "row 1: sample_weight: expected it in all rows or in none"),
        ([(VALUES[0], 0), (VALUES[0], 0, 1)], "row 1: sample_weight: expected it in all rows or in none"),
        ([(VALUES[0],)], r"row 0: expected \(x, y\) or \(x, y, sample_weight\), got 1 parts"),
        ([VALUES[0]], r"row 0: expected \(x, y\) or \(x, y, sample_weight\), got ndarray"),
        ([(["a", "b", "c"], 0)], "row 0: x: expected numbers, got dtype <U1"),
        ([(VALUES[0], None)], "row 0: y: expected numbers, got dtype object"),
        ([([1, [2, 3], 4], 0)], "row 0: x: expected numbers, got a ragged sequence"),
        ([({"z": VALUES[0]}, 0)], r"row 0: x: expected the names \['x'\], got \['z'\]"),
        ([Block((VALUES, VALUES), (VALUES,))], "block at row 0: x: expected 1 arrays, got 2"),
    ],
)
def test_bad_rows_are_named(rows, message):
    with pytest.raises(ValueError, match=message):
        one(rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((VALUES[0], (0, 0)), "row 0: x: expected a tuple, list or dict of 2 arrays, got ndarray"),
        (((VALUES[0, :2], 1.0), (0,)), "row 0: y: expected a tuple, list or dict of 2 arrays, got 1 of them"),
        (({"a": VALUES[0, :2]}, (0, 0)), r"row 0: x: expected the names \['a', 'b'\], got \['a'\]"),
        (((VALUES[0], 1.0), (0, 0)), r"row 0: input 'a': expected shape \(2,\), got \(3,\)"),
    ],
)
def test_bad_rows_of_several_inputs_are_named(row, message):
    with pytest.raises(ValueError, match=message):
        one([row], SEVERAL, TARGETS)


def test_arrays_slice_take_and_split():
    arrays = Arrays((VALUES,), (np.arange(5),), (np.ones(5, np.float32),))
    assert np.shares_memory(arrays.slice(1, 3).x[0], VALUES)
    np.testing.assert_array_equal(arrays.take(np.array([4, 0])).y[0], [4, 0])
    assert np.shares_memory(arrays.take(np.array([2, 3, 4])).x[0], VALUES)
    assert arrays.take(np.array([], np.int64)).rows == 0
    training, validation = arrays.split(0.4)
    assert (training.rows, validation.y[0].tolist()) == (3, [3, 4])
    assert [part.rows for part in arrays.split(0.0)] == [5, 0]
    assert [part.rows for part in arrays.slice(0, 1).split(0.3)] == [1, 0]
    for wrong in (1.0, -0.1):
        with pytest.raises(ValueError, match="validation_split: expected a fraction"):
            arrays.split(wrong)
