"""Ctrl-C while a search keeps its books."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def noted_by(note: Callable[[], None]) -> Iterator[None]:
    """Within it the first Ctrl-C calls ``note`` and raises nothing, wherever the main thread may be; a second one does
    what it did before. Only where the main thread enters: to others Python gives no signals."""
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(former):
        yield
        return

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, former)
        note()

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is first:
            signal.signal(signal.SIGINT, former)
