"""Whose turn it is: the one gate of all modes, without a server around it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elephas_fast.server import FOREVER, Gate


class World:
    """Workers, a driver and the server's bookkeeping around one gate; every step is chosen by ``random``.

    ``rounds``: rounds of one epoch of each member. A member is idle, or has begun a round, or (synchronous) has pushed
    and waits for the round to be applied.
    """

    def __init__(
        self, rounds: list[int], *, synchronous: bool, staleness: int | None, epochs: int, by_epoch: bool
    ) -> None:
        self.rounds, self.epochs, self.synchronous = rounds, epochs, synchronous
        self.clock = [0] * len(rounds)
        self.begun = [False] * len(rounds)
        self.done = [False] * len(rounds)
        self.applied = [0] * len(rounds)
        self.pending: set[int] = set()
        self.history: list[list[int]] = []
        self.gate = Gate(len(rounds), synchronous, staleness, lambda m: self.applied[m])
        self.by_epoch = by_epoch
        self.on_begin: Callable[[int], None] = lambda member: None
        if by_epoch:
            self.gate.orders.released = 1

    def finished_epochs(self, member: int) -> int:
        return self.epochs if self.rounds[member] == 0 else self.clock[member] // self.rounds[member]

    def step(self, member: int) -> bool:
        """Let one member do what it can; whether it did anything."""
        if self.done[member]:
            return False
        if self.begun[member]:
            self.begun[member] = False
            self.clock[member] += 1
            if self.synchronous:
                self.pending.add(member)
                self.complete()
            else:
                self.applied[member] += 1
            return True
        if self.clock[member] == self.rounds[member] * self.epochs:
            self.done[member] = True
            self.gate.leave(member)
            self.complete()
            return True
        if self.gate.why_wait(member, self.clock[member], training=True):
            return False
        self.begun[member] = True
        self.on_begin(member)
        return True

    def complete(self) -> None:
        if self.gate.round_complete(self.pending):
            for member in self.pending:
                self.applied[member] += 1
            self.history.append(sorted(self.pending))
            self.pending.clear()
            self.gate.advance()

    def drive(self) -> bool:
        """The driver releases the next epoch when all have finished the last; whether it did."""
        ready = min(map(self.finished_epochs, range(len(self.rounds)))) + 1
        if not self.by_epoch or ready <= self.gate.orders.released:
            return False
        self.gate.orders.released = ready
        return True

    def run(self, seed: int) -> None:
        chooser = random.Random(seed)
        for member, rounds in enumerate(self.rounds):
            self.gate.join(member, rounds)
        members = list(range(len(self.rounds)))
        while not all(self.done):
            chooser.shuffle(members)
            moved = [self.step(member) for member in members if chooser.random() < 0.7]
            if not any(moved):
                moved = [self.step(member) for member in members]
                assert any(moved) or self.drive(), "nobody can go on"


worlds = st.lists(st.integers(0, 5), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(worlds, st.integers(1, 3), st.booleans(), st.integers(0, 2**16))
def test_synchronous_rounds_take_every_push_once_and_never_stick(
    rounds: list[int], epochs: int, by_epoch: bool, seed: int
) -> None:
    world = World(rounds, synchronous=True, staleness=None, epochs=epochs, by_epoch=by_epoch)
    world.run(seed)
    one_epoch = [[m for m, r in enumerate(rounds) if r > within] for within in range(max(rounds))]
    assert world.history == one_epoch * epochs
    assert world.applied == [r * epochs for r in rounds]


@settings(max_examples=200, deadline=None)
@given(worlds, st.integers(0, 3), st.integers(1, 3), st.booleans(), st.integers(0, 2**16))
def test_a_bounded_gate_keeps_members_within_the_bound_and_never_sticks(
    rounds: list[int], staleness: int, epochs: int, by_epoch: bool, seed: int
) -> None:
    world = World(rounds, synchronous=False, staleness=staleness, epochs=epochs, by_epoch=by_epoch)
    longest = max([1, *rounds])

    def place(member: int, clock: int) -> int:
        epoch, within = divmod(clock, rounds[member])
        return epoch * longest + within

    def within_the_bound(member: int) -> None:
        active = [m for m, r in enumerate(rounds) if r and not world.done[m]]
        slowest = min(place(m, world.clock[m]) for m in active)
        ahead.append(place(member, world.clock[member]) - slowest)

    ahead: list[int] = []
    world.on_begin = within_the_bound
    world.run(seed)
    assert max(ahead, default=0) <= staleness
    assert world.applied == [r * epochs for r in rounds]


@settings(max_examples=50, deadline=None)
@given(worlds, st.integers(1, 3), st.booleans(), st.integers(0, 2**16))
def test_without_a_bound_only_the_driver_holds_anyone(
    rounds: list[int], epochs: int, by_epoch: bool, seed: int
) -> None:
    world = World(rounds, synchronous=False, staleness=None, epochs=epochs, by_epoch=by_epoch)
    world.run(seed)
    assert world.applied == [r * epochs for r in rounds]


def gate(
    rounds: dict[int, int],
    applied: dict[int, int] | None = None,
    *,
    workers: int | None = None,
    synchronous: bool = False,
    staleness: int | None = None,
) -> Gate:
    counts = applied or {}
    made = Gate(len(rounds) if workers is None else workers, synchronous, staleness, lambda m: counts.get(m, 0))
    for member, number in rounds.items():
        made.join(member, number)
    return made


@pytest.mark.parametrize("options", [{"synchronous": True}, {"staleness": 3}])
def test_nobody_begins_before_all_have_come(options: dict[str, int]) -> None:
    one = gate({0: 2}, workers=2, **options)  # type: ignore[arg-type]
    assert one.why_wait(0, 0, training=True) == "1 of 2 workers have come"
    assert one.why_wait(0, 0, training=False) == ""
    assert not one.round_complete({0})
    one.join(1, 0)
    assert one.why_wait(0, 0, training=True) == ""


def test_one_who_is_no_member_may_look_at_any_time() -> None:
    one = gate({0: 2}, workers=2, synchronous=True)
    assert one.why_wait(9, 0, training=False) == ""


@pytest.mark.parametrize(
    ("clock", "applied", "bound", "waits"),
    [
        (0, {0: 0, 1: 0}, 0, False),
        (1, {0: 1, 1: 0}, 0, True),
        (1, {0: 1, 1: 1}, 0, False),
        (2, {0: 2, 1: 0}, 2, False),
        (3, {0: 3, 1: 0}, 2, True),
        (3, {0: 3, 1: 1}, 2, False),
    ],
)
def test_a_bounded_gate_counts_from_the_slowest(clock: int, applied: dict[int, int], bound: int, waits: bool) -> None:
    reason = gate({0: 9, 1: 9}, applied, staleness=bound).why_wait(0, clock, training=True)
    assert bool(reason) is waits
    if waits:
        assert reason == f"the slowest worker is {clock - applied[1]} rounds behind, {bound} are allowed"


def test_nobody_waits_for_one_who_left_or_has_nothing_to_do() -> None:
    one = gate({0: 4, 1: 4, 2: 0}, {0: 3}, staleness=0)
    assert one.why_wait(0, 3, training=True)
    one.leave(1)
    assert one.why_wait(0, 3, training=True) == ""
    one.join(1, 4)
    assert one.why_wait(0, 3, training=True)


def test_a_short_epoch_that_is_finished_holds_nobody_back() -> None:
    one = gate({0: 2, 1: 10}, {0: 2, 1: 7}, staleness=1)
    one.orders.released = 1
    assert one.why_wait(1, 7, training=True) == ""
    assert one.why_wait(0, 2, training=True) == "the driver has not released epoch 2"


def test_members_of_unequal_length_take_part_while_they_have_rounds() -> None:
    one = gate({3: 1, 1: 3, 2: 0, 0: 2}, synchronous=True)
    seen = []
    for _ in range(6):
        seen.append(one.participants())
        one.advance()
    assert seen == [[0, 1, 3], [0, 1], [1]] * 2


def test_what_was_pushed_before_leaving_still_counts() -> None:
    one = gate({0: 1, 1: 1}, synchronous=True)
    assert not one.round_complete({0})
    one.leave(0)
    assert not one.round_complete({0})
    assert one.round_complete({0, 1})
    one.leave(1)
    assert one.round_complete({0})
    assert not one.round_complete(set())


def test_a_newcomer_counts_from_the_round_it_comes_in() -> None:
    one = gate({0: 1}, workers=1, synchronous=True)
    one.advance()
    one.advance()
    one.join(5, 1, newcomer=True)
    assert one.why_wait(5, 0, training=False) == ""
    assert one.why_wait(5, 1, training=False) == "round 3 is not complete"
    one.advance()
    assert one.why_wait(5, 1, training=False) == ""


def test_the_driver_releases_and_stops_epochs() -> None:
    one = gate({0: 4})
    assert (one.orders.released, one.orders.stop_at) == (FOREVER, FOREVER)
    one.orders.released = 1
    assert one.why_wait(0, 3, training=True) == ""
    assert one.why_wait(0, 4, training=True) == "the driver has not released epoch 2"
    assert one.why_wait(0, 4, training=False) == ""
    one.orders.released = 2
    assert one.why_wait(0, 4, training=True) == ""
    assert not one.must_stop(0, 400)
    one.orders.stop_at = 2
    assert [one.must_stop(0, clock) for clock in (0, 7, 8, 100)] == [False, False, True, True]
    assert not one.must_stop(9, 0)
