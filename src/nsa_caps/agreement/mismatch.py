"""What sets machines apart that should share a layout: in groups, largest first, field by field and by which evidence.

The words are the same whether it is ranks of a job, two peers or a fleet that disagree. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_caps.agreement.summary import FactDifference, MachineSummary, fact_differences
from nsa_caps.base.lines import indented
from nsa_caps.errors import NsaCapsError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from nsa_caps.base.lines import Line

__all__ = [
    "Cohort",
    "Group",
    "LayoutMismatchError",
    "Mismatch",
    "groups_of",
    "mismatch_between",
    "mismatch_lines",
    "rank_names",
    "who",
]

# A person reads the first few: whoever wants all of them asks for data.
_MOST_FACTS, _MOST_PARTIES, _MOST_RUNS = 12, 8, 16


class LayoutMismatchError(NsaCapsError, RuntimeError):
    """Those who must share a layout do not.

    Attributes:
        groups: who stands where, the largest group first.
    """

    def __init__(self, message: str, groups: tuple[Group, ...]) -> None:
        super().__init__(message)
        self.groups = groups


@dataclass(frozen=True)
class Cohort:
    """Machines or ranks that are alike in everything that was compared.

    Attributes:
        summary: where they stand.
        count: how many they are.
        names: what the first of them are called.
        ranks: their global ranks, where they are ranks.
    """

    summary: MachineSummary
    count: int = 1
    names: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Group:
    """Parties that share a layout, the largest first.

    Attributes:
        parties: at least one.
    """

    parties: tuple[Cohort, ...]

    @property
    def count(self) -> int:
        """How many machines or ranks these are."""
        return sum(party.count for party in self.parties)

    @property
    def summary(self) -> MachineSummary:
        """Where the largest party stands."""
        return self.parties[0].summary

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows that bring this layout, that of the largest party first."""
        return tuple(dict.fromkeys(party.summary.row for party in self.parties if party.summary.row))

    @property
    def headline(self) -> str:
        """The layout in one line."""
        pages = self.summary.format
        if pages is None:
            return self.summary.error or "no layout"
        kpool = f", index_kpool {self.summary.index_kpool}" if self.summary.index_kpool > 1 else ""
        text = f"pages of {pages.page_size}, {pages.order}, {pages.dialect}{kpool} [{pages.fingerprint}]"
        return f"{' or '.join(self.rows)}, {text}"


@dataclass(frozen=True)
class Mismatch:
    """What sets one summary apart from another one.

    Attributes:
        fields: the fields of the layout that differ, and what that does, a sentence each.
        reasons: why the row of the one is out at the other, a sentence each, with sources.
        facts: what was found differently.
        fix: the fewest changes after which it would have the other's layout; empty where none can be foreseen.
    """

    fields: tuple[str, ...]
    reasons: tuple[str, ...]
    facts: tuple[FactDifference, ...]
    fix: tuple[str, ...]


def groups_of(parties: Iterable[Cohort], key: Callable[[MachineSummary], Hashable]) -> tuple[Group, ...]:
    """Return the parties in groups of equal key, the largest first; of two as large the one with the better row."""
    found: dict[Hashable, list[Cohort]] = {}
    for party in parties:
        found.setdefault(key(party.summary), []).append(party)
    groups = [Group(tuple(sorted(each, key=lambda party: -party.count))) for each in found.values()]
    return tuple(sorted(groups, key=lambda group: (group.summary.format is None, -group.count, _place(group.summary))))


def _place(summary: MachineSummary) -> int:
    names = [each.row for each in summary.rows]
    return names.index(summary.row) if summary.row in names else len(names)


def mismatch_between(summary: MachineSummary, other: MachineSummary) -> Mismatch:
    """Return what sets a summary apart from another one, and what would bring it there."""
    fields = list(summary.field_differences(other))
    if summary.row != other.row and summary.row is not None:
        fields.insert(0, f"row {summary.row}, not {other.row}")
    elif summary.kernels is not None and other.kernels is not None and summary.kernels != other.kernels:
        ours, its = (", ".join(filter(None, kernels)) for kernels in (summary.kernels, other.kernels))
        fields.insert(0, f"kernels {ours}, not {its}: they may choose other tokens")
    if summary.error is not None:
        fields.insert(0, summary.error)
    mine, theirs = summary.row_summary(other.row), other.row_summary(summary.row)
    reasons: tuple[str, ...] = ()
    if summary.row != other.row:
        reasons = mine.reasons if mine else ()
        if not reasons and theirs:
            # The other's row may be used here too: it is this one's better row that the other lacks.
            reasons = tuple(f"on the other side: {reason}" for reason in theirs.reasons)
    brings = mine is not None and mine.fixed == other.format and summary.index_kpool == other.index_kpool
    fix = (mine.fix or ()) if mine is not None and brings else ()
    return Mismatch(tuple(fields), reasons, fact_differences(summary, other), fix)


def mismatch_lines(groups: tuple[Group, ...]) -> Iterator[Line]:
    """Return the groups, and below them what sets each party of the smaller ones apart from the largest group."""
    for group in groups:
        count = f"{group.count:,} x " if group.count > 1 and group.parties[0].names else ""
        yield from indented("  - ", f"{count}{group.headline}: {who(group.parties)}", "row")
    reference = groups[0]
    told: dict[Mismatch, list[Cohort]] = {}
    for party in (party for group in groups[1:] for party in group.parties):
        told.setdefault(mismatch_between(party.summary, reference.summary), []).append(party)
    for apart, parties in list(told.items())[:_MOST_PARTIES]:
        yield ()
        yield from indented("", f"{who(parties, 1)}, against {who(reference.parties, 1)}:", "label")
        yield from _body(apart)
    if len(told) > _MOST_PARTIES:
        yield ()
        yield ((f"and {len(told) - _MOST_PARTIES} more that differ in other ways", "label"),)


def _body(apart: Mismatch) -> Iterator[Line]:
    for text in apart.fields:
        yield from indented("  - ", text)
    for word, texts in (("because", apart.reasons), ("differences", apart.facts)):
        if texts:
            yield ((f"  {word}", "label"),)
        for each in texts[:_MOST_FACTS]:
            yield from indented("  - ", str(each))
        if len(texts) > _MOST_FACTS:
            yield ((f"  - and {len(texts) - _MOST_FACTS} more", ""),)
    for word, step in zip(("  fix: ", *["  and: "] * len(apart.fix)), apart.fix, strict=False):
        yield from indented(word, step, "command")


def who(parties: Sequence[Cohort], most: int = 4) -> str:
    """Return what parties are called: their ranks, or the first `most` of their names and how many more they are."""
    ranks = sorted(rank for party in parties for rank in party.ranks)
    if ranks:
        return rank_names(ranks)
    names = [name for party in parties for name in party.names]
    count = sum(party.count for party in parties)
    more = f" and {count - most:,} more" if count > most else ""
    return f"{', '.join(names[:most])}{more}"


def rank_names(ranks: Sequence[int]) -> str:
    """Return ascending ranks in words, such as `ranks 0-2, 5`."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and runs[-1][-1] + 1 == rank:
            runs[-1] = [runs[-1][0], rank]
        else:
            runs.append([rank])
    shown = ["-".join(map(str, run)) for run in runs[:_MOST_RUNS]]
    more = f" and {len(runs) - _MOST_RUNS} runs more" if len(runs) > _MOST_RUNS else ""
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(shown)}{more}"
