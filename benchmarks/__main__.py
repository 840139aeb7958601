"""`python -m benchmarks NAME [--quick] [--select TEXT] [--json FILE]`: one suite, its figures, its goals.

The last lines are one JSON object per goal. `--json` saves every line, the machine and the versions before
them; `python -m benchmarks.report FILE...` makes the tables and the picture from such files.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks.machine import facts
from benchmarks.measure import Settings, show
from benchmarks.peers.install import PeerMissing

SUITES = ("kernels", "writers", "price", "transport", "step", "fit", "dropin", "search", "xla")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=SUITES)
    parser.add_argument("--quick", action="store_true", help="few sizes, short blocks: a look, not a record")
    parser.add_argument("--select", default="", metavar="TEXT", help="only cases whose name contains TEXT")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every line")
    arguments = parser.parse_args()
    settings = Settings(arguments.quick, arguments.select)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    header = {"suite": arguments.name, "when": when, "quick": settings.quick, **facts()}
    lines: list[dict[str, Any]] = [header]
    print(show(header))
    try:
        for line in importlib.import_module(f"benchmarks.suites.{arguments.name}").run(settings):
            lines.append(line)
            if "goal" not in line:
                print(show(line), flush=True)
    except PeerMissing as missing:
        parser.error(str(missing))
    finally:
        if arguments.json:
            arguments.json.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for line in lines:
        if "goal" in line:
            print(show(line))


if __name__ == "__main__":
    main()
