"""Makes `benchmarks/RESULTS.md`, its pictures and the table in the README: `python -m benchmarks.report FILE.json...`.

The files are what `python -m benchmarks NAME --json FILE` saved, one run each; the last run of a suite wins. The
sections of suites that no file is of stay as they are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import showcase

HERE = Path(__file__).resolve().parent
TITLES = {
    "kernels": "Optimizer kernels: one application",
    "writers": "Concurrent writers on one buffer",
    "price": "What the protections of a push cost",
    "transport": "Push and pull",
    "step": "One training step in a worker",
    "fit": "fit, end to end",
    "dropin": "A script of Elephas 7.3.0 as it is",
    "search": "Hyper-parameter search",
    "xla": "XLA by trial",
}
HEAD = """# Results

Made by `python -m benchmarks.report`; not edited by hand. Medians of interleaved blocks, the lowest and
the highest block in brackets. Every contender's result is checked before it is timed. Absolute times
belong to the machine named; ratios are the goals. *Times better* above 1 means ours is better.
"""


@dataclass(frozen=True)
class Run:
    """The lines of one run of one suite: its header first, then figures and goals."""

    header: dict[str, Any]
    lines: tuple[dict[str, Any], ...]

    @property
    def figures(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "figure" in line]

    @property
    def goals(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "goal" in line]


def read(files: Iterable[Path]) -> dict[str, Run]:
    """One run per suite, in the order of TITLES."""
    found: dict[str, Run] = {}
    for file in files:
        header, *lines = [json.loads(line) for line in file.read_text().splitlines()]
        if header["suite"] not in found or found[header["suite"]].header["when"] < header["when"]:
            found[header["suite"]] = Run(header, tuple(lines))
    return {suite: found[suite] for suite in TITLES if suite in found}


def number(value: float) -> str:
    """Three digits that matter, six for a share just below one; thousands separated."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.6g}" if 0.999 < value < 1 else f"{value:.3g}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def figure_tables(run: Run) -> Iterator[str]:
    """One table per unit: cases down and contenders across, or the other way round if that is narrower."""
    for unit in dict.fromkeys(line["unit"] for line in run.figures):
        lines = [line for line in run.figures if line["unit"] == unit]
        cells = {
            (line["case"], line["contender"]): f"{number(line['median'])} "
            f"({number(line['low'])} to {number(line['high'])})"
            for line in lines
        }
        cases, contenders = (list(dict.fromkeys(line[key] for line in lines)) for key in ("case", "contender"))
        if len(contenders) > len(cases):
            rows = [[name, *(cells.get((case, name), "") for case in cases)] for name in contenders]
            yield from table([unit, *cases], rows)
        else:
            rows = [[case, *(cells.get((case, name), "") for name in contenders)] for case in cases]
            yield from table([unit, *contenders], rows)


def goal_table(run: Run) -> Iterator[str]:
    rows = [
        [
            line["goal"], f"{number(line['ours'])} {line['unit']}", f"{number(line['peer'])} ({line['peer_name']})",
            f"{line['ratio']:.3g}", f"{line['target']:.3g}", met(line),
        ]
        for line in run.goals
    ]  # fmt: skip
    if rows:
        beyond = sum(not line["met"] and not line.get("limit_meets", True) for line in run.goals)
        others = f"; {beyond} of the others ask more than the limit reached in this run" if beyond else ""
        yield f"{sum(line['met'] for line in run.goals)} of {len(rows)} goals met{others}."
        yield ""
        yield from table(["goal", "ours", "peer", "times better", "target", "met"], rows)


def met(line: dict[str, Any]) -> str:
    """Whether a goal is met, and if not, whether the limit does."""
    if line["met"]:
        return "yes"
    return "**no**" if line.get("limit_meets", True) else f"**no**, nor {line['limit_name']} ({number(line['limit'])})"


def conditions(run: Run) -> Iterator[str]:
    header = run.header
    machine = header["machine"]
    versions = {**header["versions"]}
    for line in run.lines:
        for name, found in line.get("versions", {}).items():
            versions[name] = ", ".join(f"{package} {version}" for package, version in found.items())
    yield f"{header['when']}, commit `{header['commit']}`{', a quick run' if header['quick'] else ''}.  "
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']}, Linux {machine['kernel']}, TCP "
        f"{machine['tcp_congestion_control']}, load {machine['load_average']} at the start.  "
    )
    yield f"Python {header['python']}; " + "; ".join(f"{name} {found}" for name, found in versions.items()) + ".  "
    yield f"{header['compiler']['compiler']}, `{header['compiler']['flags']}`."
    yield ""


def section(suite: str, run: Run) -> str:
    """All of one suite; its picture is expected beside the text."""
    picture = [f"![goals reached, as a multiple of the target]({picture_of(suite)})", ""] if run.goals else []
    return "\n".join([f"## {TITLES[suite]}", "", *conditions(run), *picture, *goal_table(run), *figure_tables(run)])


def picture_of(suite: str) -> str:
    return f"goals-{suite}.png"


def merged(earlier: str, sections: dict[str, str]) -> str:
    """The whole report: new sections by suite, and those of an earlier report that there are no new ones of."""
    known = {part.split("\n", 1)[0]: f"## {part}" for part in earlier.split("\n## ")[1:]}
    found = [sections.get(suite) or known.get(title, "") for suite, title in TITLES.items()]
    return "\n".join([HEAD, *(part.rstrip("\n") + "\n" for part in found if part)])


def draw(goals: Sequence[dict[str, Any]], title: str, file: Path) -> None:
    """Every goal as a bar: its ratio divided by its target; right of the line is met."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    goals = goals[::-1]
    figure, axis = pyplot.subplots(figsize=(11, 0.26 * len(goals) + 1))
    reached = [max(line["ratio"] / line["target"], 1e-3) for line in goals]
    axis.barh(range(len(goals)), reached, color=["#2a7f62" if line["met"] else "#c1440e" for line in goals])
    axis.set_yticks(range(len(goals)), [line["goal"] for line in goals], fontsize=7)
    for place, (line, value) in enumerate(zip(goals, reached, strict=True)):
        axis.text(value, place, f" {line['ratio']:.3g} (target {line['target']:.3g})", va="center", fontsize=6)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.set_xlim(0.5 * min(1.0, *reached), 3 * max(1.0, *reached))
    axis.set_ylim(-0.6, len(goals) - 0.4)
    axis.set_title(f"{title}: ratio / target", fontsize=9, loc="left")
    figure.tight_layout()
    figure.savefig(file, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.json")
    parser.add_argument("--into", type=Path, default=HERE, help="the folder of RESULTS.md and the pictures")
    parser.add_argument("--readme", type=Path, default=HERE.parent / "README.md", help="the file with the table")
    arguments = parser.parse_args()
    runs = read(arguments.files)
    report = arguments.into / "RESULTS.md"
    for suite, run in runs.items():
        if run.goals:
            draw(run.goals, TITLES[suite], arguments.into / picture_of(suite))
    earlier = report.read_text() if report.exists() else ""
    report.write_text(merged(earlier, {suite: section(suite, run) for suite, run in runs.items()}))
    if "fit" in runs and showcase.rows(runs["fit"].figures):
        showcase.draw(arguments.into / "fit.png", runs["fit"].figures)
        showcase.rewrite(arguments.readme, runs["fit"].figures)
    print(report)


if __name__ == "__main__":
    main()
