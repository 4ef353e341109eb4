"""The docs tell of every class of difference; without any wheel."""

from __future__ import annotations

import re
from pathlib import Path

from nsa_caps.policy.reasons import CODES
from tests.downstream.differences import CLASSES
from tests.downstream.table import PAGE

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_has_every_class_with_its_words() -> None:
    """In the order of the code, with why the engine goes on and the issues that show it."""
    rows = [[cell.strip() for cell in line.split(" | ")] for line in PAGE.read_text(encoding="utf-8").splitlines()]
    found = [(row[0].strip("| `"), row[1], row[2]) for row in rows if row[0].startswith("| `")]
    assert found == [(code, why, ", ".join(seen) or "-") for code, (why, seen) in CLASSES.items()]


def test_every_class_is_a_reason_or_told_of() -> None:
    """All but one are reason codes; that one stands on the page in words, beside the command that counts."""
    assert {code for code in CLASSES if code not in CODES} == {"wider"}
    page = (DOCS / "differences.md").read_text(encoding="utf-8")
    assert "`wider`" in page
    assert "python -m tests.downstream.table" in page
    assert re.search(r"```\{include\} tables/differences\.md", page)


def test_issues_are_written_as_everywhere() -> None:
    """As `repository#number`."""
    seen = [issue for each in CLASSES.values() for issue in each.seen]
    assert [issue for issue in seen if not re.fullmatch(r"[a-z-]+#\d+", issue)] == []
