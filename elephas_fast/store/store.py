"""``ParameterStore``: apply pushes to a segment, read it consistently."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final

import numpy as np

from elephas_fast import _core
from elephas_fast.config import HOGWILD_ACCESS, ON_NONFINITE
from elephas_fast.layout import ByteArray, Float32Array, Layout
from elephas_fast.optimizers import SGD, FlatOptimizer, Optimizer
from elephas_fast.optimizers import get as get_optimizer
from elephas_fast.store.ledger import Ledger, Mark
from elephas_fast.store.segment import Segment, SegmentShape

ATOMIC: Final = "atomic"
_VERSION: Final = 16
_WRITING: Final = 24
_CLOSED: Final = 32
_READ_TIMEOUT: Final = 60.0


class Counter(IntEnum):
    """What went wrong so far; each is a word of the segment, counted atomically by whoever sees it."""

    NONFINITE = 40
    DUPLICATE = 41
    FENCED = 42
    PARTIAL = 43
    DAMAGED = 44
    LATE = 45


@dataclass(frozen=True)
class PushOutcome:
    """``version``: updates applied so far. ``applied``: whether this one was. ``nonfinite``: its non-finite results."""

    version: int
    applied: bool
    nonfinite: int


class ParameterStore:
    """Weights, optimizer slots, version and push ledger.

    Args:
        initial: float32[layout.size], copied. With no ``layout`` a bare vector of trainable weights.
        optimizer: the server optimizer (an ``elephas_fast.optimizers`` object, a Keras optimizer, a config or a
            name); ``None`` is plain subtraction.
        layout: which part is trainable, which is moved without an optimizer, and the constraints.
        opaque: uint8[layout.opaque_size], copied; zeros if ``None``.
        access: ``'atomic'`` (whole pushes, consistent reads) or, for hogwild, ``'racy'``, ``'relaxed'``,
            ``'compare_exchange'``.
        lines: ledger lines; ``outboxes``: vectors for clients on this host; ``shared``: in a sealed memfd.
        on_nonfinite: ``'reject'`` (and ``'raise'``, which the driver acts on) leave the weights as they were;
            ``'apply'`` does not look. Hogwild access looks at the update before writing, not at the result.
        state_rate: how far a push moves the non-trainable float weights towards its values: 1 replaces them, 1/k is
            right for k workers that push at their own pace.

    Thread-safe. Owns its segment: ``close`` it, or use it as a context manager.
    """

    def __init__(
        self,
        initial: Float32Array,
        optimizer: Any = None,
        *,
        layout: Layout | None = None,
        opaque: ByteArray | None = None,
        access: str = ATOMIC,
        lines: int = 64,
        outboxes: int = 0,
        shared: bool = False,
        threads: int = 1,
        on_nonfinite: str = "reject",
        state_rate: float = 1.0,
    ) -> None:
        weights = np.ascontiguousarray(initial)
        if weights.dtype != np.float32 or weights.ndim != 1:
            raise ValueError(f"initial: expected a float32 vector, got {weights.dtype}{list(weights.shape)}")
        if layout is None:
            layout = Layout.vector(len(weights))
        elif layout.size != len(weights):
            raise ValueError(f"initial: expected {layout.size} elements as the layout says, got {len(weights)}")
        self._set_up(optimizer, layout, access, threads, on_nonfinite, state_rate)
        shape = SegmentShape(
            size=layout.size,
            trainable_size=layout.trainable_size,
            opaque_bytes=layout.opaque_size,
            slots=len(self._flat_optimizer.slot_names),
            buffers=2 if access == ATOMIC else 1,
            lines=lines,
            outboxes=outboxes,
        )
        self.segment = Segment.create(shape, shared=shared)
        self.ledger = Ledger(self.segment.ledger)
        for buffer in range(shape.buffers):
            _core.copy(weights, self.segment.weights[buffer])
            self._flat_optimizer.initial_slots(self.segment.slots[buffer])
            if opaque is not None:
                self.segment.opaque[buffer][:] = opaque

    @classmethod
    def attach(
        cls,
        segment: Segment,
        optimizer: Any,
        layout: Layout,
        *,
        access: str,
        threads: int = 1,
        on_nonfinite: str = "reject",
        state_rate: float = 1.0,
    ) -> ParameterStore:
        """The store in a segment made elsewhere; takes ownership of ``segment``.

        Raises ``ValueError`` where optimizer and layout are not those the segment was made for.
        """
        store = cls.__new__(cls)
        store._set_up(optimizer, layout, access, threads, on_nonfinite, state_rate)
        shape = segment.shape
        expected = (layout.size, layout.trainable_size, layout.opaque_size, len(store._flat_optimizer.slot_names))
        if (shape.size, shape.trainable_size, shape.opaque_bytes, shape.slots) != expected:
            raise ValueError(
                "segment: expected (size, trainable, opaque bytes, slots) = "
                f"{expected}, got {(shape.size, shape.trainable_size, shape.opaque_bytes, shape.slots)}"
            )
        if (shape.buffers == 2) != (access == ATOMIC):
            raise ValueError(f"access: '{access}' does not fit a segment with {shape.buffers} buffer(s)")
        store.segment = segment
        store.ledger = Ledger(segment.ledger)
        return store

    def _set_up(
        self, optimizer: Any, layout: Layout, access: str, threads: int, on_nonfinite: str, state_rate: float
    ) -> None:
        if access != ATOMIC and access not in HOGWILD_ACCESS:
            choices = ", ".join(repr(a) for a in (ATOMIC, *HOGWILD_ACCESS))
            raise ValueError(f"access: expected one of {choices}, got {access!r}")
        if on_nonfinite not in ON_NONFINITE:
            choices = ", ".join(map(repr, ON_NONFINITE))
            raise ValueError(f"on_nonfinite: expected one of {choices}, got {on_nonfinite!r}")
        if not 0.0 < state_rate <= 1.0:
            raise ValueError(f"state_rate: expected a rate in (0, 1], got {state_rate!r}")
        self.layout = layout
        self.access = access
        self.optimizer: Optimizer = SGD(learning_rate=1.0) if optimizer is None else get_optimizer(optimizer)
        self._kernel_access = "racy" if access == ATOMIC else access
        self._threads = threads
        self._flat_optimizer = self._bind(self.optimizer)
        self._check_finite = on_nonfinite != "apply"
        self._state_rate = state_rate
        self._lock = threading.Lock()

    def _bind(self, optimizer: Optimizer) -> FlatOptimizer:
        return FlatOptimizer(optimizer, self.layout, access=self._kernel_access, threads=self._threads)

    def set_learning_rate(self, value: float) -> None:
        """Give the server optimizer another constant learning rate from the next push on; 0 leaves it as it is."""
        if value and value != self.optimizer.learning_rate:
            with self._lock:
                self.optimizer = replace(self.optimizer, learning_rate=value)
                self._flat_optimizer = self._bind(self.optimizer)

    def restore(self, version: int, slots: Mapping[str, Float32Array]) -> None:
        """Go on from a version and slots that a store of this layout and optimizer had; before the first push.

        ``slots``: float32[trainable_size] by Keras' names, copied; missing ones keep their first values. Raises
        ``ValueError`` for a slot the optimizer does not have or of another size.
        """
        names = self._flat_optimizer.slot_names
        for name, values in slots.items():
            if name not in names or values.shape != (self.layout.trainable_size,):
                raise ValueError(
                    f"slots: expected {', '.join(names) or 'none'} of {self.layout.trainable_size} elements, "
                    f"got '{name}' of {list(values.shape)}"
                )
            for buffer in self.segment.slots:
                _core.copy(np.ascontiguousarray(values, np.float32), buffer[names.index(name)])
        _core.atomic_store(self.segment.header, _WRITING, version)
        _core.atomic_store(self.segment.header, _VERSION, version)

    @property
    def version(self) -> int:
        """Updates applied so far."""
        return _core.atomic_load(self.segment.header, _VERSION)

    @property
    def closed(self) -> bool:
        """Whether the store has stopped accepting pushes."""
        return _core.atomic_load(self.segment.header, _CLOSED) == 1

    @property
    def slots(self) -> dict[str, Float32Array]:
        """Copies of the optimizer's slots, float32[trainable_size] by Keras' names."""
        copies: dict[str, Float32Array] = {}

        def copy(buffer: int) -> None:
            for name, array in zip(self._flat_optimizer.slot_names, self.segment.slots[buffer], strict=True):
                copies[name] = array.copy()

        self._read_consistently(copy, _READ_TIMEOUT)
        return copies

    def count(self, counter: Counter, by: int = 1) -> None:
        """Add to a fault counter."""
        _core.atomic_add(self.segment.header, int(counter), by)

    def counts(self) -> dict[str, int]:
        """The fault counters by lower-case name."""
        return {c.name.lower(): _core.atomic_load(self.segment.header, int(c)) for c in Counter}

    def push(
        self, gradient: Float32Array, *, opaque: ByteArray | None = None, marks: Sequence[Mark] = ()
    ) -> PushOutcome:
        """Apply one update.

        ``gradient``: float32[size]; in the trainable part a gradient or pseudo-gradient, in the rest the values the
        worker has now. Not kept, not changed. ``opaque``: uint8[opaque_size] that replace the opaque bytes. ``marks``
        are committed to the ledger with the update. Raises ``ValueError`` for a wrong length or dtype and
        ``RuntimeError`` once closed.
        """
        self._check(gradient, opaque)
        if self.access == ATOMIC:
            with self._lock:
                return self._push_atomic(gradient, opaque, marks)
        return self._push_hogwild(gradient, opaque, marks)

    def admits(self, gradient: Float32Array) -> bool:
        """Whether an update is finite (or need not be); counts it as refused if not."""
        if not self._check_finite or not _core.count_nonfinite(gradient):
            return True
        self.count(Counter.NONFINITE)
        return False

    def skip(self, marks: Sequence[Mark]) -> None:
        """Commit marks whose update was refused: their rounds are over and change nothing."""
        for mark in marks:
            self.ledger.commit(mark)

    def _push_atomic(self, gradient: Float32Array, opaque: ByteArray | None, marks: Sequence[Mark]) -> PushOutcome:
        self._refuse_if_closed()
        segment, split = self.segment, self.layout.trainable_size
        version = self.version
        source, target = version & 1, (version + 1) & 1
        _core.atomic_store(segment.header, _WRITING, version + 1)
        weights, result = segment.weights[source], segment.weights[target]
        nonfinite = self._flat_optimizer.apply(
            version,
            weights[:split],
            segment.slots[source],
            gradient[:split],
            weights_out=result[:split],
            slots_out=segment.slots[target],
        )
        if split < self.layout.size:
            _core.copy(weights[split:], result[split:])
            nonfinite += _core.blend(result[split:], gradient[split:], self._state_rate)
        if nonfinite and self._check_finite:
            self.count(Counter.NONFINITE)
            self.skip(marks)
            return PushOutcome(version, False, nonfinite)
        if self.layout.opaque_size:
            segment.opaque[target][:] = segment.opaque[source] if opaque is None else opaque
        for mark in marks:
            self.ledger.commit(mark)
        _core.atomic_store(segment.header, _VERSION, version + 1)
        return PushOutcome(version + 1, True, nonfinite)

    def _push_hogwild(self, gradient: Float32Array, opaque: ByteArray | None, marks: Sequence[Mark]) -> PushOutcome:
        self._refuse_if_closed()
        segment, split = self.segment, self.layout.trainable_size
        if not self.admits(gradient):
            self.skip(marks)
            return PushOutcome(self.version, False, _core.count_nonfinite(gradient))
        for mark in marks:
            self.ledger.begin(mark)
        step = _core.atomic_add(segment.header, _VERSION, 1)
        weights = segment.weights[0]
        nonfinite = self._flat_optimizer.apply(step, weights[:split], segment.slots[0], gradient[:split])
        if split < self.layout.size:
            nonfinite += _core.blend(weights[split:], gradient[split:], self._state_rate, self._kernel_access)
        if opaque is not None and self.layout.opaque_size:
            segment.opaque[0][:] = opaque
        for mark in marks:
            self.ledger.commit(mark)
        return PushOutcome(step + 1, True, nonfinite)

    def pull(self, out: Float32Array | None = None) -> Float32Array:
        """The weights, float32[size], copied into ``out`` or a new array; see ``read``."""
        if out is None:
            out = np.empty(self.layout.size, np.float32)
        self.read(out)
        return out

    def read(self, out: Float32Array, opaque: ByteArray | None = None, *, timeout: float = _READ_TIMEOUT) -> int:
        """Copy weights (and opaque bytes) and return their version.

        With atomic access the copy is of one version and does not stop the writer: it is repeated while pushes
        overtake it, and raises ``TimeoutError`` if that goes on for ``timeout`` seconds. With hogwild access the copy
        may hold half a push.
        """
        if out.dtype != np.float32 or out.shape != (self.layout.size,):
            raise ValueError(f"out: expected float32[{self.layout.size}], got {out.dtype}{list(out.shape)}")

        def copy(buffer: int) -> None:
            _core.copy(self.segment.weights[buffer], out)
            if opaque is not None and self.layout.opaque_size:
                opaque[:] = self.segment.opaque[buffer]

        return self._read_consistently(copy, timeout)

    def _read_consistently(self, copy: Callable[[int], None], timeout: float) -> int:
        """Run ``copy(buffer)`` until no push has begun to overwrite that buffer meanwhile; return the version."""
        deadline = time.monotonic() + timeout
        while True:
            version = self.version
            if self.access != ATOMIC:
                copy(0)
                return version
            copy(version & 1)
            if _core.atomic_load(self.segment.header, _WRITING) < version + 2:
                return version
            if time.monotonic() > deadline:
                raise TimeoutError(f"no consistent read of the weights within {timeout} s: pushes kept overtaking it")

    def stop_accepting(self) -> None:
        """Refuse every later push; what has begun is finished first (atomic access)."""
        with self._lock:
            _core.atomic_store(self.segment.header, _CLOSED, 1)

    def close(self) -> None:
        """Give the memory back. Safe to call twice."""
        self.ledger.close()
        self.segment.close()

    def __enter__(self) -> ParameterStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _refuse_if_closed(self) -> None:
        if self.closed:
            self.count(Counter.LATE)
            raise RuntimeError("the parameter store is closed: the fit has ended and takes no more updates")

    def _check(self, gradient: Float32Array, opaque: ByteArray | None) -> None:
        if gradient.dtype != np.float32 or gradient.shape != (self.layout.size,):
            raise ValueError(
                f"gradient: expected float32[{self.layout.size}], got {gradient.dtype}{list(gradient.shape)}"
            )
        if opaque is not None and (opaque.dtype != np.uint8 or opaque.shape != (self.layout.opaque_size,)):
            raise ValueError(
                f"opaque: expected uint8[{self.layout.opaque_size}], got {opaque.dtype}{list(opaque.shape)}"
            )
