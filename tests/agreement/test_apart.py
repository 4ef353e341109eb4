"""What sets machines apart, in words and as data, without any process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsa_caps import Capabilities, Package, PageFormat, Request, decide, probe
from nsa_caps.agreement.mismatch import Cohort, groups_of, mismatch_between, mismatch_lines, rank_names, who
from nsa_caps.agreement.summary import MachineSummary, summary_of
from nsa_caps.base.lines import plain
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from pathlib import Path

AITER = {"SGLANG_USE_AITER": "1"}


def key(summary: MachineSummary) -> object:
    """What ranks are compared by."""
    return summary.row, summary.format, summary.index_kpool


@pytest.fixture
def new(tmp_path: Path) -> MachineSummary:
    """Return an MI300X that has all it needs."""
    return summary_of(decide(probe(machine(tmp_path / "new", archs=["gfx942"], aiter="a6bb4993", environ=AITER))))


@pytest.fixture
def old(tmp_path: Path) -> MachineSummary:
    """Return an MI300X whose Triton is too old."""
    host = machine(tmp_path / "old", archs=["gfx942"], triton="3.4.0", aiter="a6bb4993", environ=AITER)
    return summary_of(decide(probe(host)))


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ((3,), "rank 3"),
        ((0, 1), "ranks 0-1"),
        ((0, 2, 3, 4, 9), "ranks 0, 2-4, 9"),
        (tuple(range(0, 40, 2)), f"ranks {', '.join(map(str, range(0, 32, 2)))} and 4 runs more"),
    ],
)
def test_ranks_are_named_in_runs(ranks: tuple[int, ...], words: str) -> None:
    """Neighbours are one run, and of many runs the first ones are named."""
    assert rank_names(ranks) == words


def test_machines_are_named_by_the_first_few() -> None:
    """Of many machines the first names are told and how many more there are."""
    nobody = MachineSummary(None, None, 1)
    parties = [Cohort(nobody, 10_000, ("a", "b", "c")), Cohort(nobody, 2, ("d", "e"))]
    assert who(parties) == "a, b, c, d and 9,998 more"
    assert who(parties, 1) == "a and 10,001 more"
    assert who(parties[1:]) == "d, e"


def test_the_largest_group_comes_first_then_the_better_row(new: MachineSummary, old: MachineSummary) -> None:
    """Groups are ordered by size, of equal ones the better row leads, and no layout comes last however large."""
    without = MachineSummary(None, None, 1, error="no layout: gone")
    groups = groups_of([Cohort(without, 9), Cohort(old, 2), Cohort(new, 1), Cohort(old, 3)], key)
    assert [(group.count, group.summary.row) for group in groups] == [
        (5, "aiter-token"), (1, "aiter-preshuffle"), (9, None),
    ]  # fmt: skip
    assert [party.count for party in groups[0].parties] == [3, 2]
    assert groups_of([Cohort(old), Cohort(new)], key)[0].summary == new


def test_parties_of_equal_evidence_are_told_once(new: MachineSummary, old: MachineSummary) -> None:
    """Ranks that differ in the same way, for the same reasons, share their lines."""
    parties = [Cohort(new, 4, ranks=(0, 1, 2, 3)), Cohort(old, 2, ranks=(4, 6)), Cohort(old, 1, ranks=(5,))]
    text = plain(mismatch_lines(groups_of(parties, key)))
    assert text.count("against") == 1
    assert "ranks 4-6, against ranks 0-3:" in text


def test_many_ways_to_differ_are_cut_off(new: MachineSummary, old: MachineSummary) -> None:
    """The message stays readable where every machine differs in its own way, and says how many more there are."""
    others = [
        Cohort(MachineSummary(old.row, old.format, 1, old.rows, error=f"error {number}"), names=(f"host{number}",))
        for number in range(30)
    ]
    text = plain(mismatch_lines(groups_of([Cohort(new, 100, ("new",)), *others], key)))
    assert text.count(", against new and 99 more:") == 8
    assert text.endswith("and 22 more that differ in other ways")


def test_the_side_that_could_do_better_is_told_what_the_other_lacks(new: MachineSummary, old: MachineSummary) -> None:
    """Where a machine has the better row, the reasons are those of the others against it."""
    apart = mismatch_between(new, old)
    assert apart.fields[0] == "row aiter-preshuffle, not aiter-token"
    assert [reason[:40] for reason in apart.reasons] == ["on the other side: Triton is too old: Tr"]
    assert [(each.left.name, each.left.value, each.right.value) for each in apart.facts] == [
        ("triton", "3.6.0", "3.4.0")
    ]
    assert [str(step) for step in apart.fix] == ["export NSA_CAPS_ROW=aiter-token"]


def test_a_fix_is_offered_only_where_it_brings_the_same_pages(tmp_path: Path, new: MachineSummary) -> None:
    """A newer Triton on another arch brings the row, not the dialect: it is no fix."""
    host = machine(tmp_path / "mi350", archs=["gfx950"], triton="3.4.0", aiter="a6bb4993", environ=AITER)
    apart = mismatch_between(summary_of(decide(probe(host))), new)
    assert "triton.too-old" in apart.reasons[0]
    assert any(field.startswith("dialect") for field in apart.fields)
    assert apart.fix == ()


def test_on_another_platform_nothing_else_matters(tmp_path: Path, new: MachineSummary) -> None:
    """Of a row of another platform only that is told, though its packages are missing as well."""
    hopper = summary_of(decide(probe(machine(tmp_path / "h", platform="cuda", archs=["sm_90"], deep_gemm="2.1.0"))))
    (reason,) = mismatch_between(hopper, new).reasons
    assert reason.endswith("[platform.mismatch]")


def test_a_stance_travels_as_json(new: MachineSummary, old: MachineSummary) -> None:
    """What is read back is what was sent, also of a machine without a row."""
    without = summary_of(decide(Capabilities()))
    assert without.error == "no layout: each row is refused, or needs what is not known"
    for summary in (new, old, without):
        assert MachineSummary.from_dict(summary.to_dict(), "rank 0") == summary


def test_every_fact_says_what_it_is_about(tmp_path: Path) -> None:
    """The facts name the request, the switches with their variables, packages with where they were read, no nothing."""
    host = machine(tmp_path / "m", archs=["gfx942", "gfx950"], aiter="a6bb4993", environ=AITER)
    caps = probe(host).replace(deep_gemm=Package("deep_gemm", "broken", None, None, "/d"))
    facts = {fact.name: fact for fact in summary_of(decide(caps, Request(heads=1, page_size=64))).facts}
    assert facts["devices"].value == "1 x gfx942, 1 x gfx950"
    assert str(facts["switch use_aiter"]) == "switch use_aiter on (SGLANG_USE_AITER=1)"
    assert facts["switch row"].value == "none"
    assert facts["deep_gemm"].value == "of unknown version, broken"
    assert facts["request heads"].value == "1"
    assert facts["request rows"].value == "not given"
    assert facts["aiter's gluon_archs"].source == caps.aiter_source.location  # type: ignore[union-attr]  # it has one
    assert all(fact.value for fact in facts.values())


def test_equal_stances_are_not_apart(new: MachineSummary) -> None:
    """A machine compared with itself differs in nothing."""
    apart = mismatch_between(new, new)
    assert (apart.fields, apart.reasons, apart.facts, apart.fix) == ((), (), (), ())


def test_a_pool_is_a_field_of_the_layout(new: MachineSummary) -> None:
    """Equal pages whose slots stand for other numbers of tokens are not equal layouts."""
    assert isinstance(new.format, PageFormat)
    pooled = MachineSummary(new.row, new.format, 4, new.rows, new.facts)
    assert list(pooled.field_differences(new)) == [
        "index_kpool 4, not 1: an index slot stands for another number of tokens"
    ]
