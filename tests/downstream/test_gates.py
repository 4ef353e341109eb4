"""The engines' own gates beside this library's decision, over every machine of the matrix; needs `--wheels`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.downstream import table
from tests.downstream.differences import CLASSES, count

if TYPE_CHECKING:
    from tests.downstream.differences import Count
    from tests.downstream.wheels import Wheel


@pytest.fixture(scope="module")
def counts(wheels: list[Wheel], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Count]:
    """Return what comparing each wheel gave."""
    return {str(wheel): count(wheel, tmp_path_factory.mktemp(wheel.project)) for wheel in wheels}


def test_every_difference_is_of_a_class(counts: dict[str, Count]) -> None:
    """Wherever an engine's gate and this library differ, a reason code says why, and the docs tell of it."""
    unexplained = {
        name: [
            (cell.theirs, sorted(cell.codes), cell.caps.archs, dict(cell.caps.variables)) for cell in each.unexplained
        ]
        for name, each in counts.items()
    }
    assert unexplained == {name: [] for name in counts}


def test_both_answers_and_every_class_are_met(counts: dict[str, Count]) -> None:
    """The matrix has machines on which they agree, and of every class some: none is there for show."""
    assert all(0 < each.agree < each.cells for each in counts.values())
    assert [code for code in CLASSES if not any(each.classes[code] for each in counts.values())] == []


def test_the_table_in_the_docs_is_what_is_found(counts: dict[str, Count]) -> None:
    """Written by `python -m tests.downstream.table DIR`; wheels of other releases may lie beside those that it has."""
    assert set(table.WHEELS) <= set(counts), "a wheel of the table is missing"
    assert table.PAGE.read_text(encoding="utf-8") == table.text({name: counts[name] for name in table.WHEELS})
