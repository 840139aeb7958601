"""Every defect of Elephas that is known has a test named after its number."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ALL = set(range(1, 27))


def named() -> set[int]:
    numbers = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and (found := re.match(r"test_defect_(\d\d)_", node.name)):
                numbers.add(int(found[1]))
    return numbers


def test_every_defect_has_a_test() -> None:
    assert named() == ALL
