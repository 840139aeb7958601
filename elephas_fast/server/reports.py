"""What the partitions have reported, kept until the driver has seen it.

Reports of finished epochs are also written to a journal, an open file without a name that outlives this process, so
that a server that follows it on the same segment goes on with them. Reports of progress are not: the next says more.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Sequence
from typing import Final

from elephas_fast.store import Header
from elephas_fast.wire import Frame, Report, encode

_MOST: Final = 100_000
_HEAD: Final = struct.Struct("<QI")
_LENGTH: Final = struct.Struct("<Q")


class Reports:
    """A queue of encoded reports with growing numbers; past 100,000 unseen ones the oldest are dropped.

    ``journal``: an open file, read from its beginning; ``None`` keeps reports in this process only.
    """

    def __init__(self, header: Header, journal: int | None = None) -> None:
        self._waiting: deque[tuple[int, list[Frame]]] = deque()
        self._header = header
        self._journal = journal
        if journal is not None:
            self._waiting.extend(_records(os.pread(journal, header.journal_end, 0)))

    def add(self, report: Report, payload: Sequence[Frame]) -> None:
        """Keep a report; its payload is copied."""
        number = self._header.next_report()
        frames: list[Frame] = encode(report, [bytes(frame) for frame in payload])
        if self._journal is not None and report.kind != "progress":
            record = _HEAD.pack(number, len(frames)) + b"".join(_LENGTH.pack(len(f)) + bytes(f) for f in frames)
            end = self._header.journal_end
            _write(self._journal, record, end)
            self._header.journal_end = end + len(record)
        self._waiting.append((number, frames))
        if len(self._waiting) > _MOST:
            self._waiting.popleft()

    def after(self, seen: int) -> tuple[int, list[Frame], bool]:
        """Forget the reports below number ``seen``; ``(number after the next one, its frames, whether more wait)``.

        No frames if there is none.
        """
        while self._waiting and self._waiting[0][0] < seen:
            self._waiting.popleft()
        if not self._waiting:
            return seen, [], False
        number, frames = self._waiting[0]
        return number + 1, list(frames), len(self._waiting) > 1


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _records(data: bytes) -> list[tuple[int, list[Frame]]]:
    """The reports of a journal: number, count of frames, then each frame with its length."""
    found: list[tuple[int, list[Frame]]] = []
    at = 0
    while at < len(data):
        number, count = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        frames: list[Frame] = []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            frames.append(data[at : at + length])
            at += length
        found.append((number, frames))
    return found
