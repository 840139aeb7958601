"""The live words of a segment's header: version, faults, what the two buffers hold."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NoReturn

from elephas_fast import _core
from elephas_fast.store.segment import LINE_WORDS, Words

VERSION: Final = 16
WRITING: Final = 24
CLOSED: Final = 32
RECORDS: Final = 64


class Counter(IntEnum):
    """What went wrong so far; each is a word of the segment, counted atomically by whoever sees it."""

    NONFINITE = 40
    DUPLICATE = 41
    FENCED = 42
    PARTIAL = 43
    DAMAGED = 44
    LATE = 45
    RECLAIMED = 46


class Header:
    """``words``: the header, atomically; thread-safe. Holds the segment's memory as long as it lives."""

    def __init__(self, header: Words) -> None:
        self.words = _core.Words(header)

    @property
    def version(self) -> int:
        """Updates applied so far."""
        return self.words.load(VERSION)

    @property
    def closed(self) -> bool:
        """Whether the store has stopped accepting pushes."""
        return self.words.load(CLOSED) == 1

    def refuse(self) -> NoReturn:
        """Count a push that comes too late and raise ``RuntimeError``."""
        self.count(Counter.LATE)
        raise RuntimeError("the parameter store is closed: the fit has ended and takes no more updates")

    def count(self, counter: Counter, by: int = 1) -> None:
        """Add to a fault counter."""
        self.words.add(int(counter), by)

    def counts(self) -> dict[str, int]:
        """The fault counters by lower-case name."""
        return {c.name.lower(): self.words.load(int(c)) for c in Counter}

    def note(self, buffer: int, line: int, clock: int) -> None:
        """Record whose round a buffer holds, before it becomes the current one; clock 0: nobody's."""
        at = RECORDS + buffer * LINE_WORDS
        self.words.store(at, line)
        self.words.store(at + 1, clock)

    def forget(self, buffer: int) -> None:
        """The ledger knows of the round that a buffer holds."""
        self.words.store(RECORDS + buffer * LINE_WORDS + 1, 0)

    def noted(self, buffer: int) -> tuple[int, int] | None:
        """(line, clock) of a round that the ledger may not know of."""
        at = RECORDS + buffer * LINE_WORDS
        clock = self.words.load(at + 1)
        return (self.words.load(at), clock) if clock else None
