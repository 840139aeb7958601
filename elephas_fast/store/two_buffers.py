"""Whole pushes: from one buffer into the other, then flip (``access='atomic'``).

One robust lock, shared by processes, is held over a push; readers do not take it. A writer that is killed leaves the
target buffer half-written and the current one as it was. Whose round a buffer holds is noted in it before the flip, and
in the ledger after it; whoever takes the lock next makes up for a writer that was killed in between, so that
version and ledger never disagree (ADR 9).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from elephas_fast import _core
from elephas_fast.layout import ByteArray, Float32Array, Layout
from elephas_fast.optimizers import FlatOptimizer
from elephas_fast.store.header import CLOSED, EVERY_LINE, VERSION, WRITING, Counter, Header
from elephas_fast.store.ledger import Ledger, Mark
from elephas_fast.store.segment import Segment
from elephas_fast.store.update import Gradient, PushOutcome


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
        noted = self._header.noted(buffer)
        if noted is not None:
            line, clock = noted
            if line == EVERY_LINE:
                self._ledger.commit_begun()
            elif self._ledger.applied(line) < clock:
                self._ledger.commit(Mark(line, 0, clock))
            self._header.forget(buffer)


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

    def push(
        self,
        trainable: Gradient,
        state: Float32Array | None,
        scale: float,
        opaque: ByteArray | None,
        marks: Sequence[Mark],
        finite: bool,
        flat: Float32Array | None,
        opaque_out: ByteArray | None,
        verify: bool,
    ) -> PushOutcome:
        """Apply one checked update, or leave everything as it is; see ``ParameterStore.push``. ``flat`` and
        ``opaque_out`` take the weights after it. ``finite`` is of no use here, where results are looked at.
        """
        with self._settled.lock.hold():
            self._settled.settle()
            if self._words.load(CLOSED):
                self._header.refuse()
            version = self._words.load(VERSION)
            if verify:
                verdict = self._ledger.check(marks[0])
                if verdict != "new":
                    self._pull(version & 1, flat, opaque_out)
                    return PushOutcome(version, False, 0, verdict)
            nonfinite = self._write(version, trainable, state, scale, flat)
            if nonfinite and self._check_finite:
                self._header.count(Counter.NONFINITE)
                for mark in marks:
                    self._ledger.commit(mark)
                self._pull(version & 1, flat, opaque_out)
                return PushOutcome(version, False, nonfinite)
            target = (version + 1) & 1
            if self._opaque_size:
                self._move_opaque(target, opaque, opaque_out)
            if len(marks) == 1:
                self._header.note(target, marks[0].line, marks[0].clock)
            elif marks:
                for mark in marks:
                    self._ledger.begin(mark)
                self._header.note(target, EVERY_LINE, 1)
            else:
                self._header.forget(target)
            self._words.store(VERSION, version + 1)
            for mark in marks:
                self._ledger.commit(mark)
            self._header.forget(target)
            return PushOutcome(version + 1, True, nonfinite)

    def _write(
        self,
        version: int,
        trainable: Gradient,
        state: Float32Array | None,
        scale: float,
        flat: Float32Array | None,
    ) -> int:
        """Fill the buffer that is not current; the number of its new values that are not finite."""
        self._words.store(WRITING, version + 1)
        bound, split = self._bound[version & 1], self._split
        if split == self._size:
            return bound.apply(version, trainable, scale=scale, copy_to=flat)
        nonfinite = bound.apply(version, trainable, scale=scale, copy_to=None if flat is None else flat[:split])
        result = self._segment.weights[(version + 1) & 1][split:]
        _core.copy(self._segment.weights[version & 1][split:], result)
        if state is not None:
            nonfinite += _core.blend(result, state, self._state_rate)
        if flat is not None:
            _core.copy(result, flat[split:])
        return nonfinite

    def _move_opaque(self, target: int, opaque: ByteArray | None, opaque_out: ByteArray | None) -> None:
        result = self._segment.opaque[target]
        result[:] = self._segment.opaque[1 - target] if opaque is None else opaque
        if opaque_out is not None:
            opaque_out[:] = result

    def _pull(self, buffer: int, flat: Float32Array | None, opaque_out: ByteArray | None) -> None:
        if flat is not None:
            _core.copy(self._segment.weights[buffer], flat)
        if opaque_out is not None and self._opaque_size:
            opaque_out[:] = self._segment.opaque[buffer]
