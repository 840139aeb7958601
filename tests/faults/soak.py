"""The long form of the fault suite: ``python -m tests.faults.soak [--minutes N] [--again]``.

Runs the files of this folder one after the other with ``--soak`` and stops before a file once ``--minutes`` have
passed. What has been run is remembered in build/soak.json, so that the next call goes on with the rest; ``--again``
forgets it. The numbers stand in docs/reliability.md afterwards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MEMORY = ROOT / "build" / "soak.json"
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- soak -->", "<!-- /soak -->"
_GRACE_SECONDS = 30.0


def run(file: Path, seconds: float) -> dict[str, Any]:
    """What came of one file: 'passed', 'failed' or 'cut short', its seconds, and the numbers of each of its tests."""
    numbers = MEMORY.with_name(f"soak-{file.stem}.json")
    numbers.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", str(file), "--soak", "--injected", str(numbers)]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT) as tests:
        try:
            end = {0: "passed", 5: "passed"}.get(tests.wait(seconds), "failed")
        except subprocess.TimeoutExpired:
            tests.terminate()
            try:
                tests.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                tests.kill()
            end = "cut short"
    injected = json.loads(numbers.read_text()) if numbers.exists() else {}
    return {"end": end, "seconds": round(time.monotonic() - began), "injected": injected}


def table(done: dict[str, Any]) -> str:
    """The results for people."""
    lines = ["| test | injected and found | end | seconds |", "|---|---|---|---|"]
    for name, result in done.items():
        rows = result["injected"] or {name: {}}
        for test, numbers in rows.items():
            told = ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in numbers.items()) or "-"
            lines.append(f"| `{test}` | {told} | {result['end']} | {result['seconds']:,} |")
    return "\n".join(lines)


def put(text: str, between: str) -> str:
    """``between`` in the place for it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{between}\n{END}{after}"


def main() -> None:
    """Run what has not been run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0, help="of all files together; default 120")
    parser.add_argument("--again", action="store_true", help="run all files, also those that have passed")
    arguments = parser.parse_args()
    MEMORY.parent.mkdir(exist_ok=True)
    done: dict[str, Any] = {} if arguments.again or not MEMORY.exists() else json.loads(MEMORY.read_text())
    stop_at = time.monotonic() + 60.0 * arguments.minutes
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        if done.get(file.name, {}).get("end") == "passed":
            continue
        left = stop_at - time.monotonic()
        if left <= 0:
            print(f"{arguments.minutes:.0f} minutes have passed; go on with the same command")
            break
        done[file.name] = run(file, left)
        MEMORY.write_text(json.dumps(done, indent=1))
        DOCUMENT.write_text(put(DOCUMENT.read_text(), table(done)))
    print(table(done))
    sys.exit(any(result["end"] == "failed" for result in done.values()))


if __name__ == "__main__":
    main()
