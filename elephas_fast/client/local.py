"""``LocalPath``: push and pull without a message, by a client that has the store's segment mapped."""

from __future__ import annotations

from collections.abc import Sequence

from elephas_fast.client.conversation import PushRefused
from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.store import ATOMIC, Counter, Mark, ParameterStore, PushOutcome


class LocalPath:
    """One client's way into a store on its own host, for hogwild and asynchronous mode.

    ``line`` and ``generation``: as the server's welcome gave them; set ``generation`` anew after another hello. The
    store stays the caller's to close. Not thread-safe; one per thread.
    """

    def __init__(self, store: ParameterStore, line: int, generation: int) -> None:
        self.line = line
        self.generation = generation
        self._store = store

    @property
    def weights(self) -> tuple[Float32Array, ByteArray] | None:
        """In hogwild mode the live weights, float32[size] and uint8[opaque_size], which others change at any time and
        which must not be written; valid until the store is closed. ``None`` in asynchronous mode, where a push moves
        them to another place.
        """
        if self._store.access == ATOMIC:
            return None
        return self._store.segment.weights[0], self._store.segment.opaque[0]

    def push(
        self,
        clock: int,
        gradient: Float32Array | Sequence[Float32Array],
        *,
        state: Float32Array | None = None,
        scale: float = 1.0,
        opaque: ByteArray | None = None,
        finite: bool = False,
        pull: tuple[Float32Array, ByteArray | None] | None = None,
    ) -> PushOutcome:
        """Apply round ``clock`` (from 1, without gaps) as ``ParameterStore.push`` describes.

        A round that has been applied before changes nothing; its outcome's ``verdict`` is 'duplicate'. Raises
        ``PushRefused``: 'fenced' once a newer attempt has taken over, 'gap' where a round is missing, 'closed' once
        the fit has ended.
        """
        store = self._store
        marks = (Mark(self.line, self.generation, clock),)
        closed = ""
        try:
            outcome = store.push(
                gradient, state=state, scale=scale, opaque=opaque, marks=marks, finite=finite, pull=pull, verify=True
            )
        except RuntimeError as error:
            closed = str(error)
        if closed:  # raised out here, because the first error's traceback would keep the segment mapped
            raise PushRefused("closed", closed)
        if outcome.verdict == "new":
            return outcome
        if outcome.verdict == "duplicate":
            store.count(Counter.DUPLICATE)
            return outcome
        if outcome.verdict == "fenced":
            store.count(Counter.FENCED)
            raise PushRefused("fenced", f"a newer attempt of partition {self.line} has taken over")
        applied = store.ledger.applied(self.line)
        raise PushRefused("gap", f"expected round {applied + 1} of line {self.line}, got {clock}")

    def read(self, out: Float32Array, opaque: ByteArray | None, timeout: float) -> int:
        """Copy the weights and opaque bytes and return their version; see ``ParameterStore.read``."""
        return self._store.read(out, opaque, timeout=timeout)
