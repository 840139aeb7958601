"""A server process that kills itself right after the n-th word it writes to the segment.

``python -m tests.faults.failing_server FILE``: the file holds one n in a line for each process that is to die; a
process takes the first line away, and lives if there is none. Every change of a server's state is a word of the
segment, so all n together are all places between two steps at which a server can be killed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from elephas_fast import _core


class DyingWords(_core.Words):
    """Words whose writes count down to the end."""

    left = 0

    def store(self, i: int, value: int) -> None:
        super().store(i, value)
        _strike()

    def add(self, i: int, change: int) -> int:
        before = super().add(i, change)
        _strike()
        return before


def _strike() -> None:
    DyingWords.left -= 1
    if DyingWords.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def arm(orders: Path) -> None:
    """Count down from the next number of the file, if there is one."""
    numbers = orders.read_text().split()
    if numbers:
        orders.write_text("\n".join(numbers[1:]))
        DyingWords.left = int(numbers[0])
        _core.Words = DyingWords  # type: ignore[misc]


if __name__ == "__main__":
    arm(Path(sys.argv[1]))
    from elephas_fast.server.__main__ import main

    sys.exit(main())
