"""When the rules find a trial hopeless."""

from __future__ import annotations

import math

import pytest

from elephas_fast.tuning.stopping import MedianRule, SuccessiveHalving, best_by, rule_of


def curve(*losses: float) -> list[tuple[int, float]]:
    return list(enumerate(losses, 1))


OTHERS = {n: curve(*(10.0 - n - e for e in range(5))) for n in range(5)}
"""After epoch e the best losses are 10 - n - e for n from 0 to 4: the median is 8 - e."""


@pytest.mark.parametrize(("own", "hopeless"), [
    (curve(8.5), True), (curve(8.0), False), (curve(7.0), False), (curve(8.0, 7.5), True), (curve(8.0, 7.0), False),
    (curve(6.0, 20.0), False), (curve(math.inf), True),
])  # fmt: skip
def test_median(own, hopeless):
    assert MedianRule(4, 1).hopeless(own, OTHERS) is hopeless


def test_median_waits_for_others_and_for_epochs():
    assert not MedianRule(trials=6, epochs=1).hopeless(curve(100.0), OTHERS)
    assert MedianRule(trials=5, epochs=1).hopeless(curve(100.0), OTHERS)
    assert not MedianRule().hopeless(curve(100.0), OTHERS)
    assert MedianRule().hopeless(curve(100.0, 100.0), OTHERS)
    assert not MedianRule(4, 1).hopeless([(9, 100.0)], OTHERS), "nobody has come to epoch 9"


def test_median_counts_only_those_that_came_as_far():
    others = {**OTHERS, **{n: curve(0.0) for n in range(5, 50)}}
    assert not MedianRule(4, 1).hopeless(curve(8.0, 7.0), others)
    assert MedianRule(4, 1).hopeless(curve(8.0), others)


def test_halving_keeps_the_best_third_at_each_rung():
    rule = SuccessiveHalving(epochs=1, factor=3)
    rivals = {n: curve(float(n)) for n in range(5)}
    assert [rule.hopeless(curve(x), rivals) for x in (-1.0, 0.5, 1.5, 9.0)] == [False, False, True, True]
    assert not rule.hopeless(curve(9.0, 9.0), rivals), "two is no rung"
    longer = {n: curve(9.0, 9.0, float(n)) for n in range(5)}
    assert rule.hopeless(curve(9.0, 9.0, 4.0), longer)
    assert not rule.hopeless(curve(9.0, 9.0, 0.5), longer)


def test_halving_lets_the_first_pass():
    rule = SuccessiveHalving(epochs=2, factor=3)
    assert not rule.hopeless(curve(9.0, 9.0), {0: curve(1.0, 1.0), 1: curve(1.0, 1.0)})
    assert rule.hopeless(curve(9.0, 9.0), {n: curve(1.0, 1.0) for n in range(3)})
    assert not rule.hopeless(curve(9.0), {n: curve(1.0, 1.0) for n in range(3)}), "the first rung is after two"


def test_names_and_arguments():
    assert rule_of(None) is None
    assert rule_of("median") == MedianRule()
    assert rule_of("halving") == SuccessiveHalving()
    own = MedianRule(trials=7)
    assert rule_of(own) is own
    with pytest.raises(ValueError, match="stop: expected None, 'median', 'halving'"):
        rule_of("best")
    with pytest.raises(ValueError, match="factor: expected a whole number from 2 up, got 1"):
        SuccessiveHalving(factor=1)
    with pytest.raises(ValueError, match="trials: expected a whole number from 1 up, got 0"):
        MedianRule(trials=0)


def test_best_by():
    assert best_by(curve(3.0, 1.0, 2.0), 2) == 1.0
    assert best_by(curve(3.0, 1.0), 0) == math.inf
