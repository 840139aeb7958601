"""What a person sees while a fit runs: one live bar for the current epoch, then one line that stays."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Final, TextIO

_WIDTH: Final = 24
_REDRAW_SECONDS: Final = 0.1


class Progress:
    """Writes to ``stream`` (standard output if ``None``).

    ``verbose`` 0: nothing at all; 1: a live bar on a terminal, and one line per finished epoch; 2: only those lines.
    """

    def __init__(self, verbose: int, epochs: int, stream: TextIO | None = None) -> None:
        self._verbose = verbose
        self._epochs = epochs
        self._stream = sys.stdout if stream is None else stream
        self._live = verbose == 1 and self._stream.isatty()
        self._drawn = 0.0
        self._open = False

    def say(self, text: str) -> None:
        """A line about what runs where."""
        if self._verbose:
            self._write_line(text)

    def draw(self, epoch: int, rows: int, total: int | None, seconds: float, loss: float | None) -> None:
        """Show how far an epoch is: ``rows`` of ``total`` (``None``: not known yet) after ``seconds``."""
        now = time.monotonic()
        if not self._live or now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        if total:
            filled = min(_WIDTH, _WIDTH * rows // total)
            bar = "━" * filled + "─" * (_WIDTH - filled) + f"  {rows:,}/{total:,} rows"
        else:
            bar = "─" * _WIDTH + f"  {rows:,} rows"
        rate = f"  {rows / seconds:,.0f} rows/s" if seconds > 0 and rows else ""
        text = f"Epoch {epoch + 1}/{self._epochs}  {bar}{rate}"
        if loss is not None and rows:
            text += f"  loss {loss:.4f}"
        if not rows and epoch == 0:
            text += "  workers are starting"
        width = shutil.get_terminal_size((100, 20)).columns - 1
        self._stream.write("\r" + text[:width].ljust(width))
        self._stream.flush()
        self._open = True

    def epoch(self, epoch: int, rows: int, seconds: float, logs: Mapping[str, float]) -> None:
        """The line of a finished epoch."""
        if not self._verbose:
            return
        rate = f"{rows / seconds:,.0f} rows/s" if seconds > 0 else ""
        measures = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        self._write_line(f"Epoch {epoch + 1}/{self._epochs}  {rows:,} rows  {seconds:.1f} s  {rate}  {measures}")

    def _write_line(self, text: str) -> None:
        if self._open:
            width = shutil.get_terminal_size((100, 20)).columns - 1
            self._stream.write("\r" + " " * width + "\r")
            self._open = False
        self._stream.write(text + "\n")
        self._stream.flush()
