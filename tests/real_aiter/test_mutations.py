"""The decision over changed sources of aiter, against what the changed code does: `pytest --aiter-checkout DIR`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .edited import CALLS, Edited, edited, truth
from .gates import RealMachine
from .judged import MACHINES, decided, read
from .mutations import MUTATIONS, Mutation

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: f"{each.kind}: {each.what}")
def test_no_row_is_met_that_the_changed_code_does_not_run(
    aiter_checkout: Path, tmp_path: Path, mutation: Mutation
) -> None:
    """A row is met only where the changed code runs it; what changes nothing costs no row."""
    checkout = edited(aiter_checkout, mutation.commit, mutation.edits)
    base = read(tmp_path / "changed", checkout)
    unchanged = read(tmp_path / "unchanged", Edited(aiter_checkout, mutation.commit))
    for triton, arch, environ in MACHINES:
        real = truth(checkout, RealMachine(triton, arch, frozenset(environ.items())))
        for row, call in CALLS.items():
            met = [
                decided(caps, triton, arch, environ, call.page_size).verdict(row).verdict == "met"
                for caps in (base, unchanged)
            ]
            assert not met[0] or real[row] == "runs", (row, triton, arch, environ, real[row])
            if mutation.harmless:
                assert met[0] is met[1], (row, triton, arch, environ)
