"""The state of a store at one moment, for another store to go on from."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from elephas_fast.layout import ByteArray, Float32Array
from elephas_fast.store.header import Header
from elephas_fast.store.ledger import Ledger

_TRIES: Final = 200
_PAUSE_SECONDS: Final = 0.0002


class Line(NamedTuple):
    """How far the owner of a ledger line has come: the clock of its last round, and its rounds in an epoch (-1: it has
    not said)."""

    clock: int
    rounds: int


class Snapshot(NamedTuple):
    """Copies: the version, float32[size] weights, the opaque bytes, the optimizer's slots by Keras' names, and the
    first lines of the ledger."""

    version: int
    weights: Float32Array
    opaque: ByteArray
    slots: dict[str, Float32Array]
    lines: list[Line]


def settled(header: Header, ledger: Ledger, lines: int) -> tuple[int, list[Line]]:
    """Version and lines while nobody pushes."""
    return header.version, [Line(ledger.applied(line), ledger.rounds(line)) for line in range(lines)]


def unsettled(header: Header, ledger: Ledger, lines: int) -> tuple[int, list[Line]]:
    """Version and lines that agree, while hogwild writers go on: a round that has begun counts as applied.

    A writer first notes that a round has begun and then takes its version, with nothing in between. So two readings
    that are equal and hold no round under way agree; with rounds under way they agree if nothing has changed for longer
    than that takes. Where writers leave no such moment the last may be a version short for each round under way.
    """

    def reading() -> tuple[int, list[tuple[int, int]]]:
        return header.version, [(ledger.applied(line), ledger.begun(line)) for line in range(lines)]

    now = reading()
    for _ in range(_TRIES):
        before, now = now, reading()
        if any(begun > applied for applied, begun in now[1]):
            time.sleep(_PAUSE_SECONDS)
            before, now = now, reading()
        if before == now:
            break
    return now[0], [Line(max(marks), ledger.rounds(line)) for line, marks in enumerate(now[1])]
