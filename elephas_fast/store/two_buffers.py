"""Whole pushes: from one buffer into the other, then flip (``access='atomic'``).

One robust lock, shared by processes, is held over a push; readers do not take it. A writer that is killed leaves the
target buffer half-written and the current one as it was. Whose round a buffer holds is noted in it before the flip, and
in the ledger after it; whoever takes the lock next makes up for a writer that was killed in between, so that
version and ledger never disagree (ADR 9).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from elephas_fast import _core
from elephas_fast.layout import Layout
from elephas_fast.optimizers import FlatOptimizer
from elephas_fast.store.header import VERSION, WRITING, Counter, Header
from elephas_fast.store.ledger import Ledger, Mark
from elephas_fast.store.segment import Segment
from elephas_fast.store.update import PushOutcome, Update


class Settled:
    """The store's lock, and the ledger brought up to what the current buffer holds when it is taken."""

    def __init__(self, segment: Segment, header: Header) -> None:
        self.lock = _core.Stripes(segment.lock, segment.header[Counter.RECLAIMED : Counter.RECLAIMED + 1], 1, 1)
        self._header = header
        self._ledger: Ledger | None = None

    def attach(self, ledger: Ledger) -> None:
        """The ledger whose lines ``settle`` writes; before first use."""
        self._ledger = ledger

    @contextmanager
    def hold(self) -> Iterator[None]:
        """A context in which nobody applies a whole push and all that has been applied is in the ledger.

        Raises ``TimeoutError`` where another process keeps the lock.
        """
        with self.lock.hold():
            self.settle()
            yield

    def settle(self) -> None:
        """Commit the round that the current buffer holds if its writer did not; the lock must be held."""
        assert self._ledger is not None
        buffer = self._header.version & 1
        line, clock = self._header.noted(buffer)
        if clock:
            if self._ledger.applied(line) < clock:
                self._ledger.commit(Mark(line, 0, clock))
            self._header.note(buffer, 0, 0)


class TwoBuffers:
    """Applies pushes to a segment of two buffers. Thread-safe, and safe among processes."""

    def __init__(
        self,
        segment: Segment,
        header: Header,
        ledger: Ledger,
        settled: Settled,
        layout: Layout,
        *,
        check_finite: bool,
        state_rate: float,
    ) -> None:
        self._segment, self._header, self._ledger, self._settled = segment, header, ledger, settled
        self._words = header.words
        self._check_finite, self._state_rate = check_finite, state_rate
        self._split, self._size, self._opaque_size = layout.trainable_size, layout.size, layout.opaque_size

    def bind(self, optimizer: FlatOptimizer) -> None:
        """Apply pushes by this optimizer from now on."""
        segment, split = self._segment, self._split
        self._bound = [
            optimizer.bind(
                segment.weights[source][:split],
                segment.slots[source],
                weights_out=segment.weights[1 - source][:split],
                slots_out=segment.slots[1 - source],
            )
            for source in (0, 1)
        ]

    def push(self, update: Update) -> PushOutcome:
        """Apply one update, or leave everything as it is; see ``ParameterStore.push``."""
        with self._settled.lock.hold():
            self._settled.settle()
            self._header.refuse_if_closed()
            version = self._words.load(VERSION)
            if update.verify:
                verdict = self._ledger.check(update.marks[0])
                if verdict != "new":
                    self._pull(version & 1, update)
                    return PushOutcome(version, False, 0, verdict)
            return self._apply(version, update)

    def _apply(self, version: int, update: Update) -> PushOutcome:
        words, marks = self._words, update.marks
        source, target = version & 1, (version + 1) & 1
        words.store(WRITING, version + 1)
        copy_to = update.flat if update.flat is None or self._split == self._size else update.flat[: self._split]
        nonfinite = self._bound[source].apply(version, update.trainable, scale=update.scale, copy_to=copy_to)
        if self._split < self._size:
            nonfinite += self._move_state(source, target, update)
        if nonfinite and self._check_finite:
            self._header.count(Counter.NONFINITE)
            for mark in marks:
                self._ledger.commit(mark)
            self._pull(source, update)
            return PushOutcome(version, False, nonfinite)
        if self._opaque_size:
            opaque = self._segment.opaque[source] if update.opaque is None else update.opaque
            self._segment.opaque[target][:] = opaque
            if update.opaque_out is not None:
                update.opaque_out[:] = opaque
        if len(marks) == 1:
            self._header.note(target, marks[0].line, marks[0].clock)
        else:
            self._header.note(target, 0, 0)
        words.store(VERSION, version + 1)
        for mark in marks:
            self._ledger.commit(mark)
        return PushOutcome(version + 1, True, nonfinite)

    def _move_state(self, source: int, target: int, update: Update) -> int:
        split = self._split
        result = self._segment.weights[target][split:]
        _core.copy(self._segment.weights[source][split:], result)
        nonfinite = 0 if update.state is None else _core.blend(result, update.state, self._state_rate)
        if update.flat is not None:
            _core.copy(result, update.flat[split:])
        return nonfinite

    def _pull(self, buffer: int, update: Update) -> None:
        if update.flat is not None:
            _core.copy(self._segment.weights[buffer], update.flat)
        if update.opaque_out is not None and self._opaque_size:
            update.opaque_out[:] = self._segment.opaque[buffer]
