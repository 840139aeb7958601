"""What the documents say is what the code does."""

from __future__ import annotations

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
