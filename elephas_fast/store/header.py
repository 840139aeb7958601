"""The live words of a segment's header: version, faults, what the two buffers hold."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NoReturn

from elephas_fast import _core
from elephas_fast.store.segment import LINE_WORDS, Words

VERSION: Final = 16
WRITING: Final = 24
CLOSED: Final = 32
RECORDS: Final = 64
ORDERS: Final = 96
REPORTS: Final = 104
TAKEN: Final = 128
MOST_OUTBOXES: Final = (512 - TAKEN) * 64
EVERY_LINE: Final = 2**63


class Counter(IntEnum):
    """What went wrong so far; each is a word of the segment, counted atomically by whoever sees it."""

    NONFINITE = 40
    DUPLICATE = 41
    FENCED = 42
    PARTIAL = 43
    DAMAGED = 44
    LATE = 45
    RECLAIMED = 46
    RESTARTED = 47
    RETRIED = 48


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
        """(line, clock) of a round that the ledger may not know of; line ``EVERY_LINE``: of each that has begun one."""
        at = RECORDS + buffer * LINE_WORDS
        clock = self.words.load(at + 1)
        return (self.words.load(at), clock) if clock else None

    def keep_orders(self, released: int, stop_at: int, *rates: float) -> None:
        """Keep the driver's orders for a server that follows this one."""
        numbers = (released, stop_at, *struct.unpack("<2Q", struct.pack("<2d", *rates)))
        self.words.store(ORDERS, 0)
        for place, number in enumerate(numbers, ORDERS + 1):
            self.words.store(place, number)
        self.words.store(ORDERS, 1)

    def kept_orders(self) -> tuple[int, int, float, float] | None:
        """(released, stop_at, two learning rates) as they were kept; ``None`` before the first."""
        if not self.words.load(ORDERS):
            return None
        released, stop_at, *rates = (self.words.load(ORDERS + 1 + place) for place in range(4))
        local, server = struct.unpack("<2d", struct.pack("<2Q", *rates))
        return released, stop_at, local, server

    def next_report(self) -> int:
        """A number for a report, greater by one each time."""
        return self.words.add(REPORTS, 1)

    @property
    def journal_end(self) -> int:
        """Bytes of the server's journal that are whole."""
        return self.words.load(REPORTS + 1)

    @journal_end.setter
    def journal_end(self, end: int) -> None:
        self.words.store(REPORTS + 1, end)

    def taken(self, outbox: int) -> bool:
        """Whether a client has this outbox."""
        return bool(self.words.load(TAKEN + outbox // 64) >> outbox % 64 & 1)

    def take(self, outbox: int, taken: bool) -> None:
        """Note whether a client has this outbox, one of the first ``MOST_OUTBOXES``; by the one server."""
        at, bit = TAKEN + outbox // 64, 1 << outbox % 64
        now = self.words.load(at)
        self.words.store(at, now | bit if taken else now & ~bit)
