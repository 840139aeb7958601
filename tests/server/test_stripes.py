"""Lock stripes: nothing is lost, a killed writer stops nobody, and nobody waits for ever."""

from __future__ import annotations

import os
import select
import threading
import time

import numpy as np
import pytest

from elephas_fast import _core
from elephas_fast.layout import Layout, TensorSpec
from elephas_fast.optimizers import SGD, Adam, Optimizer
from elephas_fast.store import ParameterStore
from elephas_fast.store.in_place import stripe_of
from tests.server.crew import Crew
from tests.server.killing import alone, die_holding, place_of, push_among_the_killed, push_ones

SIZE = 7 * _core.STRIPE - 100
OPTIMIZERS: list[Optimizer] = [SGD(1.0), SGD(1.0, momentum=1.0), Adam(0.01)]
PIECE = 16


def locks(count: int, timeout: float = 30.0) -> tuple[_core.Stripes, np.ndarray]:
    """Locks over ``count`` stripes of 16 elements, and the counter of those taken over."""
    memory = np.zeros(8 * count + 8, np.uint64)
    first = -memory.ctypes.data % 64 // 8
    counter = np.zeros(1, np.uint64)
    stripes = _core.Stripes(memory[first : first + 8 * count], counter, PIECE * count, PIECE, timeout=timeout)
    stripes.create()
    return stripes, counter


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.rule)
def test_processes_that_push_at_once_lose_nothing(crew: Crew, optimizer: Optimizer) -> None:
    rounds = 150
    with ParameterStore(np.zeros(SIZE, np.float32), optimizer, access="stripes", shared=True) as store:
        for line in range(4):
            store.ledger.hello(line, 0)
        arguments = [(place_of(store), optimizer.to_config(), SIZE, "stripes", line, 1, rounds) for line in range(4)]
        assert max(crew.run(push_ones, arguments, 90)) == store.version == 4 * rounds
        (expected,) = alone(optimizer, {4 * rounds})
        for name, values in store.slots.items():
            np.testing.assert_array_equal(values, np.full(SIZE, expected[name]))
        if optimizer.rule != "adam":  # whose step size depends on the step, and steps come in any order
            np.testing.assert_array_equal(store.pull(), np.full(SIZE, expected["weights"]))
        assert store.counts()["reclaimed"] == 0


@pytest.mark.parametrize("access", ["stripes", "compare_exchange"])
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_writers_cost_at_most_their_last_push(crew: Crew, access: str, seed: int) -> None:
    kills, rounds = 25, 3000
    rule = SGD(1.0)
    with ParameterStore(np.zeros(SIZE, np.float32), rule, access=access, lines=64, shared=True) as store:
        for line in range(2 + kills):
            store.ledger.hello(line, 0)
        crew.run(push_among_the_killed, [(place_of(store), rule.to_config(), SIZE, access, kills, rounds, seed)], 120)
        whole = sum(store.ledger.applied(line) for line in range(2 + kills))
        cut_short = sum(store.ledger.abandon(line) for line in range(2 + kills))
        assert [store.ledger.applied(line) for line in (0, 1)] == [rounds, rounds]
        assert whole > 2 * rounds
        counted = -store.pull()
        np.testing.assert_array_equal(counted, np.round(counted))
        assert whole <= counted.min() <= counted.max() <= whole + cut_short
        assert store.counts()["reclaimed"] <= kills


def test_killed_writers_leave_slots_that_some_number_of_pushes_gives(crew: Crew) -> None:
    kills, rounds = 20, 1500
    rule = Adam(0.001, beta_1=0.999)
    with ParameterStore(np.zeros(SIZE, np.float32), rule, access="stripes", lines=64, shared=True) as store:
        for line in range(2 + kills):
            store.ledger.hello(line, 0)
        task = (place_of(store), rule.to_config(), SIZE, "stripes", kills, rounds, 3)
        crew.run(push_among_the_killed, [task], 120)
        whole = sum(store.ledger.applied(line) for line in range(2 + kills))
        cut_short = sum(store.ledger.abandon(line) for line in range(2 + kills))
        possible = alone(rule, range(whole, whole + cut_short + 1))
        for name, values in store.slots.items():
            assert set(np.unique(values)) <= {one[name] for one in possible}


def test_locks_of_a_killed_process_are_taken_over(crew: Crew) -> None:
    size = 3 * _core.STRIPE
    with ParameterStore(np.zeros(size, np.float32), access="stripes", shared=True) as store:
        readable, writable = os.pipe()
        victims = Crew(1)
        victims.start(0, die_holding, place_of(store), size, f"/proc/{os.getpid()}/fd/{writable}")
        assert select.select([readable], [], [], 60.0)[0]
        victims.kill(0)
        os.close(readable)
        os.close(writable)
        store.push(np.ones(size, np.float32))
        np.testing.assert_array_equal(store.pull(), -np.ones(size))
        assert store.counts()["reclaimed"] == 3


def test_a_writer_does_what_is_free_and_comes_back_to_what_was_busy() -> None:
    stripes, counter = locks(700)
    weights = np.zeros(stripes.size, np.float32)
    done = threading.Event()

    def push() -> None:
        _core.Kernel("sgd")([1.0], weights, (), np.ones(stripes.size, np.float32), stripes=stripes, start=1)
        done.set()

    held = slice(10 * PIECE, 100 * PIECE)
    with stripes.hold(held.start, held.stop):
        writer = threading.Thread(target=push)
        writer.start()
        deadline = time.monotonic() + 30
        while np.count_nonzero(weights) < stripes.size - 90 * PIECE and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not done.is_set()
        assert (weights[held] == 0).all()
        assert (np.delete(weights, np.r_[held]) == -1).all()
    writer.join(30)
    np.testing.assert_array_equal(weights, -np.ones(stripes.size))
    assert counter[0] == 0


def test_more_busy_stripes_than_a_writer_remembers_are_waited_for() -> None:
    stripes, _ = locks(700)
    weights = np.zeros(stripes.size, np.float32)
    kernel, ones = _core.Kernel("sgd"), np.ones(stripes.size, np.float32)
    writer = threading.Thread(target=lambda: kernel([1.0], weights, (), ones, stripes=stripes))
    with stripes.hold():
        writer.start()
        time.sleep(0.05)
        assert not weights.any()
    writer.join(30)
    np.testing.assert_array_equal(weights, -ones)


def test_waiting_for_a_lock_that_is_kept_ends() -> None:
    stripes, _ = locks(4, timeout=0.2)
    weights = np.zeros(stripes.size, np.float32)
    ones = np.ones(stripes.size, np.float32)
    with stripes.hold(PIECE, 2 * PIECE):
        problems: list[BaseException] = []

        def try_all() -> None:
            for use in (
                lambda: _core.Kernel("sgd")([1.0], weights, (), ones, stripes=stripes),
                lambda: _core.blend(weights, ones, 1.0, stripes=stripes),
                lambda: stripes.hold().__enter__(),
                lambda: stripes.hold(timeout=0.01).__enter__(),
            ):
                with pytest.raises(TimeoutError, match="stripes: expected every lock to become free within") as caught:
                    use()
                problems.append(caught.value)

        other = threading.Thread(target=try_all)
        other.start()
        other.join(30)
        assert len(problems) == 4
        assert (weights[PIECE : 2 * PIECE] == 0).all()
    with stripes.hold(timeout=0.0):  # those that gave up have left nothing locked
        pass


@pytest.mark.parametrize("threads", [1, 3])
def test_stripes_change_no_bits(threads: int) -> None:
    stripes, _ = locks(70_000)
    parts = _core.Parts([(3, 400_000), (400_003, stripes.size - 50)])
    results = []
    for given in (None, stripes):
        rng = np.random.default_rng(0)
        state = [rng.random(stripes.size).astype(np.float32) for _ in range(3)]
        kernel = _core.Kernel("adam")
        gradient = np.linspace(-1, 1, stripes.size, dtype=np.float32)
        kernel([0.1] * 4, state[0], state[1:], gradient, parts=parts, stripes=given, start=5, threads=threads)
        results.append([array.tobytes() for array in state])
    assert results[0] == results[1]


def test_the_state_part_has_locks_of_its_own() -> None:
    stripes, _ = locks(4)
    state, values = np.zeros(30, np.float32), np.ones(30, np.float32)
    done = threading.Event()

    def blend() -> None:
        _core.blend(state, values, 1.0, stripes=stripes, offset=20)
        done.set()

    with stripes.hold(3 * PIECE, 4 * PIECE):  # elements 48 .. 63 of the vector: 28 .. of the state
        other = threading.Thread(target=blend)
        other.start()
        time.sleep(0.05)
        assert not done.is_set()
        assert (state[28:] == 0).all()
    other.join(30)
    np.testing.assert_array_equal(state, values)


def test_constraints_hold_among_concurrent_writers() -> None:
    constraint = {"class_name": "MaxNorm", "config": {"max_value": 2.0, "axis": 0}}
    layout = Layout.build([TensorSpec("kernel", (300, 200), "float32", True, constraint)])
    with ParameterStore(np.zeros(layout.size, np.float32), SGD(0.1), layout=layout, access="stripes") as store:

        def push(seed: int) -> None:
            gradient = np.random.default_rng(seed).standard_normal(layout.size).astype(np.float32)
            for _ in range(100):
                store.push(gradient)

        writers = [threading.Thread(target=push, args=(seed,)) for seed in range(3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        norms = np.linalg.norm(store.pull()[: 300 * 200].reshape(300, 200), axis=0)
        assert store.version == 300
        assert norms.max() <= 2.0001
        assert norms.min() > 1.0


def test_a_dead_thread_s_locks_are_never_more_than_the_system_gives_back() -> None:
    for size in (0, 1, 10**5, 10**8, 10**11):
        assert 1 <= _core.Stripes.count_of(size, stripe_of(size)) < _core.RECOVERABLE
    assert stripe_of(10**7) == _core.STRIPE


@pytest.mark.parametrize("count", [1, 2])
def test_memory_that_does_not_fit_is_refused(count: int) -> None:
    memory = np.zeros(24, np.uint64)
    first = -memory.ctypes.data % 64 // 8
    counter = np.zeros(1, np.uint64)
    with pytest.raises(ValueError, match=f"memory: expected uint64\\[{8 * count}\\] for {count} locks"):
        _core.Stripes(memory[first : first + 8 * count - 1], counter, count * 10, 10)
    with pytest.raises(ValueError, match="memory: expected an address that is a multiple of 64"):
        _core.Stripes(memory[first + 1 : first + 1 + 8 * count], counter, count * 10, 10)
    stripes = _core.Stripes(memory[first : first + 8 * count], counter, count * 10, 10)
    with pytest.raises(ValueError, match=f"stripes: expected locks for at least 21 elements, got locks for {count}0"):
        _core.Kernel("sgd").bind(np.zeros(21, np.float32), (), stripes=stripes)
