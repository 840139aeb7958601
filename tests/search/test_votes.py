"""Votes against scikit-learn's VotingClassifier on the same members' outputs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.preprocessing import LabelEncoder

from elephas_fast.votes import Vote

ROWS, CLASSES = 4000, 5


class Fixed:
    """A fitted estimator whose outputs are given: its rows are the numbers of rows."""

    def __init__(self, outputs: np.ndarray) -> None:
        self.outputs = outputs
        self.classes_ = np.arange(outputs.shape[-1])

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        return self.outputs[rows[:, 0]]

    def predict(self, rows: np.ndarray) -> np.ndarray:
        found = self.outputs[rows[:, 0]]
        return found.argmax(axis=1) if found.ndim > 1 else found


def members(count: int, classes: int = CLASSES, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(ROWS, classes))
    logits = [shared + rng.normal(size=(ROWS, classes)) for _ in range(count)]
    return [np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in logits]


def scikit(outputs: list[np.ndarray], voting: str, weights: list[float] | None) -> VotingClassifier:
    classifier = VotingClassifier([(str(i), None) for i in range(len(outputs))], voting=voting, weights=weights)
    classifier.estimators_ = [Fixed(one) for one in outputs]
    classifier.le_ = LabelEncoder().fit(np.arange(outputs[0].shape[-1]))
    classifier.classes_ = classifier.le_.classes_
    return classifier


@pytest.mark.parametrize("weights", [None, [3.0, 1.0, 1.0, 0.5, 0.0]])
@pytest.mark.parametrize("classes", [2, CLASSES])
def test_against_scikit_learn(classes, weights):
    outputs, rows = members(5, classes), np.arange(ROWS)[:, None]
    soft = Vote.of("soft", 5, weights)
    theirs = scikit(outputs, "soft", weights)
    np.testing.assert_allclose(soft.outputs(outputs), theirs.predict_proba(rows), rtol=1e-12)
    np.testing.assert_array_equal(soft.decide(outputs), theirs.predict(rows))

    hard = Vote.of("hard", 5, weights)
    shares = hard.outputs(outputs)
    top = np.sort(shares, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-9
    assert clear.sum() > 0.5 * ROWS
    found = hard.decide(outputs)
    np.testing.assert_array_equal(found[clear], scikit(outputs, "hard", weights).predict(rows)[clear])
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    np.testing.assert_allclose(shares[np.arange(ROWS), found], shares.max(axis=1))
    if (~clear).any():
        best = np.stack([one.argmax(axis=1) for one in outputs])[:, ~clear]
        tied = np.isclose(shares[~clear], top[~clear][:, -1:])
        for row, classes_of_row in enumerate(best.T):
            wanted = next(c for c in classes_of_row if tied[row, c])
            assert found[~clear][row] == wanted


def test_ties_go_to_the_better_model():
    def sure_of(place: int) -> np.ndarray:
        return np.eye(4)[[place]]

    assert Vote.of("hard", 2, None).decide([sure_of(3), sure_of(0)]) == [3]
    assert Vote.of("hard", 4, None).decide([sure_of(3), sure_of(1), sure_of(1), sure_of(3)]) == [3]
    assert Vote.of("hard", 3, None).decide([sure_of(3), sure_of(1), sure_of(1)]) == [1]
    assert Vote.of("hard", 5, None).decide([sure_of(2), sure_of(3), sure_of(1), sure_of(1), sure_of(3)]) == [3]
    assert Vote.of("hard", 2, [1, 1.5]).decide([sure_of(3), sure_of(0)]) == [0]


def test_one_probability_is_two_classes():
    outputs = [np.array([[0.9], [0.4]]), np.array([[0.8], [0.1]]), np.array([[0.3], [0.2]])]
    np.testing.assert_array_equal(Vote.of("hard", 3, None).decide(outputs), [1, 0])
    np.testing.assert_allclose(Vote.of("soft", 3, None).outputs(outputs)[:, 1], [2 / 3, 0.7 / 3])


def test_regression_against_scikit_learn():
    outputs = [np.random.default_rng(seed).normal(size=ROWS) for seed in range(3)]
    regressor = VotingRegressor([(str(i), None) for i in range(3)], weights=[1, 2, 3])
    regressor.estimators_ = [Fixed(one) for one in outputs]
    rows = np.arange(ROWS)[:, None]
    ours = Vote.of("mean", 3, [1, 2, 3]).decide([one[:, None] for one in outputs])
    np.testing.assert_allclose(ours[:, 0], regressor.predict(rows))


def test_sequences_of_classes():
    outputs = [one.reshape(ROWS // 4, 4, CLASSES) for one in members(3)]
    found = Vote.of("hard", 3, None).decide(outputs)
    assert found.shape == (ROWS // 4, 4)
    np.testing.assert_array_equal(found.ravel(), Vote.of("hard", 3, None).decide(members(3)))


@pytest.mark.parametrize(("weights", "words"), [
    ([1.0], "expected 2, one for each model, got 1"), ([0, 0], "not all of them 0"), ([1, -1], "from 0 up"),
    ([1, float("nan")], "from 0 up"),
])  # fmt: skip
def test_bad_weights(weights, words):
    with pytest.raises(ValueError, match="weights: ") as caught:
        Vote.of("hard", 2, weights)
    assert words in str(caught.value)
    with pytest.raises(ValueError, match="voting: expected 'hard' or 'soft', got 'loud'"):
        Vote.of("loud", 2, None)
