"""What the documents say is what the code does."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

from elephas_fast.config import TrainingConfig
from elephas_fast.wire.messages import MESSAGES, PROTOCOL_VERSION

ROOT = Path(__file__).parents[2]


def test_protocol_lists_every_message_with_its_fields():
    text = (ROOT / "docs" / "PROTOCOL.md").read_text()
    assert f"version {PROTOCOL_VERSION}" in text.splitlines()[0]
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in text.splitlines() if line.startswith("| ")]
    written = {(row[0], row[1], row[3]) for row in rows}
    for code, message in MESSAGES.items():
        names = ", ".join(f.name for f in fields(message) if f.name != "request") or "-"
        assert (str(code), message.__name__, names) in written


def test_readme_lists_every_option():
    text = (ROOT / "README.md").read_text()
    for name, default, meaning in TrainingConfig.table():
        assert f"| `{name}` | `{default!r}` | {meaning} |" in text


def test_migration_has_a_row_for_every_defect():
    text = (ROOT / "docs" / "migration.md").read_text()
    (section,) = [part for part in text.split("\n## ") if part.startswith("Defect by defect")]
    rows = [line.split("|") for line in section.splitlines()]
    numbers = [int(row[1]) for row in rows if len(row) == 5 and row[1].strip().isdigit()]
    assert numbers == list(range(1, 27))


def test_the_image_is_made_of_what_is_here():
    text = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().split()
    given = [line[1:] for line in ignored if line.startswith("!")]
    assert ignored[0] == "*"
    assert all((ROOT / name).exists() for name in given)
    built_from = re.findall(r"\b(?:csrc|README\.md|LICENSE|elephas_fast)\b", (ROOT / "pyproject.toml").read_text())
    assert {"pyproject.toml", "CMakeLists.txt", "examples", "csrc", *built_from} <= set(given)
    system = (ROOT / "tools" / "system.sh").read_text()
    packages = set(re.findall(r"^    install (\S+)", system, re.MULTILINE))
    assert packages == {"openjdk-17-jre-headless", "dataset-fashion-mnist"}
    assert packages <= set(text.split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extra,) = re.findall(r"\.whl\)\[(\w+)\]", text)
    assert extra in project["optional-dependencies"]
    (oldest,) = re.findall(r">=([\d.]+)", project["requires-python"])
    assert re.findall(r"^FROM python:([\d.]+)-", text, re.MULTILINE) == [oldest, oldest]
    for script in re.findall(r"python (examples/\S+)", text):
        assert (ROOT / script).is_file()
