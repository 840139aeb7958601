"""The long form of the fault suite: ``python -m tests.faults.soak [FILE ...] [--minutes N] [--again]``.

Runs the files of this folder and those of `OTHERS` with ``--soak``, two at a time, and ends whatever still runs when
``--minutes`` have passed. What has passed is remembered in build/soak.json, so that the next call goes on with what
has not; ``--again`` forgets it, and files that are named run again whatever they came to. The numbers, and the commit
they are of, stand in docs/reliability.md afterwards; rows there of files that were not run stay.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.ours import SOAK_FILE

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
OTHERS = ("spark/test_lifecycle.py",)
"""Files elsewhere whose tests have a long form."""
AT_ONCE = 2
MEMORY = ROOT / "build" / "soak.json"
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- soak -->", "<!-- /soak -->"
_GRACE_SECONDS = 30.0


def run(name: str, stop_at: float) -> dict[str, Any]:
    """What came of one file: 'passed', 'failed', 'cut short' or 'not begun' by ``stop_at`` (``time.monotonic()``), its
    seconds, and the numbers of each of its tests."""
    began, commit = time.monotonic(), _commit()
    if began >= stop_at:
        return {"end": "not begun", "seconds": 0, "commit": commit, "injected": {}}
    numbers = MEMORY.with_name(f"soak-{Path(name).stem}.json")
    numbers.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", str(TESTS / name), "--soak", "--injected", str(numbers)]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, SOAK_FILE: name}) as tests:
        try:
            end = {0: "passed", 5: "passed"}.get(tests.wait(stop_at - began), "failed")
        except subprocess.TimeoutExpired:
            tests.send_signal(signal.SIGINT)
            try:
                tests.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                tests.kill()
            end = "cut short"
    injected = json.loads(numbers.read_text()) if numbers.exists() else {}
    return {"end": end, "seconds": round(time.monotonic() - began), "commit": commit, "injected": injected}


def table(done: dict[str, Any], before: str) -> str:
    """The results for people: those in ``done``, and of all other files the rows that stand in ``before``, a table like
    this one."""
    rows = {
        file: [line for line in before.splitlines() if _file(line) == file] for file in map(_file, before.splitlines())
    }
    rows.pop("", None)
    for name, result in done.items():
        end = f"{result['end']} | {result['seconds']:,} | {result.get('commit', 'unknown')}"
        rows[Path(name).name] = [
            f"| `{test}` | {_told(numbers)} | {end} |" for test, numbers in (result["injected"] or {name: {}}).items()
        ]
    seconds = sum(int(lines[0].split("|")[4].replace(",", "")) for lines in rows.values())
    return "\n".join(
        [
            f"{seconds / 60:.0f} minutes of tests, {AT_ONCE} at a time.",
            "",
            "| test | injected and found | end of its file | seconds of its file | commit |",
            "|---|---|---|---|---|",
            *(line for file in sorted(rows) for line in rows[file]),
        ]
    )


def _told(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in numbers.items()) or "-"


def _file(line: str) -> str:
    """The file that a row of the table is about; '' for other lines."""
    named = re.match(r"\| `(?:\w+/)*(\w+\.py)\b", line)
    return named[1] if named else ""


def _commit() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"


def put(done: dict[str, Any]) -> None:
    """Write the table into its place in the document."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    standing, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table(done, standing)}\n{END}{after}")


def main() -> None:
    """Run what has not been run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="below tests/, as faults/test_crowds.py; default all")
    parser.add_argument("--minutes", type=float, default=120.0, help="of all files together; default 120")
    parser.add_argument("--again", action="store_true", help="run all files, also those that have passed")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    MEMORY.parent.mkdir(exist_ok=True)
    done: dict[str, Any] = {} if arguments.again or not MEMORY.exists() else json.loads(MEMORY.read_text())
    stop_at = time.monotonic() + 60.0 * arguments.minutes
    names = [*OTHERS, *sorted(f"faults/{file.name}" for file in Path(__file__).parent.glob("test_*.py"))]
    if unknown := set(arguments.files).difference(names):
        parser.error(f"FILE: expected some of {', '.join(names)}; got {', '.join(sorted(unknown))}")
    left = arguments.files or [name for name in names if done.get(name, {}).get("end") != "passed"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(run, name, stop_at): name for name in left}
        for one in as_completed(running):
            done[running[one]] = one.result()
            MEMORY.write_text(json.dumps(done, indent=1))
            put({name: result for name, result in done.items() if result["end"] != "not begun"})
    print(table(done, ""))
    sys.exit(any(result["end"] == "failed" for result in done.values()))


if __name__ == "__main__":
    main()
