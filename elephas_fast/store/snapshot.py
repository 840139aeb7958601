"""The state of a store at one moment, for another store to go on from."""

from __future__ import annotations

from typing import NamedTuple

from elephas_fast.layout import ByteArray, Float32Array


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
