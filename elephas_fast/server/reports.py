"""What the partitions have reported, kept until the driver has seen it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from elephas_fast.wire import Frame, Report, encode

_MOST: Final = 100_000


class Reports:
    """A queue of encoded reports, numbered from 0; past 100,000 unseen ones the oldest are dropped."""

    def __init__(self) -> None:
        self._waiting: deque[list[Frame]] = deque()
        self._first = 0

    def add(self, report: Report, payload: Sequence[Frame]) -> None:
        """Keep a report; its payload is copied."""
        self._waiting.append(encode(report, [bytes(frame) for frame in payload]))
        if len(self._waiting) > _MOST:
            self._waiting.popleft()
            self._first += 1

    def after(self, seen: int) -> tuple[int, list[Frame], bool]:
        """Forget the first ``seen`` reports; ``(number seen with the next one, its frames, whether more wait)``.

        No frames if there is none.
        """
        while self._waiting and self._first < seen:
            self._waiting.popleft()
            self._first += 1
        if not self._waiting:
            return self._first, [], False
        return self._first + 1, list(self._waiting[0]), len(self._waiting) > 1
