"""Every row is in exactly one batch of an epoch, and an epoch's order is the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elephas_fast.batches import order, rounds


@given(
    rows=st.integers(0, 300),
    batch_size=st.integers(1, 50),
    frequency=st.one_of(st.just("batch"), st.just("epoch"), st.integers(1, 9)),
)
def test_rounds_cover_every_row_once_in_order(rows, batch_size, frequency):
    result = rounds(rows, batch_size, frequency)
    batches = [batch for one in result for batch in one]
    assert [row for begin, end in batches for row in range(begin, end)] == list(range(rows))
    assert all(end - begin == batch_size for begin, end in batches[:-1])
    lengths = [len(one) for one in result]
    if frequency == "epoch":
        assert len(result) == (1 if rows else 0)
    else:
        length = 1 if frequency == "batch" else frequency
        assert all(n == length for n in lengths[:-1])
        assert all(0 < n <= length for n in lengths)


@pytest.mark.parametrize(("batch_size", "frequency"), [(0, "batch"), (-1, 1), (True, "batch"), (2.0, "epoch")])
def test_bad_batch_size(batch_size, frequency):
    with pytest.raises(ValueError, match="batch_size: expected a whole number >= 1"):
        rounds(10, batch_size, frequency)


@pytest.mark.parametrize("frequency", ["round", 0, -2, True, 1.5, None])
def test_bad_frequency(frequency):
    with pytest.raises(ValueError, match="frequency: expected 'batch', 'epoch' or a number"):
        rounds(10, 2, frequency)


def test_order_is_a_permutation_decided_by_its_arguments():
    def draw(seed=1, partition=2, epoch=3):
        return order(100, shuffle=True, seed=seed, partition=partition, epoch=epoch)

    np.testing.assert_array_equal(np.sort(draw()), np.arange(100))
    np.testing.assert_array_equal(draw(), draw())
    for other in (draw(seed=2), draw(partition=3), draw(epoch=4)):
        assert not np.array_equal(draw(), other)
    assert draw().dtype == np.int64
    np.testing.assert_array_equal(order(5, shuffle=False, seed=1, partition=0, epoch=0), range(5))
    assert order(0, shuffle=True, seed=0, partition=0, epoch=0).shape == (0,)
