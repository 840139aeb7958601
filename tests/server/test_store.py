"""The parameter store in one process: whole pushes, consistent reads, and nothing that is not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elephas_fast.optimizers import SGD, Adam, Optimizer, RMSprop
from elephas_fast.store import ATOMIC, Mark, ParameterStore
from tests.server.reference import MODEL, Reference, Vector, model_vector, normal

ACCESSES = (ATOMIC, "stripes", "racy", "relaxed", "compare_exchange")
OPTIMIZERS: list[Optimizer] = [
    SGD(learning_rate=0.5),
    SGD(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    RMSprop(learning_rate=0.01, momentum=0.5, centered=True),
    Adam(learning_rate=0.01, amsgrad=True, clipnorm=1.0),
]


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__ + o.rule)
def test_many_pushes_equal_the_optimizer_on_plain_arrays(access: str, optimizer: Optimizer) -> None:
    initial = model_vector(0)
    reference = Reference(initial, optimizer, MODEL)
    with ParameterStore(initial, optimizer, layout=MODEL, access=access) as store:
        reference.check(store)
        for step in range(1, 41):
            gradient = model_vector(step)
            outcome = store.push(gradient)
            reference.push(gradient)
            assert (outcome.version, outcome.applied, outcome.nonfinite) == (step, True, 0)
            if step % 7 == 1:
                reference.check(store)
        reference.check(store)
    np.testing.assert_array_equal(initial, model_vector(0))


def test_the_default_optimizer_is_plain_subtraction() -> None:
    initial, gradient = normal(1001, 1), normal(1001, 2)
    with ParameterStore(initial) as store:
        store.push(gradient)
        np.testing.assert_array_equal(store.pull(), initial - gradient)
        assert store.slots == {}


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("rate", [1.0, 0.25])
def test_the_state_part_moves_towards_the_pushed_values_without_the_optimizer(access: str, rate: float) -> None:
    reference = Reference(model_vector(0), SGD(learning_rate=0.1), MODEL, rate)
    with ParameterStore(model_vector(0), SGD(learning_rate=0.1), layout=MODEL, access=access, state_rate=rate) as store:
        for step in range(1, 6):
            store.push(model_vector(step))
            reference.push(model_vector(step))
        state = slice(MODEL.trainable_size, None)
        np.testing.assert_allclose(store.pull()[state], reference.weights[state], rtol=1e-6)
        if rate == 1.0:
            np.testing.assert_array_equal(store.pull()[state], model_vector(5)[state])


@pytest.mark.parametrize("access", ACCESSES)
def test_opaque_bytes_are_taken_as_they_are_and_kept_where_none_come(access: str) -> None:
    first, second = np.arange(64, dtype=np.uint8), np.arange(64, 128, dtype=np.uint8)
    flat, opaque = np.empty(MODEL.size, np.float32), np.empty(MODEL.opaque_size, np.uint8)
    with ParameterStore(model_vector(0), layout=MODEL, access=access, opaque=first) as store:
        store.read(flat, opaque)
        np.testing.assert_array_equal(opaque, first)
        store.push(model_vector(1), opaque=second)
        for step in range(3):
            assert store.read(flat, opaque) == 1 + step
            np.testing.assert_array_equal(opaque, second)
            store.push(model_vector(step))


POISON = {
    "NaN in a gradient": (3, np.nan),
    "infinity in a gradient": (3, np.inf),
    "minus infinity in the last weight": (MODEL.ranges[1][1] - 1, -np.inf),
    "NaN in the state part": (MODEL.trainable_size + 1, np.nan),
    "overflow of the sum": (2, -3e38),
}


# Hogwild looks at the update before it writes, not at the result.
POISONED = [
    pytest.param(at, value, access, id=f"{what}, {access}")
    for what, (at, value) in POISON.items()
    for access in ACCESSES
    if access == ATOMIC or not np.isfinite(value)
]


@pytest.mark.fault(10)
@pytest.mark.parametrize("on_nonfinite", ["reject", "raise"])
@pytest.mark.parametrize(("at", "value", "access"), POISONED)
def test_an_update_that_is_not_finite_changes_nothing(at: int, value: float, on_nonfinite: str, access: str) -> None:
    initial = model_vector(0)
    initial[2] = 3e38
    optimizer = SGD(learning_rate=1.0, momentum=0.5)
    reference = Reference(initial, optimizer, MODEL)
    opaque = np.full(MODEL.opaque_size, 7, np.uint8)
    kept = np.zeros(MODEL.opaque_size, np.uint8)
    with ParameterStore(
        initial, optimizer, layout=MODEL, access=access, opaque=kept, on_nonfinite=on_nonfinite
    ) as store:
        line = store.ledger.open_line()
        assert line is not None
        generation, _ = store.ledger.hello(line, 0) or (0, 0)
        for round_ in range(3):
            bad = model_vector(9)
            bad[at] = value
            mark = Mark(line, generation, 2 * round_ + 1)
            outcome = store.push(bad, opaque=opaque, marks=[mark])
            assert not outcome.applied
            assert outcome.nonfinite >= 1
            assert outcome.version == round_
            assert store.ledger.applied(line) == mark.clock
            assert store.counts()["nonfinite"] == round_ + 1
            reference.check(store)
            got = np.ones(MODEL.opaque_size, np.uint8)
            store.read(np.empty(MODEL.size, np.float32), got)
            np.testing.assert_array_equal(got, kept)
            good = model_vector(round_ + 1)
            good[2] = 0.0
            assert store.push(good, marks=[Mark(line, generation, 2 * round_ + 2)]).applied
            reference.push(good)
            reference.check(store)


@pytest.mark.parametrize("access", ACCESSES)
def test_apply_takes_what_is_not_finite(access: str) -> None:
    with ParameterStore(np.zeros(4, np.float32), access=access, on_nonfinite="apply") as store:
        outcome = store.push(np.array([1, np.nan, np.inf, 2], np.float32))
        assert outcome.applied
        np.testing.assert_array_equal(store.pull(), np.array([-1, np.nan, -np.inf, -2], np.float32))
        assert store.counts()["nonfinite"] == 0


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("version", [6, 7])
def test_restore_goes_on_as_if_there_had_been_no_end(access: str, version: int) -> None:
    optimizer = Adam(learning_rate=0.01)
    reference = Reference(model_vector(0), optimizer, MODEL)
    for step in range(version):
        reference.push(model_vector(step + 1))
    saved = {n: s.copy() for n, s in zip(reference.rule.slot_names, reference.slots, strict=True)}
    with ParameterStore(reference.weights, optimizer, layout=MODEL, access=access) as store:
        store.restore(version, saved)
        reference.check(store)
        for step in range(5):
            reference.push(model_vector(100 + step))
            store.push(model_vector(100 + step))
            reference.check(store)


@pytest.mark.parametrize(
    "slots", [{"momentum": np.zeros(MODEL.trainable_size, np.float32)}, {"velocity": np.zeros(3, np.float32)}]
)
def test_restore_refuses_slots_of_another_optimizer(slots: dict[str, Vector]) -> None:
    optimizer = RMSprop() if "momentum" in slots else Adam()
    with (
        ParameterStore(model_vector(0), optimizer, layout=MODEL) as store,
        pytest.raises(ValueError, match=f"slots: expected .*velocity.* of {MODEL.trainable_size} elements, got '"),
    ):
        store.restore(1, slots)


def test_a_changed_learning_rate_holds_from_the_next_push() -> None:
    with ParameterStore(np.zeros(3, np.float32), SGD(learning_rate=1.0)) as store:
        store.push(np.ones(3, np.float32))
        store.set_learning_rate(0.5)
        store.push(np.ones(3, np.float32))
        store.set_learning_rate(0.0)
        store.push(np.ones(3, np.float32))
        np.testing.assert_array_equal(store.pull(), np.full(3, -2.0, np.float32))


@pytest.mark.parametrize("access", ACCESSES)
def test_a_closed_store_takes_no_push_and_still_reads(access: str) -> None:
    with ParameterStore(np.zeros(4, np.float32), access=access) as store:
        store.push(np.ones(4, np.float32))
        store.stop_accepting()
        assert store.closed
        with pytest.raises(RuntimeError, match="the parameter store is closed: the fit has ended"):
            store.push(np.ones(4, np.float32))
        np.testing.assert_array_equal(store.pull(), -np.ones(4))
        assert store.version == 1
        assert store.counts()["late"] == 1


def test_memory_that_has_been_given_back_cannot_be_read() -> None:
    store = ParameterStore(np.zeros(4, np.float32))
    store.close()
    store.close()
    for use in (lambda: store.version, store.pull, lambda: store.push(np.zeros(4, np.float32))):
        with pytest.raises(RuntimeError, match="memory has been given back"):
            use()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial": np.zeros(4)}, r"initial: expected a float32 vector, got float64\[4\]"),
        ({"initial": np.zeros((2, 2), np.float32)}, r"initial: expected a float32 vector, got float32\[2, 2\]"),
        ({"initial": np.zeros(4, np.float32), "layout": MODEL}, r"initial: expected \d+ elements as the layout says, "),
        ({"access": "hogwild"}, r"access: expected one of 'atomic', 'stripes', 'racy', .* got 'hogwild'"),
        ({"on_nonfinite": "ignore"}, r"on_nonfinite: expected one of 'reject', .* got 'ignore'"),
        ({"state_rate": 0.0}, r"state_rate: expected a rate in \(0, 1\], got 0.0"),
        ({"state_rate": 1.5}, r"state_rate: expected a rate in \(0, 1\], got 1.5"),
        ({"optimizer": "ftrl"}, r"optimizer: expected one of .*, got ftrl"),
        ({"lines": -1}, r"segment lines: expected a count from 0"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParameterStore(**{"initial": np.zeros(4, np.float32), **arguments})


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient": np.zeros(3, np.float32)}, r"gradient: expected float32\[\d+\], got float32\[3\]"),
        ({"gradient": np.zeros(MODEL.size)}, r"gradient: expected float32\[\d+\], got float64"),
        ({"opaque": np.zeros(3, np.uint8)}, r"opaque: expected uint8\[64\], got uint8\[3\]"),
        ({"opaque": np.zeros(64, np.int8)}, r"opaque: expected uint8\[64\], got int8\[64\]"),
    ],
)
def test_a_push_that_does_not_fit_changes_nothing(arguments: dict[str, Any], message: str, access: str) -> None:
    with ParameterStore(model_vector(0), layout=MODEL, access=access) as store:
        with pytest.raises(ValueError, match=message):
            store.push(**{"gradient": model_vector(1), **arguments})
        np.testing.assert_array_equal(store.pull(), model_vector(0))
        assert store.version == 0


@pytest.mark.parametrize("out", [np.zeros(3, np.float32), np.zeros(MODEL.size)])
def test_reading_into_a_buffer_that_does_not_fit_is_refused(out: Vector) -> None:
    with ParameterStore(model_vector(0), layout=MODEL) as store:
        with pytest.raises(ValueError, match=r"out: expected float32\["):
            store.read(out)
        good = np.empty(MODEL.size, np.float32)
        assert store.pull(good) is good
        np.testing.assert_array_equal(good, model_vector(0))


def test_an_empty_vector_is_a_store() -> None:
    with ParameterStore(np.zeros(0, np.float32)) as store:
        assert store.push(np.zeros(0, np.float32)).version == 1
        assert store.pull().shape == (0,)


@pytest.mark.parametrize("access", ["atomic", "stripes"])
def test_a_store_goes_on_from_a_snapshot_with_its_ledger(access: str) -> None:
    with ParameterStore(np.zeros(40, np.float32), Adam(learning_rate=0.1), access=access, lines=4) as first:
        first.ledger.hello(1, attempt=7)
        for clock in (1, 2, 3):
            first.push(np.full(40, clock, np.float32), marks=[Mark(1, 1, clock)])
        moment = first.snapshot(2)
        assert (moment.version, [line.clock for line in moment.lines]) == (3, [0, 3])
        with ParameterStore(moment.weights, Adam(learning_rate=0.1), access=access, lines=4) as second:
            second.restore(moment.version, moment.slots, moment.lines)
            assert second.ledger.hello(1, attempt=0) == (1, 3)
            assert second.ledger.check(Mark(1, 1, 3)) == "duplicate"
            assert not second.ledger.abandon(1)
            for store in (first, second):
                store.push(np.full(40, 4, np.float32), marks=[Mark(1, 1, 4)])
            np.testing.assert_array_equal(first.pull(), second.pull())
            assert first.version == second.version == 4
