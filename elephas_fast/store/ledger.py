"""Who pushed what: one 64-byte line for each partition, in the store's segment.

A push is identified by (partition, generation, clock). The clock counts the rounds of a partition from 1 and must be
contiguous; the line keeps the last one applied (the high-water mark), so a push sent twice is recognised and one that
skips is refused. A generation is issued at each accepted hello and grows with it, so that a newer attempt of a Spark
task fences the older. Attempts are ordered by Spark's ``taskAttemptId``, which is unique in an application;
``attemptNumber`` starts again at 0 when a stage is retried.

What the server's gate knows of a member stands in its line too, so that a server that has been killed can be followed
by another on the same segment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Literal, NamedTuple

from elephas_fast import _core
from elephas_fast.store.segment import LINE_WORDS, Words

_ATTEMPT: Final = 0
_GENERATION: Final = 1
_APPLIED: Final = 2
_BEGUN: Final = 3
_DONE: Final = 4
_OPEN: Final = 5
_ROUNDS: Final = 6
_CAME_AT: Final = 7

Verdict = Literal["new", "duplicate", "fenced", "gap"]


class Mark(NamedTuple):
    """The identity of one push: the line of its partition, the sender's generation, and the round's clock (from 1)."""

    line: int
    generation: int
    clock: int


class Member(NamedTuple):
    """Who takes part in the rounds: its line, its rounds in an epoch, the round it came at, whether it has left."""

    line: int
    rounds: int
    came_at: int
    left: bool


class Ledger:
    """The lines of a segment.

    A line's ``begun`` and ``applied`` words are written by whoever applies its pushes: a server for its remote clients,
    a worker on the same host for itself. Everything else is written by the one server. Single words are read and
    written atomically. ``guard`` makes a context in which nobody applies a push and what has been applied is noted; a
    line changes its owner within it.
    """

    def __init__(
        self, lines: Words, guard: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    ) -> None:
        self._words = _core.Words(lines.reshape(-1))
        self._guard = guard
        self._count = len(lines)
        self._free: list[int] | None = None

    def close(self) -> None:
        """Let go of the segment's memory; nothing else may be called afterwards."""
        del self._words, self._guard

    def reserve(self, count: int) -> None:
        """Keep lines ``0 .. count-1`` for partitions, so that ``open_line`` never hands them out."""
        self._free = [line for line in range(self._count - 1, count - 1, -1) if not self.is_open(line)]

    def open_line(self) -> int | None:
        """A fresh line for a client that is no partition, or ``None`` when all are taken."""
        if self._free is None:
            self.reserve(0)
        if not self._free:
            return None
        line = self._free.pop()
        with self._guard():
            for word in range(LINE_WORDS):
                if word != _GENERATION:  # grows on: an earlier owner's generation must not become valid again
                    self._words.store(line * LINE_WORDS + word, 0)
            self._words.store(line * LINE_WORDS + _OPEN, 1)
        return line

    def is_open(self, line: int) -> bool:
        """Whether a line was got from ``open_line`` and has not been given back."""
        return self._words.load(line * LINE_WORDS + _OPEN) == 1

    def is_open_at(self, line: int, generation: int) -> bool:
        """Whether this is an open line whose owner got this generation."""
        return line < self._count and self.is_open(line) and self.generation(line) == generation

    def open_lines(self) -> list[int]:
        """The lines that are open."""
        return [line for line in range(self._count) if self.is_open(line)]

    def close_line(self, line: int) -> None:
        """Give back a line got from ``open_line``."""
        self._words.store(line * LINE_WORDS + _ROUNDS, 0)
        self._words.store(line * LINE_WORDS + _OPEN, 0)
        if self._free is not None:
            self._free.append(line)

    def hello(
        self, line: int, attempt: int, *, lapsed: bool = False, held: int | None = None
    ) -> tuple[int, int] | None:
        """Admit an attempt: ``(generation, last applied clock)``, or ``None`` if a newer attempt owns the line, unless
        the owner's lease has ``lapsed``. Whoever has the line with the generation ``held`` keeps it: a hello that is
        sent twice must not fence who sent it."""
        at = line * LINE_WORDS
        with self._guard():
            if self._words.load(at + _ATTEMPT) > attempt + 1 and not lapsed:
                return None
            if held != self.generation(line) or attempt != self.attempt(line):
                self._words.store(at + _ATTEMPT, attempt + 1)
                self._words.add(at + _GENERATION, 1)
            return self.generation(line), self.applied(line)

    def attempt(self, line: int) -> int:
        """The attempt that owns the line; -1 before the first hello."""
        return self._words.load(line * LINE_WORDS + _ATTEMPT) - 1

    def check(self, mark: Mark) -> Verdict:
        """What is to be done with a push that carries ``mark``."""
        line, generation, clock = mark
        at = line * LINE_WORDS
        if self._words.load(at + _GENERATION) != generation:
            return "fenced"
        applied = self._words.load(at + _APPLIED)
        if clock == applied + 1:
            return "new"
        return "duplicate" if clock <= applied else "gap"

    def begin(self, mark: Mark) -> None:
        """Note that the round is being written; if it is never committed the push may have been applied in part."""
        self._words.store(mark.line * LINE_WORDS + _BEGUN, mark.clock)

    def commit(self, mark: Mark) -> None:
        """Note that the round has been applied."""
        self._words.store(mark.line * LINE_WORDS + _APPLIED, mark.clock)

    def commit_begun(self) -> None:
        """Note that every round that has been begun has been applied: they were one synchronous round."""
        for line in range(self._count):
            self.abandon(line)

    def abandon(self, line: int) -> bool:
        """Let the round pass that was begun and never committed (its writer was killed). True if there was one."""
        at = line * LINE_WORDS
        begun = self._words.load(at + _BEGUN)
        if begun <= self.applied(line):
            return False
        self._words.store(at + _APPLIED, begun)
        return True

    def generation(self, line: int) -> int:
        """The generation that may push now; 0 before the first hello."""
        return self._words.load(line * LINE_WORDS + _GENERATION)

    def applied(self, line: int) -> int:
        """The clock of the last applied round; 0 before the first."""
        return self._words.load(line * LINE_WORDS + _APPLIED)

    def rounds(self, line: int) -> int:
        """The rounds of the line's owner in an epoch; -1 before it has joined."""
        return self._words.load(line * LINE_WORDS + _ROUNDS) - 1

    def restore(self, line: int, clock: int, rounds: int) -> None:
        """Go on after round ``clock``, with an owner that has so many ``rounds`` in an epoch; before its hello."""
        at = line * LINE_WORDS
        self._words.store(at + _BEGUN, clock)
        self._words.store(at + _APPLIED, clock)
        self._words.store(at + _ROUNDS, rounds + 1)

    def join(self, line: int, rounds: int, came_at: int) -> None:
        """Note that the line's owner takes part: its rounds in an epoch, and the synchronous round it came at."""
        at = line * LINE_WORDS
        self._words.store(at + _CAME_AT, came_at)
        self._words.store(at + _DONE, 0)
        self._words.store(at + _ROUNDS, rounds + 1)

    def members(self) -> list[Member]:
        """Those who have joined and still have their line, ascending; what has been applied is noted before."""
        load = self._words.load
        with self._guard():
            return [
                Member(line, load(at + _ROUNDS) - 1, load(at + _CAME_AT), load(at + _DONE) == 1)
                for line, at in enumerate(range(0, self._count * LINE_WORDS, LINE_WORDS))
                if load(at + _ROUNDS)
            ]

    def finish(self, line: int) -> None:
        """Note that the line's owner has no more rounds to give."""
        self._words.store(line * LINE_WORDS + _DONE, 1)

    def finished(self, line: int) -> bool:
        """Whether the line's owner has no more rounds to give."""
        return self._words.load(line * LINE_WORDS + _DONE) == 1
