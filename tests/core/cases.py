"""Hyper-parameters under test: per optimizer, its own options times the options all share."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from elephas_fast import optimizers

Arguments = dict[str, Any]

SCHEDULES: list[tuple[str, Arguments]] = [
    ("ExponentialDecay", {"initial_learning_rate": 0.05, "decay_steps": 30, "decay_rate": 0.7}),
    ("ExponentialDecay", {"initial_learning_rate": 0.05, "decay_steps": 30, "decay_rate": 0.7, "staircase": True}),
    ("PiecewiseConstantDecay", {"boundaries": [20, 90], "values": [0.05, 0.01, 0.002]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.05, "decay_steps": 150, "end_learning_rate": 0.001}),
    ("PolynomialDecay", {"initial_learning_rate": 0.05, "decay_steps": 40, "power": 0.5, "cycle": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.05, "decay_steps": 10, "decay_rate": 0.3}),
    (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.05, "decay_steps": 7, "decay_rate": 0.3, "staircase": True},
    ),
    ("CosineDecay", {"initial_learning_rate": 0.05, "decay_steps": 120, "alpha": 0.1}),
    (
        "CosineDecay",
        {"initial_learning_rate": 0.001, "decay_steps": 120, "warmup_target": 0.05, "warmup_steps": 20},
    ),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.05, "first_decay_steps": 30}),
    (
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.05, "first_decay_steps": 25, "t_mul": 1.0, "m_mul": 0.8, "alpha": 0.01},
    ),
]

SHARED: list[Arguments] = [
    {},
    {"learning_rate": 0.03},
    {"weight_decay": 0.02},
    {"clipnorm": 0.5},
    {"clipvalue": 0.3},
    {"global_clipnorm": 3.0, "weight_decay": 0.004},
    {"learning_rate": SCHEDULES[1]},
    {"learning_rate": SCHEDULES[8], "clipvalue": 0.7, "weight_decay": 0.01},
]

OWN: dict[str, list[Arguments]] = {
    "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.37}],
    "RMSprop": [
        {},
        {"rho": 0.5, "epsilon": 1e-3},
        {"momentum": 0.8},
        {"centered": True, "epsilon": 1e-2},
        {"centered": True, "momentum": 0.6, "rho": 0.95, "epsilon": 1e-2},
    ],
    "Adagrad": [
        {},
        {"initial_accumulator_value": 0.0},
        {"initial_accumulator_value": 2.5, "epsilon": 1e-10},
        {"epsilon": 0.1},
    ],
    "Adadelta": [{}, {"rho": 0.5}, {"epsilon": 1e-3, "rho": 0.99}, {"epsilon": 1e-12}],
    "Adam": [
        {},
        {"amsgrad": True},
        {"beta_1": 0.0, "beta_2": 0.9},
        {"beta_1": 0.99, "beta_2": 0.9999, "epsilon": 1e-3},
        {"epsilon": 1e-12, "amsgrad": True, "beta_2": 0.5},
    ],
}

TABLE = [(name, {**own, **shared}) for name, owns in OWN.items() for own in owns for shared in SHARED]

_fraction = st.floats(0.0, 0.99)
_epsilon = st.floats(1e-10, 1e-1)
_DRAWN: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "SGD": {"momentum": _fraction, "nesterov": st.booleans()},
    # Below that the centered variance of clipped gradients is a difference of equal numbers: no digits to compare.
    "RMSprop": {
        "rho": st.floats(0.3, 0.99),
        "momentum": _fraction,
        "epsilon": st.floats(1e-2, 1e-1),
        "centered": st.booleans(),
    },
    "Adagrad": {"initial_accumulator_value": st.floats(0.0, 3.0), "epsilon": _epsilon},
    "Adadelta": {"rho": _fraction, "epsilon": _epsilon},
    "Adam": {
        "beta_1": _fraction,
        "beta_2": st.floats(0.3, 0.9999),
        "epsilon": _epsilon,
        "amsgrad": st.booleans(),
    },
}
_CLIPS = st.sampled_from([{}, {"clipnorm": 1.5}, {"clipvalue": 0.4}, {"global_clipnorm": 0.9}])
_DECAY = st.one_of(st.none(), st.floats(0.0, 0.1))


def drawn(name: str) -> st.SearchStrategy[Arguments]:
    """Any arguments of the optimizer of that name."""
    own = st.fixed_dictionaries(_DRAWN[name])
    shared = st.fixed_dictionaries(
        {
            "learning_rate": st.one_of(st.floats(1e-4, 0.2), st.sampled_from(SCHEDULES)),
            "weight_decay": _DECAY,
        }
    )
    return st.builds(lambda a, b, c: {**a, **b, **c}, own, shared, _CLIPS)


def ours(name: str, arguments: Arguments) -> optimizers.Optimizer:
    """The optimizer of `elephas_fast` with these arguments."""
    return getattr(optimizers, name)(**with_schedule(arguments, optimizers))


def with_schedule(arguments: Arguments, home: Any) -> Arguments:
    rate = arguments.get("learning_rate")
    if isinstance(rate, tuple):
        return {**arguments, "learning_rate": getattr(home, rate[0])(**rate[1])}
    return dict(arguments)
