"""A decision in words, one screen of it: lines whose parts carry a role. Pure; colour is the terminal's matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nsa_caps.base.lines import HANG, Line, indented, plain, printable
from nsa_caps.policy.fact_lines import fact_lines
from nsa_caps.policy.kept import proof_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nsa_caps.capabilities.records import Capabilities, Note
    from nsa_caps.policy.changes import Change
    from nsa_caps.policy.reasons import Reason, RowVerdict
    from nsa_caps.policy.request import Request
    from nsa_caps.policy.rows import Row

__all__ = [
    "Decided",
    "explain",
    "headline",
    "is_best",
    "note_lines",
    "report_lines",
    "short_headline",
    "supposed_lines",
    "what_if_lines",
    "why_lines",
]


class _Fix(Protocol):
    """A smallest fix, as `nsa_caps.policy.decision` makes it."""

    @property
    def verdict(self) -> RowVerdict:
        """What would be decided."""

    @property
    def steps(self) -> tuple[Reason, ...]:
        """The reasons removed."""


class Decided(Protocol):
    """What is put into words: a `Decision`, which stands above this module as it explains itself by it."""

    @property
    def caps(self) -> Capabilities:
        """The machine."""

    @property
    def request(self) -> Request:
        """What was asked."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """The table."""

    @property
    def chosen(self) -> str | None:
        """The row to use."""

    @property
    def forced(self) -> bool:
        """Whether a refused row was forced."""

    @property
    def caveats(self) -> tuple[str, ...]:
        """What to know of the row chosen."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where the row chosen gives wrong results."""

    def verdict(self, row: str) -> RowVerdict:
        """Return what was decided of a row."""

    def better_rows(self) -> tuple[RowVerdict, ...]:
        """Return the verdicts on the rows before the chosen one."""

    def fix(self, row: str) -> _Fix | None:
        """Return the fewest changes that bring a row."""


_BLANK: Line = ()
# A person reads the first few: whoever wants all of them asks for data.
_MOST_NOTES = 100
# The kinds of changes that one cannot type.
_IN_WORDS = ("aiter", "arch", "page-size")
# A proof settles what is not known.
_TRY = "nsa-caps prove"
# Whoever has no torch, or something else that every row needs, need not read what else each row lacks.
_UNBLOCK_FIRST = "More may stand against each row once that is mended: nsa-caps why ROW"


def explain(decision: Decided) -> str:
    """Return the verdict, what it rests on, why every better row is out, the smallest fix, and the notes."""
    lines = list(report_lines(decision))
    notes = list(note_lines(decision.caps.notes))
    return plain([*lines, _BLANK, *notes] if notes else lines)


def report_lines(decision: Decided) -> Iterator[Line]:
    """Return the report without its notes: the verdict, what it rests on, why not better, the smallest fix."""
    yield headline(decision)
    for warning in decision.warnings:
        yield (("  warning: ", "warning"), HANG, (printable(warning), "warning"))
    for caveat in decision.caveats:
        yield from indented("  ", caveat)
    if decision.chosen:
        yield from proof_lines(decision.verdict(decision.chosen))
    yield _BLANK
    yield from fact_lines(decision.caps, decision.request)
    within_reach = [verdict for verdict in decision.better_rows() if verdict.out_of_reach is None]
    if within_reach or _not_run(decision):
        yield _BLANK
        yield from _why_not_better(decision, within_reach)
    elif decision.chosen and not decision.forced:
        yield _BLANK
        yield from indented("", f"This is the best row on {decision.caps.platform}.")
    if decision.forced and decision.chosen:
        yield _BLANK
        yield (("Forced against:", "label"),)
        yield from _barred_lines((decision.verdict(decision.chosen),), {decision.chosen})


def headline(decision: Decided) -> Line:
    """Return the verdict: the row, its page size and what it is."""
    if decision.chosen is None:
        common = _common_reasons(decision)
        why = f"{common[0].summary}: {common[0].observed}" if common else "each is refused, or needs what is not known"
        return HANG, ("No row may be used", "bad"), (f": {printable(why)}.", "")
    summary = next(row.summary for row in decision.rows if row.name == decision.chosen)
    verdict, explanation = short_headline(decision), f": {summary}"
    if decision.forced:
        return HANG, (verdict, "bad"), (" (refused, and forced by NSA_CAPS_ROW_FORCE)", "bad"), (explanation, "")
    return HANG, (verdict, "good" if is_best(decision) else "fallback"), (explanation, "")


def is_best(decision: Decided) -> bool:
    """Return whether no row that this platform and the engine could ever run comes before the chosen one."""
    return decision.chosen is not None and all(verdict.out_of_reach for verdict in decision.better_rows())


def short_headline(decision: Decided) -> str:
    """Return the row chosen and its page size."""
    if decision.chosen is None:
        return "no row"
    size, kpool = decision.verdict(decision.chosen).page_size, decision.request.index_kpool
    model = f" (model page {size * kpool})" if kpool > 1 else ""
    return f"{decision.chosen}, page size {size}{model}"


def _not_run(decision: Decided) -> list[str]:
    """Return the better rows of this platform that the engine does not run."""
    return [
        verdict.row
        for verdict in decision.better_rows()
        if verdict.out_of_reach and not any(reason.code == "platform.mismatch" for reason in verdict.reasons)
    ]


def _common_reasons(decision: Decided) -> list[Reason]:
    """Return the reasons that bar every row, in the order in which the last row has them."""
    verdicts = decision.better_rows()
    return [
        reason for reason in verdicts[-1].reasons if all(reason in verdict.reasons for verdict in verdicts)
    ] if decision.chosen is None and verdicts else []  # fmt: skip


def _why_not_better(decision: Decided, within_reach: list[RowVerdict]) -> Iterator[Line]:
    """Return what bars the better rows of this platform, and the one next step."""
    common = _common_reasons(decision)
    fixes = {verdict.row: decision.fix(verdict.row) for verdict in within_reach}
    reachable = {row for row, fix in fixes.items() if fix is not None}
    yield (("Why not a better one:" if decision.chosen else "Why none:", "label"),)
    if common:
        yield (("  every row", "row"),)
        for reason in common:
            yield from _reason_lines(reason, fixes=bool(reachable))
        yield from indented("  ", _UNBLOCK_FIRST)
    else:
        yield from _barred_lines(within_reach, reachable)
    not_run = _not_run(decision)
    if not_run:
        yield (("  " + ", ".join(not_run), "row"), HANG, (": not among the rows that the engine runs", ""))
    best = next((fix for fix in fixes.values() if fix is not None), None)
    if best is not None:
        yield _BLANK
        yield from _steps_of(best)
    elif within_reach:
        yield _BLANK
        yield from _no_fix_lines(within_reach, "a better row" if decision.chosen else "any row")


def _barred_lines(verdicts: Iterable[RowVerdict], reachable: set[str]) -> Iterator[Line]:
    """Return why rows are out: each reason once, under the rows that it bars.

    A row that no fix brings is told by what nothing can change; the rest of it, and every fix, would lead nowhere.
    """
    barred: dict[Reason, list[str]] = {}
    for verdict in verdicts:
        final = () if verdict.row in reachable else _final_reasons(verdict)
        for reason in final or verdict.reasons:
            barred.setdefault(reason, []).append(verdict.row)
    groups: dict[tuple[str, ...], list[Reason]] = {}
    for reason, rows in barred.items():
        groups.setdefault(tuple(rows), []).append(reason)
    for names, reasons in groups.items():
        yield (("  " + ", ".join(names), "row"),)
        for reason in reasons:
            yield from _reason_lines(reason, fixes=not reachable.isdisjoint(names))


def _reason_lines(reason: Reason, *, fixes: bool) -> Iterator[Line]:
    # What is not known is told from what is known to be wrong by its mark.
    mark = "-" if reason.verdict == "unmet" else "?"
    text = f"{reason.summary}: {reason.observed}; needs {reason.required} [{reason.code}]"
    yield from indented(f"    {mark} ", text)
    changes = reason.changes if fixes else ()
    for word, change in zip(("fix:", *[" or:"] * len(changes)), changes, strict=False):
        yield _change_line(f"      {word} ", change)


def _change_line(start: str, change: Change) -> Line:
    """Return a change: what one can type whole and coloured, what is said in words broken like them."""
    text = printable(change.text)
    if change.kind in _IN_WORDS:
        return (start, ""), HANG, (text, "")
    return (start, ""), (text, "command")


def _no_fix_lines(verdicts: Sequence[RowVerdict], what: str) -> Iterator[Line]:
    """Return that nothing helps and why, or what to try where the outcome cannot be foreseen."""
    changes = (change for verdict in verdicts for reason in verdict.reasons for change in reason.changes)
    advice = dict.fromkeys(change.text for change in changes if change.kind == "advice")
    if any(verdict.verdict == "unknown" and verdict.format is not None for verdict in verdicts):
        advice[_TRY] = None
    if advice:
        yield (("Try this, which may change the answer:", "label"),)
        for text in advice:
            yield from indented("  ", text, "command")
        return
    final = _final_reasons(verdicts[0])
    why = f": {final[0].summary} ({final[0].observed})" if final else ""
    yield HANG, (f"Nothing that you can install or set brings {what}", "label"), (f"{printable(why)}.", "")


def _final_reasons(verdict: RowVerdict) -> list[Reason]:
    """Return the reasons that nothing can change."""
    return [reason for reason in verdict.reasons if not reason.changes]


def _steps_of(fix: _Fix) -> Iterator[Line]:
    verdict = fix.verdict
    yield ((f"Smallest fix, for {verdict.row} with page size {verdict.page_size}:", "label"),)
    for number, step in enumerate(fix.steps, 1):
        yield _change_line("  " if len(fix.steps) == 1 else f"  {number}. ", step.changes[0])


def what_if_lines(decision: Decided, changes: Iterable[Change], before: Decided) -> Iterator[Line]:
    """Return the report after changes, under what they are and what is chosen `before` them."""
    yield from indented("as it is:  ", short_headline(before))
    yield from supposed_lines(changes)
    yield from report_lines(decision)


def supposed_lines(changes: Iterable[Change]) -> Iterator[Line]:
    """Return what was supposed, above the answer that rests on it; nothing where nothing was."""
    words = [
        f"{change.name}={change.value}" if change.kind == "set"
        else f"{change.name} unset" if change.kind == "unset"
        else change.name if change.kind == "torch" or change.value is None
        else f"{change.value}" if change.kind == "package"
        else f"{change.name} {change.value}"
        for change in changes
    ]  # fmt: skip
    if words:
        yield from indented("what if:   ", ", ".join(words))
        yield _BLANK


def why_lines(decision: Decided, row: str) -> Iterator[Line]:
    """Return everything against one row, with sources, every fix, and the smallest one.

    Raises:
        UnknownRowError: there is no row of this name.
    """
    verdict = decision.verdict(row)
    if decision.chosen == row and not decision.forced:
        yield ((f"{row} is chosen, page size {verdict.page_size}", "good" if is_best(decision) else "fallback"),)
        return
    if verdict.verdict == "met":
        first, role, then = "may be used", "", f"; chosen is {short_headline(decision)}"
    else:
        first, role = "is refused" if verdict.verdict == "unmet" else "is not known to run", "bad"
        forced = decision.chosen == row
        then = "; forced all the same" if forced else f"; chosen is {short_headline(decision)}"
    yield HANG, (f"{row} {first}, page size {verdict.page_size}", role), (then, "")
    fix = decision.fix(row)
    for reason in verdict.reasons:
        yield _BLANK
        yield from _whole_reason_lines(reason, fixes=fix is not None)
    yield _BLANK
    if fix is None:
        yield from _no_fix_lines((verdict,), row)
    else:
        yield from _steps_of(fix)


def _whole_reason_lines(reason: Reason, *, fixes: bool) -> Iterator[Line]:
    yield from indented("", f"{reason.summary} [{reason.code}]", "row")
    yield from indented("  found:  ", reason.observed)
    yield from indented("  needs:  ", reason.required)
    if reason.source:
        yield from indented("  source: ", reason.source, "source")
    changes = reason.changes if fixes else ()
    for word, change in zip(("fix:    ", *["    or: "] * len(changes)), changes, strict=False):
        yield _change_line(f"  {word}", change)


def note_lines(notes: Iterable[Note]) -> Iterator[Line]:
    """Return notes, a line each: what a reader should know and that decides nothing."""
    listed = list(notes)
    for note in listed[:_MOST_NOTES]:
        yield ("note: ", "label"), HANG, (printable(note.source), "source"), (printable(f": {note.text}"), "")
    if len(listed) > _MOST_NOTES:
        yield ("note: ", "label"), (f"and {len(listed) - _MOST_NOTES:,} more, which `nsa-caps snapshot` has", "")
