"""``python -m tests.protocol SEED [real]``: one history, event by event, and what was wrong with it."""

from __future__ import annotations

import sys

from tests.protocol.checker import judge
from tests.protocol.world import Grounds


def main(seed: str, *real: str) -> int:
    """The exit status is 1 if something was wrong."""
    with Grounds() as grounds:
        plan, history, _ = grounds.history(int(seed), real=bool(real))
    print(plan)
    for event in history:
        print(event)
    problems = judge(plan, history)
    for problem in problems:
        print("WRONG", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
