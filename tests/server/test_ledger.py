"""The push ledger: each round once, in order, from the newest attempt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elephas_fast.store import Ledger, Mark
from elephas_fast.store.segment import LINE_WORDS


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(np.zeros((4, LINE_WORDS), np.uint64))


def apply(ledger: Ledger, mark: Mark) -> str:
    verdict = ledger.check(mark)
    if verdict == "new":
        ledger.begin(mark)
        ledger.commit(mark)
    return verdict


def test_rounds_are_new_once_and_in_order(ledger: Ledger) -> None:
    assert ledger.hello(1, 0) == (1, 0)
    assert apply(ledger, Mark(1, 1, 2)) == "gap"
    assert apply(ledger, Mark(1, 1, 1)) == "new"
    assert apply(ledger, Mark(1, 1, 1)) == "duplicate"
    assert apply(ledger, Mark(1, 1, 3)) == "gap"
    assert apply(ledger, Mark(1, 1, 2)) == "new"
    assert ledger.applied(1) == 2
    assert [ledger.applied(line) for line in (0, 2, 3)] == [0, 0, 0]


def test_a_newer_attempt_fences_the_older_and_goes_on_where_it_was(ledger: Ledger) -> None:
    assert ledger.hello(0, attempt=5) == (1, 0)
    apply(ledger, Mark(0, 1, 1))
    assert ledger.hello(0, attempt=9) == (2, 1)
    assert apply(ledger, Mark(0, 1, 2)) == "fenced"
    assert apply(ledger, Mark(0, 1, 1)) == "fenced"
    assert ledger.hello(0, attempt=5) is None
    assert apply(ledger, Mark(0, 2, 2)) == "new"


def test_the_same_attempt_may_come_again(ledger: Ledger) -> None:
    assert ledger.hello(0, attempt=5) == (1, 0)
    assert ledger.hello(0, attempt=5) == (2, 0)
    assert ledger.check(Mark(0, 1, 1)) == "fenced"
    assert ledger.check(Mark(0, 2, 1)) == "new"


def test_a_hello_sent_twice_does_not_fence_its_sender(ledger: Ledger) -> None:
    assert ledger.hello(0, attempt=5) == (1, 0)
    assert ledger.hello(0, attempt=5, held=1) == (1, 0)
    assert ledger.check(Mark(0, 1, 1)) == "new"
    assert ledger.hello(0, attempt=9, held=1) == (2, 0)
    assert ledger.hello(0, attempt=9, held=1) == (3, 0)


def test_nothing_may_push_before_its_hello(ledger: Ledger) -> None:
    assert ledger.generation(2) == 0
    assert ledger.check(Mark(2, 1, 1)) == "fenced"


def test_a_round_whose_writer_died_is_skipped_once(ledger: Ledger) -> None:
    ledger.hello(0, 0)
    assert not ledger.abandon(0)
    ledger.begin(Mark(0, 1, 1))
    assert ledger.applied(0) == 0
    assert ledger.abandon(0)
    assert ledger.applied(0) == 1
    assert not ledger.abandon(0)
    assert ledger.hello(0, 1) == (2, 1)
    assert apply(ledger, Mark(0, 2, 1)) == "duplicate"
    assert apply(ledger, Mark(0, 2, 2)) == "new"
    assert not ledger.abandon(0)


def test_lines_of_partitions_are_never_handed_out(ledger: Ledger) -> None:
    ledger.reserve(2)
    assert sorted(line for line in (ledger.open_line(), ledger.open_line()) if line is not None) == [2, 3]
    assert ledger.open_line() is None
    ledger.close_line(3)
    assert ledger.open_line() == 3
    assert ledger.open_line() is None


def test_a_line_begins_afresh_but_its_generations_go_on(ledger: Ledger) -> None:
    line = ledger.open_line()
    assert line is not None
    assert ledger.hello(line, 0) == (1, 0)
    apply(ledger, Mark(line, 1, 1))
    ledger.finish(line)
    ledger.close_line(line)
    assert ledger.open_line() == line
    assert ledger.applied(line) == 0
    assert not ledger.finished(line)
    assert ledger.hello(line, 0) == (2, 0)
    assert ledger.check(Mark(line, 1, 1)) == "fenced"


def test_a_partition_that_is_done_is_remembered(ledger: Ledger) -> None:
    assert not ledger.finished(1)
    ledger.finish(1)
    assert [ledger.finished(line) for line in range(4)] == [False, True, False, False]


@given(st.lists(st.tuples(st.sampled_from(["push", "resend", "attempt", "old"]), st.integers(0, 3)), max_size=60))
def test_whatever_is_sent_each_round_is_applied_exactly_once(events: list[tuple[str, int]]) -> None:
    ledger = Ledger(np.zeros((4, LINE_WORDS), np.uint64))
    generation = [0] * 4
    attempt = [0] * 4
    applied: list[list[int]] = [[] for _ in range(4)]
    for event, line in events:
        if event == "attempt" or generation[line] == 0:
            attempt[line] += 1
            welcome = ledger.hello(line, attempt[line])
            assert welcome is not None
            generation[line], clock = welcome
            assert clock == len(applied[line])
            continue
        clock = len(applied[line]) + (event != "resend")
        mark = Mark(line, generation[line] - (event == "old"), clock)
        if apply(ledger, mark) == "new":
            applied[line].append(clock)
        else:
            assert event in ("old", "resend")
    for rounds in applied:
        assert rounds == list(range(1, len(rounds) + 1))
