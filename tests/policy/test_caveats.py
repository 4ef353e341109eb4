"""What a report says to mind of the row chosen: it decides nothing, and is told where it holds only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsa_caps import Capabilities, Change, Package, Request, decide, probe
from nsa_caps.policy.document import decision_document
from nsa_caps.policy.requirements.handed import other_release
from nsa_caps.testing import GENERATIONS, machine

if TYPE_CHECKING:
    from pathlib import Path

    from nsa_caps import Decision


def decided(folder: Path, triton: str, commit: str, arch: str = "gfx942") -> Decision:
    """Return the decision on a laid-out AMD machine that asks for aiter."""
    host = machine(
        folder, platform="rocm", archs=(arch,), triton=triton, aiter=commit, environ={"SGLANG_USE_AITER": "1"}
    )
    return decide(probe(host))


@pytest.mark.parametrize(
    ("triton", "commit", "arch", "row", "minds"),
    [
        ("3.6.0", "a6bb4993", "gfx942", "aiter-preshuffle", True),
        # aiter#4774 mended the preshuffle kernel, and no other.
        ("3.6.0", "04907edc", "gfx942", "aiter-preshuffle", False),
        ("3.6.0", "04907edc", "gfx1200", "aiter-flat", True),
        ("3.4.0", "a6bb4993", "gfx942", "aiter-token", True),
    ],
)
def test_offsets_of_32_bits_are_told_where_the_kernel_has_them(
    tmp_path: Path, triton: str, commit: str, arch: str, row: str, minds: bool
) -> None:
    """A row whose kernel would score keys beyond 2 GiB as zeros says so, with the limit and the issue."""
    decision = decided(tmp_path, triton, commit, arch)
    assert decision.chosen == row
    told = [text for text in decision.warnings if "aiter#4774" in text and "2 GiB" in text]
    assert len(told) == minds


def test_a_caveat_stands_in_the_report_and_the_document(tmp_path: Path) -> None:
    """Who reads the report, and who reads its JSON, is told the same, below the verdict."""
    decision = decided(tmp_path, "3.6.0", "a6bb4993")
    (warning,) = decision.warnings
    assert "\n  warning: index keys beyond 2 GiB" in decision.explain()
    assert decision_document(decision)["warnings"] == [warning]


def test_no_row_has_no_caveat(tmp_path: Path) -> None:
    """Where no row may be used there is none to mind anything of."""
    decision = decided(tmp_path, "3.6.0", "a6bb4993")
    assert decide(decision.caps, type(decision.request)(rows=("deepgemm",))).caveats == ()


@pytest.mark.parametrize("arch", ["gfx90a", "gfx1151", "sm_80"])
def test_what_portable_costs_is_told_where_it_is_all_there_is(tmp_path: Path, arch: str) -> None:
    """A GPU that no vendor's kernel serves gets our own, and hears what they cost against the best row."""
    caps = probe(machine(tmp_path, platform="cuda" if arch.startswith("sm_") else "rocm"))
    caps, request = Change.arch(arch).apply(caps, Request())
    decision = decide(caps, request)
    assert decision.chosen == "portable"
    (told,) = decision.caveats
    assert "deepgemm's time" in told
    assert arch.replace("gfx1151", "gfx11xx") in told


@pytest.mark.parametrize(("installed", "told"), [("vllm", True), ("sglang", False), ("atom", False), ("zzz", False)])
def test_a_release_that_is_not_known_is_told_of_the_engine_that_is_asked_for(installed: str, told: bool) -> None:
    """Another engine beside it has no part in that."""
    caps = Capabilities(engine="vllm", engines=(Package(installed, "found"),), aiter_source=GENERATIONS["04907edc"])
    assert ("release is not known" in (other_release(caps) or "")) == told
