"""Hogwild pushes: every writer changes the one buffer in place, without a snapshot and without waiting for a turn.

With ``access='stripes'`` a writer locks the stripe of the weights that it is changing, takes free ones first and comes
back to busy ones, and nothing is lost (ADR 8). The other accesses take no locks.
"""

from __future__ import annotations

from collections.abc import Sequence

from elephas_fast import _core
from elephas_fast.layout import ByteArray, Float32Array, Layout
from elephas_fast.optimizers import FlatOptimizer
from elephas_fast.store.header import CLOSED, VERSION, Counter, Header
from elephas_fast.store.ledger import Ledger, Mark
from elephas_fast.store.segment import Segment
from elephas_fast.store.update import Gradient, PushOutcome, count_nonfinite, is_finite


class InPlace:
    """Applies pushes to a segment of one buffer. Thread-safe, and safe among processes, as ``access`` promises."""

    def __init__(
        self,
        segment: Segment,
        header: Header,
        ledger: Ledger,
        layout: Layout,
        *,
        access: str,
        check_finite: bool,
        state_rate: float,
    ) -> None:
        self._segment, self._header, self._ledger = segment, header, ledger
        self._words = header.words
        self._check_finite, self._state_rate = check_finite, state_rate
        self._split, self._size, self._opaque_size = layout.trainable_size, layout.size, layout.opaque_size
        self._access = kernel_access(access)
        self._stripes: _core.Stripes | None = None
        if access == "stripes":
            reclaimed = segment.header[Counter.RECLAIMED : Counter.RECLAIMED + 1]
            self._stripes = _core.Stripes(segment.stripes, reclaimed, layout.size, stripe_of(layout.size))

    def create(self) -> None:
        """Make the locks of a new segment."""
        if self._stripes is not None:
            self._stripes.create()

    def bind(self, optimizer: FlatOptimizer) -> None:
        """Apply pushes by this optimizer from now on."""
        segment = self._segment
        self._bound = optimizer.bind(segment.weights[0][: self._split], segment.slots[0], stripes=self._stripes)

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
        """Apply one checked update unless it is not finite; see ``ParameterStore.push``. ``flat`` and ``opaque_out``
        take the weights after it.
        """
        ledger, words = self._ledger, self._words
        if words.load(CLOSED):
            self._header.refuse()
        if verify:
            verdict = ledger.check(marks[0])
            if verdict != "new":
                self._pull(flat, opaque_out)
                return PushOutcome(words.load(VERSION), False, 0, verdict)
        if self._check_finite and not is_finite(None if finite else trainable, state):
            self._header.count(Counter.NONFINITE)
            for mark in marks:
                ledger.commit(mark)
            self._pull(flat, opaque_out)
            return PushOutcome(words.load(VERSION), False, count_nonfinite(trainable, state))
        for mark in marks:
            ledger.begin(mark)
        writer = marks[0].line if marks else 0
        step = words.add(VERSION, 1)
        if self._split == self._size:
            nonfinite = self._bound.apply(step, trainable, scale=scale, start=writer, copy_to=flat)
        else:
            copy_to = None if flat is None else flat[: self._split]
            nonfinite = self._bound.apply(step, trainable, scale=scale, start=writer, copy_to=copy_to)
            nonfinite += self._move_state(writer, state, flat)
        if self._opaque_size:
            if opaque is not None:
                self._segment.opaque[0][:] = opaque
            if opaque_out is not None:
                opaque_out[:] = self._segment.opaque[0]
        for mark in marks:
            ledger.commit(mark)
        return PushOutcome(step + 1, True, nonfinite)

    def _move_state(self, writer: int, values: Float32Array | None, flat: Float32Array | None) -> int:
        state, nonfinite = self._segment.weights[0][self._split :], 0
        if values is not None:
            nonfinite = _core.blend(
                state,
                values,
                self._state_rate,
                self._access,
                stripes=self._stripes,
                offset=self._split,
                start=writer,
            )
        if flat is not None:
            _core.copy(state, flat[self._split :])
        return nonfinite

    def _pull(self, flat: Float32Array | None, opaque_out: ByteArray | None) -> None:
        if flat is not None:
            _core.copy(self._segment.weights[0], flat)
        if opaque_out is not None and self._opaque_size:
            opaque_out[:] = self._segment.opaque[0]


def kernel_access(access: str) -> str:
    """How the kernel writes a float: under the store's own locks with ordinary stores."""
    return "racy" if access in ("atomic", "stripes") else access


def stripe_of(size: int) -> int:
    """Elements of a stripe: 16,384, or more where a thread's locks would be too many to be given back at its death."""
    return _core.STRIPE * max(1, -(-size // (_core.STRIPE * (_core.RECOVERABLE - 1))))
