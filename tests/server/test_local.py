"""``LocalPath``: a worker on the server's host applies its own updates, each whole and once, also if it is killed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from elephas_fast.client import PushRefused
from elephas_fast.client.local import LocalPath
from elephas_fast.layout import Layout, TensorSpec
from elephas_fast.optimizers import SGD, Adam, Optimizer
from elephas_fast.store import ATOMIC, Ledger, Mark, ParameterStore
from tests.server.crew import Crew
from tests.server.killing import alone, place_of, push_among_the_killed, push_ones
from tests.server.reference import MODEL, Reference, Vector, model_vector

ACCESSES = (ATOMIC, "stripes", "racy")
SIZE = 50_001
ONES = np.ones(4, np.float32)


def open_path(store: ParameterStore, line: int = 0, attempt: int = 0) -> LocalPath:
    welcome = store.ledger.hello(line, attempt)
    assert welcome is not None
    return LocalPath(store, line, welcome[0])


@pytest.mark.parametrize("optimizer", [SGD(1.0), Adam(0.01)], ids=lambda o: o.rule)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_version_ledger_and_weights_agree_exactly_after_kills(crew: Crew, optimizer: Optimizer, seed: int) -> None:
    kills, rounds = 25, 1500
    with ParameterStore(np.zeros(SIZE, np.float32), optimizer, lines=64, shared=True) as store:
        for line in range(2 + kills):
            store.ledger.hello(line, 0)
        task = (place_of(store), optimizer.to_config(), SIZE, ATOMIC, kills, rounds, seed)
        crew.run(push_among_the_killed, [task], 120)
        store.stop_accepting()
        applied = [store.ledger.applied(line) for line in range(2 + kills)]
        assert applied[:2] == [rounds, rounds]
        assert sum(applied) == store.version > 2 * rounds
        (expected,) = alone(optimizer, {store.version})
        np.testing.assert_array_equal(store.pull(), np.full(SIZE, expected.pop("weights")))
        assert list(store.slots) == list(expected)
        for name, values in store.slots.items():
            np.testing.assert_array_equal(values, np.full(SIZE, expected[name]))


def test_asynchronous_processes_lose_nothing(crew: Crew) -> None:
    rule = Adam(0.01)
    with ParameterStore(np.zeros(SIZE, np.float32), rule, shared=True) as store:
        for line in range(4):
            store.ledger.hello(line, 0)
        tasks = [(place_of(store), rule.to_config(), SIZE, ATOMIC, line, 1, 200) for line in range(4)]
        assert max(crew.run(push_ones, tasks, 90)) == store.version == 800
        (expected,) = alone(rule, {800})
        np.testing.assert_array_equal(store.pull(), np.full(SIZE, expected["weights"]))
        assert store.counts() == dict.fromkeys(store.counts(), 0)


class Killed(BaseException):
    """Stands for the end of a process at a place that a signal from outside cannot hit on purpose."""


@pytest.mark.parametrize("then", ["push", "hello", "stop", "open_line"])
def test_a_round_that_was_flipped_and_not_committed_is_committed_by_the_next(
    then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(ledger: Ledger, mark: Mark) -> None:
        raise Killed

    with ParameterStore(np.zeros(4, np.float32)) as store:
        path, other = open_path(store, 0), open_path(store, 1)
        path.push(1, ONES)
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "commit", die)
            with pytest.raises(Killed):
                path.push(2, ONES)
        assert (store.version, store.ledger.applied(0)) == (2, 1)
        if then == "push":
            assert other.push(1, ONES).version == 3
        elif then == "hello":
            assert store.ledger.hello(0, 1) == (2, 2)
        elif then == "open_line":
            store.ledger.reserve(2)
            assert store.ledger.open_line() is not None
        else:
            store.stop_accepting()
        assert store.ledger.applied(0) == 2


def test_a_line_that_begins_afresh_is_not_moved_by_its_former_owner_s_last_round() -> None:
    with ParameterStore(np.zeros(4, np.float32), lines=1) as store:
        line = store.ledger.open_line()
        assert line == 0
        open_path(store).push(1, ONES)
        store.ledger.close_line(0)
        assert store.ledger.open_line() == 0
        path = open_path(store)
        assert store.ledger.applied(0) == 0
        assert path.push(1, ONES).applied
        assert store.version == 2


@pytest.mark.parametrize("access", ACCESSES)
def test_rounds_are_applied_once_in_order_and_by_the_newest_attempt(access: str) -> None:
    with ParameterStore(np.zeros(4, np.float32), access=access) as store:
        old = open_path(store, 1, attempt=3)
        flat = np.empty(4, np.float32)
        assert old.push(1, ONES) == (1, True, 0, "new")
        assert old.push(1, ONES, pull=(flat, None)) == (1, False, 0, "duplicate")
        np.testing.assert_array_equal(flat, -ONES)
        with pytest.raises(PushRefused, match="expected round 2 of line 1, got 3") as refused:
            old.push(3, ONES)
        assert refused.value.code == "gap"
        new = open_path(store, 1, attempt=4)
        with pytest.raises(PushRefused, match="a newer attempt of partition 1 has taken over") as refused:
            old.push(2, ONES)
        assert refused.value.code == "fenced"
        assert new.push(2, ONES).version == 2
        store.stop_accepting()
        with pytest.raises(PushRefused, match="the fit has ended") as refused:
            new.push(3, ONES)
        assert refused.value.code == "closed"
        np.testing.assert_array_equal(store.pull(), -2 * ONES)
        faults = store.counts()
        assert (faults["duplicate"], faults["fenced"], faults["late"]) == (1, 1, 1)


def push_until_refused(path: LocalPath, code: str, started: threading.Event) -> None:
    """Push ones, round after round, and set ``started`` after the first; ends when refused for that reason."""
    ones = np.ones(path._store.layout.size, np.float32)
    clock = path._store.ledger.applied(path.line)
    try:
        while True:
            clock += 1
            path.push(clock, ones)
            started.set()
    except PushRefused as refused:
        if refused.code != code:
            raise


def test_after_a_hello_nothing_of_an_older_attempt_is_applied() -> None:
    with ParameterStore(np.zeros(2000, np.float32)) as store:
        for attempt in range(40):
            path = open_path(store, 0, attempt)
            started = threading.Event()
            pusher = threading.Thread(target=push_until_refused, args=(path, "fenced", started))
            pusher.start()
            assert started.wait(30)
            welcome = store.ledger.hello(0, attempt + 1)
            assert welcome is not None
            assert store.ledger.applied(0) == welcome[1] == store.version
            pusher.join(30)
            assert not pusher.is_alive()
            assert store.ledger.applied(0) == welcome[1]
        np.testing.assert_array_equal(store.pull(), np.full(2000, -store.version))


def test_nothing_is_applied_after_the_store_has_stopped_accepting() -> None:
    with ParameterStore(np.zeros(2000, np.float32)) as store:
        path = open_path(store)
        started = threading.Event()
        pusher = threading.Thread(target=push_until_refused, args=(path, "closed", started))
        pusher.start()
        assert started.wait(30)
        store.stop_accepting()
        version, weights = store.version, store.pull()
        pusher.join(30)
        assert store.version == version == store.ledger.applied(0)
        np.testing.assert_array_equal(store.pull(), weights)


def split(vector: Vector) -> tuple[list[Vector], Vector]:
    """A flat vector of MODEL as one array for each trainable tensor, in its own shape, and the state part."""
    tensors = [t for t in MODEL.tensors if t.role == "trainable"]
    arrays = [vector[t.offset : t.offset + t.size].reshape(t.shape).copy() for t in tensors]
    return arrays, vector[MODEL.trainable_size :].copy()


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("optimizer", [Adam(0.1, clipnorm=1.0), SGD(0.1, momentum=0.9, global_clipnorm=2.0)], ids=str)
@pytest.mark.parametrize("separate", [False, True])
def test_a_push_takes_the_weights_along(access: str, optimizer: Optimizer, separate: bool) -> None:
    reference = Reference(model_vector(0), optimizer, MODEL, 0.5)
    flat, opaque = np.empty(MODEL.size, np.float32), np.empty(MODEL.opaque_size, np.uint8)
    with ParameterStore(model_vector(0), optimizer, layout=MODEL, access=access, state_rate=0.5) as store:
        path = open_path(store)
        for clock in range(1, 8):
            given = np.full(MODEL.opaque_size, clock, np.uint8)
            gradient, state = split(model_vector(clock)) if separate else (model_vector(clock), None)
            outcome = path.push(clock, gradient, state=state, opaque=given, finite=clock % 2 == 0, pull=(flat, opaque))
            assert outcome == (clock, True, 0, "new")
            reference.push(model_vector(clock))
            reference.check(store)
            np.testing.assert_array_equal(flat, reference.weights)
            np.testing.assert_array_equal(opaque, given)


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("where", ["gradient", "state"])
def test_a_refused_push_takes_the_weights_as_they_are(access: str, where: str) -> None:
    flat = np.empty(MODEL.size, np.float32)
    with ParameterStore(model_vector(0), layout=MODEL, access=access) as store:
        path = open_path(store)
        gradient, state = split(model_vector(1))
        (gradient[1] if where == "gradient" else state)[-1] = np.nan
        outcome = path.push(1, gradient, state=state, pull=(flat, None))
        assert (outcome.applied, outcome.nonfinite, outcome.version) == (False, 1, 0)
        np.testing.assert_array_equal(flat, model_vector(0))
        np.testing.assert_array_equal(store.pull(), model_vector(0))
        assert path.push(2, model_vector(1)).version == 1


@pytest.mark.parametrize("access", ACCESSES)
def test_arrays_that_do_not_fit_the_weights_change_nothing(access: str) -> None:
    good, state = split(model_vector(1))
    bad = [
        (good[:1], r"gradient: expected 2 values, got 1"),
        ([good[1], good[0]], r"gradient\[0\]: expected float32\[63\], got float32\[7\]"),
        ([good[0].astype(np.float64), good[1]], r"gradient\[0\]: expected float32\[63\], got float64\[9, 7\]"),
        ([np.asfortranarray(good[0]), good[1]], r"gradient\[0\]: expected contiguous"),
    ]
    with ParameterStore(model_vector(0), layout=MODEL, access=access) as store:
        path = open_path(store)
        for gradient, message in bad:
            with pytest.raises(ValueError, match=message):
                path.push(1, gradient, state=state)
        with pytest.raises(ValueError, match=r"state: expected float32\[16\], got float32\[15\]"):
            path.push(1, good, state=state[1:])
        with pytest.raises(ValueError, match=r"pull: expected float32\["):
            path.push(1, good, state=state, pull=(np.empty(3, np.float32), None))
        np.testing.assert_array_equal(store.pull(), model_vector(0))
        assert (store.version, store.ledger.applied(0)) == (0, 0)


def test_gradients_of_empty_tensors_are_passed_over() -> None:
    shapes = {"a": (3, 2), "nothing": (0, 4), "b": (5,)}
    layout = Layout.build([TensorSpec(name, shape, "float32", True) for name, shape in shapes.items()])
    with ParameterStore(np.zeros(layout.size, np.float32), layout=layout, access="stripes") as store:
        store.push([np.ones(shape, np.float32) for shape in shapes.values()])
        expected = np.zeros(layout.size, np.float32)
        for begin, end in layout.ranges:
            expected[begin:end] = -1
        np.testing.assert_array_equal(store.pull(), expected)
        with pytest.raises(ValueError, match="gradient: expected 3 arrays, got 2"):
            store.push([np.ones((3, 2), np.float32), np.ones(5, np.float32)])


def test_live_weights_are_the_store_s_own() -> None:
    with ParameterStore(np.zeros(4, np.float32), access="stripes") as store:
        path = open_path(store)
        live = path.weights
        assert live is not None
        path.push(1, ONES)
        np.testing.assert_array_equal(live[0], -ONES)
        out = np.empty(4, np.float32)
        assert path.read(out, None, 1.0) == 1
        np.testing.assert_array_equal(out, -ONES)
        del live
    with ParameterStore(np.zeros(4, np.float32)) as store:
        assert open_path(store).weights is None
