"""The table of faults in docs/reliability.md, whose last column names the tests that carry ``@pytest.mark.fault(N)``.

``python -m tests.faults.table`` writes that column anew.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "reliability.md"
WITHOUT = "not run here: "
"""How the last cell begins of a fault that no test reproduces; the reason follows."""

_ROW = re.compile(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$")


@cache
def marked() -> dict[int, list[str]]:
    """Which tests reproduce which fault, as ``file::test`` below ``tests/``; by the source, nothing is imported."""
    found: dict[int, list[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(file.read_text())
        everywhere = list(_numbers(_of_module(tree)))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for number in sorted({*everywhere, *_numbers(node.decorator_list)}):
                    found.setdefault(number, []).append(f"{file.relative_to(ROOT / 'tests')}::{node.name}")
    return found


def _of_module(tree: ast.Module) -> list[ast.expr]:
    """The marks that a file gives all its tests."""
    marks = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "pytestmark"]
    return [e for mark in marks for e in (mark.elts if isinstance(mark, ast.List | ast.Tuple) else [mark])]


def _numbers(marks: list[ast.expr]) -> Iterator[int]:
    for mark in marks:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
            yield int(ast.unparse(mark.args[0]))


def cells() -> dict[int, str]:
    """The last cell of each row."""
    rows = filter(None, map(_ROW.match, DOCUMENT.read_text().splitlines()))
    return {int(row[1]): row[4].strip() for row in rows}


def cell(tests: list[str]) -> str:
    """The last cell of a fault with these tests."""
    return "<br>".join(f"`{test}`" for test in tests)


def write() -> None:
    """Name in each row the tests that are there; rows without any keep what they say."""
    tests = marked()

    def anew(line: str) -> str:
        row = _ROW.match(line)
        if row is None or int(row[1]) not in tests:
            return line
        return f"| {row[1]} |{row[2]}|{row[3]}| {cell(tests[int(row[1])])} |"

    DOCUMENT.write_text("\n".join(map(anew, DOCUMENT.read_text().splitlines())) + "\n")


if __name__ == "__main__":
    write()
