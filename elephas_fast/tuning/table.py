"""What people see while a search runs: a table of trials, the best so far, and what is left."""

from __future__ import annotations

import html
import shutil
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, TextIO

from elephas_fast.tuning.loop import Live, Loop

_HEADER: Final = ("trial", "loss", "time", "state", "worker", "parameters")
_ROW: Final = "{:>5}  {:>11}  {:>8}  {:<8}  {:<18}  {}"
_EVERY: Final = 0.5
_MOST_IN_NOTEBOOK: Final = 200

Row = tuple[str, str, str, str, str, str]


class Table:
    """On a terminal the trials under way are drawn again and again below those that have ended; elsewhere there is one
    line for each that ends, as there is with ``verbose`` 2. In a notebook the whole table is drawn in place."""

    def __init__(self, verbose: int, notebook: bool, stream: TextIO | None = None) -> None:
        self._verbose = verbose
        self._stream = stream or sys.stdout
        self._live = verbose == 1 and self._stream.isatty()
        self._notebook = notebook and stream is None
        self._shown: set[int] | None = None
        self._drawn = 0
        self._last = 0.0
        self._display: Any = None

    def show(self, loop: Loop, *, last: bool = False) -> None:
        """See ``loop.Screen``."""
        if not self._verbose:
            return
        now = time.monotonic()
        if self._notebook:
            if last or now - self._last >= _EVERY:
                self._last = now
                self._draw_in_notebook(loop)
            return
        fresh = [document for document in loop.record.finished if self._is_new(document, loop)]
        if fresh or last or (self._live and now - self._last >= _EVERY):
            self._last = now
            self._draw(loop, fresh, last)

    def _is_new(self, document: Mapping[str, Any], loop: Loop) -> bool:
        if self._shown is None:
            old = sorted(int(d["tid"]) for d in loop.record.finished)[: loop.resumed]
            self._shown = set(old)
            self._write(_ROW.format(*_HEADER))
            if old:
                self._write(f"{len(old)} trials of an earlier search")
        number = int(document["tid"])
        if number in self._shown:
            return False
        self._shown.add(number)
        return True

    def _draw(self, loop: Loop, fresh: list[dict[str, Any]], last: bool) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0
        for document in fresh:
            self._write(_ROW.format(*ended(document, loop)))
        if self._live and not last:
            lines = [_ROW.format(*under_way(n, live, loop)) for n, live in sorted(loop.live.items())]
            for line in [*lines, summary(loop)]:
                self._write(line)
                self._drawn += 1
        elif last:
            self._write(summary(loop))
        self._stream.flush()

    def _write(self, line: str) -> None:
        width = shutil.get_terminal_size((160, 20)).columns - 1 if self._live else 200
        self._stream.write(line[:width] + "\n")

    def _draw_in_notebook(self, loop: Loop) -> None:
        notebook: Any = import_module("IPython.display")
        rows = [ended(document, loop) for document in loop.record.finished]
        rows += [under_way(number, live, loop) for number, live in sorted(loop.live.items())]
        cells = [_HEADER, *rows[-_MOST_IN_NOTEBOOK:]]
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        drawn = notebook.HTML(f"<table>{body}</table><p>{html.escape(summary(loop))}</p>")
        if self._display is None:
            self._display = notebook.display(drawn, display_id=True)
        else:
            self._display.update(drawn)


def ended(document: Mapping[str, Any], loop: Loop) -> Row:
    """The row of a trial that has ended."""
    result = document["result"]
    loss, worker = result.get("loss"), str(result.get("worker") or "-")
    number = "-" if loss is None else f"{loss:.6g}"
    seconds = float(result.get("seconds") or 0.0)
    text = shown_values(loop.space.shown(document))
    if result.get("failure"):
        text = f"{text}  ({result['failure']})"
    return str(document["tid"]), number, f"{seconds:.1f} s", state_of(result), worker, text


def under_way(number: int, live: Live, loop: Loop) -> Row:
    """The row of a trial that runs."""
    seconds = time.monotonic() - (live.begun or live.submitted)
    loss = f"{live.losses[-1][1]:.6g} @{live.losses[-1][0]}" if live.losses else "-"
    state = "running" if live.begun else "waiting"
    return (
        str(number),
        loss,
        f"{seconds:.1f} s",
        state,
        live.worker or "-",
        shown_values(loop.space.shown(live.document)),
    )


def state_of(result: Mapping[str, Any]) -> str:
    """'done', 'stopped' (early), 'failed', or the status that the objective gave."""
    known = {"ok": "done", "suspended": "stopped", "fail": "failed"}
    status = str(result.get("status"))
    return known.get(status, status)


def shown_values(values: Mapping[str, Any]) -> str:
    """``name=value`` for each hyper-parameter."""
    return ", ".join(f"{n}={v:.4g}" if isinstance(v, float) else f"{n}={v}" for n, v in values.items())


def summary(loop: Loop) -> str:
    """The best so far, how much is done, and an estimate of what is left."""
    finished = loop.record.finished
    best = loop.record.best()
    text = f"{len(finished)}/{loop.limits.max_evals} trials"
    counted = [state_of(document["result"]) for document in finished]
    text += "".join(f", {counted.count(kind)} {kind}" for kind in ("stopped", "failed") if kind in counted)
    if best:
        text += f"; best loss {best[0]['result']['loss']:.6g} (trial {best[0]['tid']})"
    elapsed = time.monotonic() - loop.began
    ours = len(finished) - loop.resumed
    left = loop.limits.max_evals - len(finished)
    if left and ours and loop.live:
        text += f"; about {elapsed / ours * left:.0f} s left"
    else:
        text += f"; {elapsed:.1f} s"
    return text + ("; interrupted" if loop.interrupted else "")
