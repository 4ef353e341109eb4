"""A dry run over aiter's real sources and changed ones, against what they do: `pytest --aiter-checkout DIR`.

`python -m tests.real_aiter.dry_runs` judges the same sources and prints the counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .dry_runs import Source, judged
from .mutations import MUTATIONS

if TYPE_CHECKING:
    from pathlib import Path

# One of each generation that the gates have had, and the changes that the reading leaves unknown most often.
COMMITS = ("9715eecc", "10c87ea1", "a6bb4993", "f061fba9", "861b4c93", "04907edc")
CHANGES = [number for number, each in enumerate(MUTATIONS) if each.kind in ("logits gate", "arch lists", "entry rules")]


@pytest.mark.parametrize("commit", COMMITS)
def test_reading_and_running_agree_on_history(aiter_checkout: Path, commit: str) -> None:
    """Nothing that was read is doubted, no answer changes, and the run did take place."""
    found = judged(aiter_checkout, Source("main", commit))
    assert (found.state, found.differs) == ("executed", [])
    assert found.after == found.before


@pytest.mark.slow
@pytest.mark.parametrize("number", CHANGES, ids=lambda number: MUTATIONS[number].what)
def test_what_a_dry_run_settles_is_what_the_changed_code_does(aiter_checkout: Path, number: int) -> None:
    """No answer becomes wrong, and no no becomes a yes."""
    found = judged(aiter_checkout, Source("change", str(number)))
    assert found.wrong() == found.turned() == []


def test_a_list_that_no_reading_follows_is_settled(aiter_checkout: Path) -> None:
    """Where the arch list comes from another module, unknown rows become those that the code runs."""
    (number,) = [at for at, each in enumerate(MUTATIONS) if each.what == "the list is filtered"]
    found = judged(aiter_checkout, Source("change", str(number)))
    assert "unknown" in {answer.verdict for answer in found.before}
    assert "unknown" not in {answer.verdict for answer in found.after}
    assert {answer.real for answer in found.after if answer.verdict == "met"} == {"runs"}
