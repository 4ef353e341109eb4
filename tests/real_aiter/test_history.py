"""The decision over every source set of aiter's history, against what it does: `pytest --aiter-checkout DIR`.

`python -m tests.real_aiter.history` judges the same sets and prints the counts.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from .history import MOST_BRANCHES, SourceSet, judged, source_sets


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each source set, which only a checkout tells."""
    if "source_set" in metafunc.fixturenames:
        folder = metafunc.config.getoption("--aiter-checkout")
        sets = source_sets(Path(folder)) if folder else [SourceSet("release", "v0.1.20")]
        metafunc.parametrize("source_set", sets, ids=lambda each: f"{each.kind} {each.commit}")


def test_the_sets_are_those_that_are_promised(aiter_checkout: Path) -> None:
    """All release tags, all commits of main that change what is read, and at least 80 sets of other branches."""
    count = Counter(each.kind for each in source_sets(aiter_checkout))
    assert count["release"] >= 63
    assert count["main"] >= 580
    assert 80 <= count["branch"] <= MOST_BRANCHES


@pytest.mark.slow
def test_no_source_set_is_answered_wrong(aiter_checkout: Path, source_set: SourceSet) -> None:
    """A row is met only where the source runs it, and unmet only where it does not; a release is known throughout."""
    found = judged(aiter_checkout, source_set)
    assert not [answer for answer in found if answer.is_wrong_yes or answer.is_wrong_no]
    if source_set.kind == "release":
        assert not [answer for answer in found if answer.verdict == "unknown"]
