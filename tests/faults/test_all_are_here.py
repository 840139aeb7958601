"""Every fault of the table in docs/reliability.md has a test that reproduces it, or the table says why it has none."""

from __future__ import annotations

import pytest

from tests.faults.table import WITHOUT, cell, cells, marked

ALL = range(1, 34)


def test_the_table_has_every_fault_and_no_other() -> None:
    assert list(cells()) == list(ALL)
    assert set(marked()) <= set(ALL)


@pytest.mark.parametrize("number", ALL)
def test_the_table_names_the_tests_of_a_fault(number: int) -> None:
    tests, said = marked().get(number, []), cells()[number]
    if tests:
        assert said == cell(tests), "run python -m tests.faults.table"
    else:
        assert said.startswith(WITHOUT), f"fault {number}: no test carries its number, and the table does not say why"
