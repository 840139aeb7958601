"""The README's table and picture of speed, from a run of `fit`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OURS, ELEPHAS, KERAS = "elephas_fast", "elephas 7.3.0", "keras, one thread"
SIZE = "0.118 M"
SHOWN = (
    ("a round is one batch", "batch", "hogwild", "asynchronous"),
    ("a round is one batch", "batch", "asynchronous", "asynchronous"),
    ("a round is one epoch", "epoch", "hogwild", "hogwild"),
    ("a round is one epoch", "epoch", "asynchronous", "asynchronous"),
    ("a round is one epoch", "epoch", "synchronous", "synchronous"),
)
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def _rates(figures: Sequence[dict[str, Any]], frequency: str) -> dict[str, float]:
    """Rows/s by contender."""
    return {
        line["contender"]: line["median"]
        for line in figures
        if line["unit"] == "rows/s" and line["case"].startswith(f"{frequency}, {SIZE}")
    }


def rows(figures: Sequence[dict[str, Any]]) -> list[tuple[str, str, float, float, float]]:
    """(rhythm, mode, rows/s of ours, of Elephas, of Keras) as far as the run has them."""
    found = []
    for rhythm, frequency, mode, theirs in SHOWN:
        rates = _rates(figures, frequency)
        names = (f"{OURS} {mode}", f"{ELEPHAS} {theirs}", KERAS)
        if all(name in rates for name in names):
            ours, elephas, keras = (rates[name] for name in names)
            found.append((rhythm, mode, ours, elephas, keras))
    return found


def table(figures: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| 784-128-128-10 | elephas_fast | Elephas 7.3.0 | plain Keras, one thread |", "|---|---|---|---|"]
    for rhythm, mode, ours, elephas, keras in rows(figures):
        lines.append(
            f"| {rhythm}, {mode} | **{ours:,.0f}** | {elephas:,.0f} ({ours / elephas:.1f} times) "
            f"| {keras:,.0f} ({ours / keras:.1f} times) |"
        )
    return "\n".join(lines)


def rewrite(readme: Path, figures: Sequence[dict[str, Any]]) -> None:
    """Put the table where the README has its marks. Raises ValueError if it has none."""
    text = readme.read_text()
    found = re.search(f"{re.escape(BEGIN)}.*{re.escape(END)}", text, re.DOTALL)
    if found is None:
        raise ValueError(f"{readme}: expected '{BEGIN}' and '{END}', found none")
    readme.write_text(f"{text[: found.start()]}{BEGIN}\n{table(figures)}\n{END}{text[found.end() :]}")


def draw(file: Path, figures: Sequence[dict[str, Any]]) -> None:
    """Rows/s as bars: ours, Elephas, and a line where Keras is."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shown = rows(figures)[::-1]
    figure, axis = pyplot.subplots(figsize=(9, 0.75 * len(shown) + 1.2))
    for place, (_, _, ours, elephas, keras) in enumerate(shown):
        axis.barh(place + 0.2, ours, 0.38, color="#2a7f62")
        axis.barh(place - 0.2, elephas, 0.38, color="#b8b8b8")
        axis.text(ours, place + 0.2, f" {ours:,.0f}", va="center", fontsize=9, fontweight="bold")
        axis.plot([keras, keras], [place - 0.42, place + 0.42], color="#c1440e", linewidth=1.5)
        after = max(elephas, keras) if abs(keras - elephas) < 0.1 * ours else elephas
        axis.text(after, place - 0.2, f" {elephas:,.0f}", va="center", fontsize=8, color="#555555")
    axis.set_yticks(range(len(shown)), [f"{mode}\n{rhythm}" for rhythm, mode, *_ in shown], fontsize=9)
    axis.set_xlim(0, 1.14 * max((ours for _, _, ours, _, _ in shown), default=1.0))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    title = "rows a second of fit, two workers on two cores (60,000 x 784, batch 32)"
    axis.set_title(title, fontsize=10, loc="left", pad=26)
    handles = [Patch(color="#2a7f62"), Patch(color="#b8b8b8"), Line2D([0], [0], color="#c1440e")]
    axis.legend(
        handles, [OURS, ELEPHAS, KERAS], fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False
    )
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
