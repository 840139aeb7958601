"""What is tried next."""

from __future__ import annotations

import numpy as np
from hyperopt import hp

from elephas_fast.tuning.record import Record
from elephas_fast.tuning.space import Space

BOWL = {**{name: hp.uniform(name, -1, 1) for name in "abcd"}, "kind": hp.choice("kind", ["up", "down", "flat"])}


def least(algo: str, seed: int, trials: int = 50) -> float:
    """The least loss of a search in a bowl of four dimensions, whose floor is lower for one of three choices."""
    space = Space(BOWL, algo)
    record = Record(None, space.labels, None)
    losses = []
    for number in range(trials):
        document = space.suggest(record.trials, number, 1000 * seed + number)
        assert document is not None
        record.begin(document)
        values = space.values(document)
        losses.append(sum((values[name] - 0.3) ** 2 for name in "abcd") + 0.3 * (values["kind"] != "flat"))
        record.finish(document, {"loss": losses[-1], "status": "ok"}, [])
    return float(min(losses))


def test_tpe_learns_within_50_trials():
    random, tpe = ([least(algo, seed) for seed in range(20)] for algo in ("random", "tpe"))
    assert sum(a <= b for a, b in zip(tpe, random, strict=True)) > 12
    assert np.median(tpe) < 0.7 * np.median(random)
