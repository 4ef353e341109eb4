"""Where one machine stands: its layout, what it says of every row, and the facts beneath; and how two of them differ.

What ranks, peers and the machines of a fleet are compared by. It travels as JSON, so that the receiver needs neither
the sender's rows nor its plugins to understand it. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsa_caps.base.serial import from_plain, to_plain
from nsa_caps.pages import PageFormat, difference
from nsa_caps.policy.decision import find_row
from nsa_caps.policy.facts import Fact, facts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nsa_caps.policy.decision import Decision
    from nsa_caps.policy.reasons import RowVerdict
    from nsa_caps.policy.rows import Row

__all__ = [
    "Fact",
    "FactDifference",
    "MachineSummary",
    "RowSummary",
    "fact_differences",
    "kernels_of",
    "summary_of",
]


@dataclass(frozen=True)
class FactDifference:
    """One fact that two machines have differently.

    Attributes:
        left: as the first has it.
        right: as the second has it.
    """

    left: Fact
    right: Fact

    def __str__(self) -> str:
        """Return both values, the first with its source."""
        return f"{self.left}, not {self.right.value}"


@dataclass(frozen=True)
class RowSummary:
    """What one machine says of one row.

    Attributes:
        row: its name.
        usable: the machine may use it: its verdict is met, or it was forced.
        format: the bytes of its pages there; None where there is no such format.
        reasons: what is against it, a sentence each, with sources; empty where it is met.
        fix: the fewest changes after which it would be chosen there; None: no change that can be foreseen brings it.
        fixed: the bytes of its pages after that fix.
        kernels: which kernels it brings, and with which options it calls them.
        variant: which of several kernels its package then runs there, in a word; None: there is one.
        proven: it was seen to run right on every kind of device there.
    """

    row: str
    usable: bool
    format: PageFormat | None
    reasons: tuple[str, ...] = ()
    fix: tuple[str, ...] | None = None
    fixed: PageFormat | None = None
    kernels: str = ""
    variant: str | None = None
    proven: bool = False


@dataclass(frozen=True)
class MachineSummary:
    """Where one machine stands.

    Attributes:
        row: the row chosen; None: no row, or it is not known which.
        format: the bytes of its pages; None: no layout.
        index_kpool: tokens that share one index slot.
        rows: what it says of every row, best first; empty where only the layout is known.
        facts: what was found there.
        error: why there is no layout; None where there is one.
        assumed: fields of the format that nobody told and no source shows.
    """

    row: str | None
    format: PageFormat | None
    index_kpool: int
    rows: tuple[RowSummary, ...] = ()
    facts: tuple[Fact, ...] = ()
    error: str | None = None
    assumed: tuple[str, ...] = ()

    @property
    def kernels(self) -> tuple[str, str | None] | None:
        """Which kernels the row chosen brings, and which of them run here; None where that is not told."""
        chosen = self.row_summary(self.row)
        return None if chosen is None else (chosen.kernels, chosen.variant)

    @property
    def is_proven(self) -> bool:
        """Whether the row chosen was seen to run right on every kind of device there."""
        chosen = self.row_summary(self.row)
        return chosen is not None and chosen.proven

    def row_summary(self, row: str | None) -> RowSummary | None:
        """Return what is said of a row, or None where nothing is."""
        return next((each for each in self.rows if each.row == row), None)

    def field_differences(self, other: MachineSummary) -> Iterator[str]:
        """Return in which fields of the layout this differs from another one, and what that does, a sentence each."""
        if self.format is None or other.format is None:
            return
        for found in difference(self.format, other.format):
            yield f"{found.field} {found.left}, not {found.right}: {found.effect}"
        if self.index_kpool != other.index_kpool:
            values = f"index_kpool {self.index_kpool}, not {other.index_kpool}"
            yield f"{values}: an index slot stands for another number of tokens"

    def to_dict(self) -> dict[str, Any]:
        """Return this as plain JSON values; `from_dict` takes them back."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], where: str) -> MachineSummary:
        """Return what `to_dict` was called on.

        Raises:
            SnapshotError: a field is of the wrong name or type; the message begins with `where`.
            PageFormatError: a page format cannot exist.
        """
        return from_plain(cls, document, where)


def summary_of(decision: Decision, error: str | None = None) -> MachineSummary:
    """Return where a machine stands, from its decision."""
    fmt = None if decision.chosen is None else decision.verdict(decision.chosen).format
    if fmt is None and error is None:
        error = "no layout: each row is refused, or needs what is not known"
    return MachineSummary(
        row=None if fmt is None else decision.chosen,
        format=fmt,
        index_kpool=decision.request.index_kpool,
        rows=tuple(_row_summary(decision, verdict) for verdict in decision.verdicts),
        facts=tuple(facts_of(decision.caps, decision.request)),
        error=error,
    )


def _row_summary(decision: Decision, verdict: RowVerdict) -> RowSummary:
    # The search for a fix would find none for what is out of reach.
    fix = None if verdict.out_of_reach else decision.fix(verdict.row)
    row = find_row(verdict.row, decision.rows)
    return RowSummary(
        row=verdict.row,
        usable=verdict.format is not None and (verdict.verdict == "met" or decision.chosen == verdict.row),
        format=verdict.format,
        reasons=tuple(f"{reason} [{reason.code}]" for reason in verdict.decisive_reasons),
        fix=None if fix is None else tuple(step.fix or "" for step in fix.steps),
        fixed=None if fix is None else fix.verdict.format,
        kernels=kernels_of(row, verdict.page_size),
        variant=None if row.variant is None else row.variant(decision.caps),
        proven=bool(verdict.proofs),
    )


def kernels_of(row: Row, page_size: int) -> str:
    """Return which kernels a row brings, and with which options: rows of one name may bring others."""
    options = ", ".join(f"{name}={value!r}" for name, value in sorted(row.logits_options(page_size).items()))
    return f"{row.kernels}, {row.logits_kernels}({options})"


def fact_differences(left: MachineSummary, right: MachineSummary) -> tuple[FactDifference, ...]:
    """Return the facts that both have, and differently."""
    others = {fact.name: fact for fact in right.facts}
    return tuple(
        FactDifference(fact, other)
        for fact in left.facts
        if (other := others.get(fact.name)) is not None and other.value != fact.value
    )
