"""``ParameterStore``: apply pushes to a segment, read it consistently."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from elephas_fast import _core
from elephas_fast.config import HOGWILD_ACCESS, ON_NONFINITE
from elephas_fast.layout import ByteArray, Float32Array, Layout
from elephas_fast.optimizers import SGD, FlatOptimizer, Optimizer
from elephas_fast.optimizers import get as get_optimizer
from elephas_fast.store.header import CLOSED, VERSION, WRITING, Counter, Header
from elephas_fast.store.in_place import InPlace, kernel_access, stripe_of
from elephas_fast.store.ledger import Ledger, Mark
from elephas_fast.store.segment import Segment, SegmentShape
from elephas_fast.store.snapshot import Line, Snapshot
from elephas_fast.store.two_buffers import Settled, TwoBuffers
from elephas_fast.store.update import FLOAT32, PushOutcome, check_opaque, check_vector

ATOMIC: Final = "atomic"
_READ_TIMEOUT: Final = 60.0
_DROPPED: Final = ("segment", "ledger", "_header", "_settled", "_writer")


class ParameterStore:
    """Weights, optimizer slots, version and push ledger.

    Args:
        initial: float32[layout.size], copied. With no ``layout`` a bare vector of trainable weights.
        optimizer: the server optimizer (an ``elephas_fast.optimizers`` object, a Keras optimizer, a config or a
            name); ``None`` is plain subtraction.
        layout: which part is trainable, which is moved without an optimizer, and the constraints.
        opaque: uint8[layout.opaque_size], copied; zeros if ``None``.
        access: ``'atomic'`` (whole pushes, consistent reads) or, for hogwild, ``'stripes'`` (nothing is lost),
            ``'racy'``, ``'relaxed'``, ``'compare_exchange'``.
        lines: ledger lines; ``outboxes``: vectors for clients on this host; ``shared``: in a sealed memfd.
        on_nonfinite: ``'reject'`` (and ``'raise'``, which the driver acts on) leave the weights as they were;
            ``'apply'`` does not look. Hogwild access looks at the update before writing, not at the result.
        state_rate: how far a push moves the non-trainable float weights towards its values: 1 replaces them, 1/k is
            right for k workers that push at their own pace.

    Thread-safe, and safe among the processes that share its segment. Owns its segment: ``close`` it, or use it as a
    context manager.
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
            stripes=_stripes(access, layout),
        )
        self._open(Segment.create(shape, shared=shared), new=True)
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
        if (shape.buffers == 2) != (access == ATOMIC) or shape.stripes != _stripes(access, layout):
            raise ValueError(
                f"access: '{access}' does not fit a segment with {shape.buffers} buffer(s) and {shape.stripes} stripes"
            )
        store._open(segment, new=False)
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
        self._split, self._size = layout.trainable_size, layout.size
        self.access = access
        self.optimizer: Optimizer = SGD(learning_rate=1.0) if optimizer is None else get_optimizer(optimizer)
        self._threads = threads
        self._flat_optimizer = self._flatten(self.optimizer)
        self._check_finite = on_nonfinite != "apply"
        self._state_rate = state_rate

    def _flatten(self, optimizer: Optimizer) -> FlatOptimizer:
        return FlatOptimizer(optimizer, self.layout, access=kernel_access(self.access), threads=self._threads)

    def _open(self, segment: Segment, *, new: bool) -> None:
        self.segment = segment
        self._header = header = Header(segment.header)
        self._settled = Settled(segment, header)
        self.ledger = Ledger(segment.ledger, self._settled.hold)
        self._settled.attach(self.ledger)
        self._writer: InPlace | TwoBuffers
        if self.access == ATOMIC:
            self._writer = TwoBuffers(
                segment,
                header,
                self.ledger,
                self._settled,
                self.layout,
                check_finite=self._check_finite,
                state_rate=self._state_rate,
            )
        else:
            self._writer = InPlace(
                segment,
                header,
                self.ledger,
                self.layout,
                access=self.access,
                check_finite=self._check_finite,
                state_rate=self._state_rate,
            )
        if new:
            self._settled.lock.create()
            if isinstance(self._writer, InPlace):
                self._writer.create()
        self._writer.bind(self._flat_optimizer)

    def set_learning_rate(self, value: float) -> None:
        """Give the server optimizer another constant learning rate from the next push on; 0 leaves it as it is."""
        if value and value != self.optimizer.learning_rate:
            self.optimizer = replace(self.optimizer, learning_rate=value)
            self._flat_optimizer = self._flatten(self.optimizer)
            self._writer.bind(self._flat_optimizer)

    def restore(self, version: int, slots: Mapping[str, Float32Array], lines: Sequence[Line] = ()) -> None:
        """Go on from a version and slots that a store of this layout and optimizer had; before the first push.

        ``slots``: float32[trainable_size] by Keras' names, copied; missing ones keep their first values. ``lines``: of
        the ledger, from the first on. Raises ``ValueError`` for a slot the optimizer does not have or of another size.
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
        for line, (clock, rounds) in enumerate(lines):
            self.ledger.restore(line, clock, rounds)
        self._header.words.store(WRITING, version)
        self._header.words.store(VERSION, version)

    def snapshot(self, lines: int) -> Snapshot:
        """A copy of the store's state and of the first ``lines`` lines of its ledger, of one moment.

        With atomic access pushes wait meanwhile; raises ``TimeoutError`` where another process keeps the lock. Hogwild
        writers wait for nobody: take it while there are none, else it holds parts of the rounds under way.
        """
        layout = self.layout
        flat, opaque = np.empty(layout.size, np.float32), np.empty(layout.opaque_size, np.uint8)
        slots = {name: np.empty(layout.trainable_size, np.float32) for name in self._flat_optimizer.slot_names}
        with self._settled.hold():
            version, ledger = self.version, self.ledger
            taken = [Line(ledger.applied(line), ledger.rounds(line)) for line in range(lines)]
            buffer = version & 1 if self.access == ATOMIC else 0
            _core.copy(self.segment.weights[buffer], flat)
            for source, copy in zip(self.segment.slots[buffer], slots.values(), strict=True):
                _core.copy(source, copy)
            opaque[:] = self.segment.opaque[buffer]
        return Snapshot(version, flat, opaque, slots, taken)

    @property
    def header(self) -> Header:
        """The segment's live words."""
        return self._header

    @property
    def version(self) -> int:
        """Updates applied so far."""
        return self._header.version

    @property
    def closed(self) -> bool:
        """Whether the store has stopped accepting pushes."""
        return self._header.closed

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
        self._header.count(counter, by)

    def counts(self) -> dict[str, int]:
        """The fault counters by lower-case name."""
        return self._header.counts()

    def push(
        self,
        gradient: Float32Array | Sequence[Float32Array],
        *,
        state: Float32Array | None = None,
        scale: float = 1.0,
        opaque: ByteArray | None = None,
        marks: Sequence[Mark] = (),
        finite: bool = False,
        pull: tuple[Float32Array, ByteArray | None] | None = None,
        verify: bool = False,
    ) -> PushOutcome:
        """Apply one update.

        ``gradient``: float32[size]; in the trainable part a gradient or pseudo-gradient, in the rest the values the
        worker has now. Or a list of float32 arrays of any shape, one for each trainable tensor in the layout's order,
        with the values of the rest in ``state``, float32[size - trainable_size] (``None`` leaves them). Nothing
        is kept or changed. The trainable part is multiplied by ``scale`` on the way. ``opaque``:
        uint8[opaque_size] that replace the opaque bytes. ``marks`` are committed to the ledger with the update;
        with ``verify`` there is one, and the update is applied only if the ledger, under the store's lock where
        there is one, finds it new. ``finite``: the sender knows that the trainable part is. ``pull``: float32[size] and
        uint8[opaque_size] that take the weights and opaque bytes after the push, in the same pass over memory.

        Raises ``ValueError`` for a wrong length or dtype, ``RuntimeError`` once closed, and ``TimeoutError`` where
        another process keeps a lock.
        """
        split, size = self._split, self._size
        trainable = gradient
        if isinstance(gradient, np.ndarray):
            if gradient.dtype is not FLOAT32 or gradient.shape != (size,):
                check_vector("gradient", gradient, size)
            if split < size:
                trainable, state = gradient[:split], gradient[split:]
        else:
            self._flat_optimizer.check(gradient)
            if state is not None:
                check_vector("state", state, size - split)
        if opaque is not None:
            check_opaque(opaque, self.layout.opaque_size)
        if pull is None:
            return self._writer.push(trainable, state, scale, opaque, marks, finite, None, None, verify)
        flat, opaque_out = pull
        check_vector("pull", flat, size)
        return self._writer.push(trainable, state, scale, opaque, marks, finite, flat, opaque_out, verify)

    def admits(self, gradient: Float32Array) -> bool:
        """Whether an update is finite (or need not be); counts it as refused if not."""
        if not self._check_finite or not _core.count_nonfinite(gradient):
            return True
        self.count(Counter.NONFINITE)
        return False

    def skip(self, marks: Sequence[Mark]) -> None:
        """Commit marks whose update was refused: their rounds are over and change nothing."""
        with self._settled.hold():
            for mark in marks:
                self.ledger.commit(mark)

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
        check_vector("out", out, self.layout.size)

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
            if self._header.words.load(WRITING) < version + 2:
                return version
            if time.monotonic() > deadline:
                raise TimeoutError(f"no consistent read of the weights within {timeout} s: pushes kept overtaking it")

    def stop_accepting(self) -> None:
        """Refuse every later push; what has begun is finished first (atomic access)."""
        with self._settled.hold():
            self._header.words.store(CLOSED, 1)

    def close(self) -> None:
        """Give the memory back. Safe to call twice."""
        if "segment" not in self.__dict__:
            return
        segment = self.segment
        self.ledger.close()
        for name in _DROPPED:
            delattr(self, name)
        segment.close()

    def __getattr__(self, name: str) -> Any:
        if name in _DROPPED:
            raise RuntimeError("the parameter store's memory has been given back: read it before close() or stop()")
        raise AttributeError(f"'ParameterStore' object has no attribute '{name}'")

    def __enter__(self) -> ParameterStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _stripes(access: str, layout: Layout) -> int:
    return _core.Stripes.count_of(layout.size, stripe_of(layout.size)) if access == "stripes" else 0
