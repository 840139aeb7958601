"""A picture of a search: its losses in order, and each hyper-parameter against them."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

_COLOURS: Final = {"done": "#2a7f62", "stopped": "#d1a000", "failed": "#c1440e"}
_ACROSS: Final = 3


def draw(rows: pd.DataFrame, columns: Mapping[str, str], path: str | os.PathLike[str] | None) -> Any:
    """A figure with one panel for the losses and one for each of ``columns``, which has the column of each label; saved
    to ``path`` if there is one."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plot: expected matplotlib to be installed; pip install 'elephas_fast[plot]'") from None

    class Picture(Figure):
        """Shows itself in a notebook, whatever backend is set there."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=90)
            return buffer.getvalue()

    panels = 1 + len(columns)
    down = math.ceil(panels / _ACROSS)
    figure = Picture(figsize=(4.2 * min(panels, _ACROSS), 3.2 * down), layout="constrained")
    axes = list(figure.subplots(down, min(panels, _ACROSS), squeeze=False).flat)
    with_loss = rows[rows["loss"].notna()]
    _losses(axes[0], rows, with_loss)
    for axis, (label, column) in zip(axes[1:], columns.items(), strict=False):
        known = with_loss[with_loss[column].notna()]
        values = known[column] if pd.api.types.is_numeric_dtype(known[column]) else known[column].astype(str)
        axis.scatter(values, known["loss"], s=16, color=_COLOURS["done"])
        if pd.api.types.is_float_dtype(values) and values.min() > 0 and values.max() / values.min() > 50:
            axis.set_xscale("log")
        axis.set(xlabel=label, ylabel="loss")
    for axis in axes[panels:]:
        axis.set_visible(False)
    if path is not None:
        figure.savefig(path, dpi=110)
    return figure


def _losses(axis: Any, rows: pd.DataFrame, with_loss: pd.DataFrame) -> None:
    axis.scatter(with_loss["trial"], with_loss["loss"], s=16, color=_COLOURS["done"], label="done")
    if len(with_loss):
        axis.step(
            with_loss["trial"], with_loss["loss"].cummin(), where="post", color="black", lw=1, label="best so far"
        )
    for state in ("stopped", "failed"):
        without = rows[rows["state"] == state]["trial"]
        if len(without):
            level = axis.get_ylim()[1]
            axis.scatter(without, [level] * len(without), s=18, marker="x", color=_COLOURS[state], label=state)
    axis.set(xlabel="trial", ylabel="loss")
    axis.legend(fontsize=7)
