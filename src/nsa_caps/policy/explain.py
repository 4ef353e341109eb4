"""A decision in words, one screen of it: lines whose parts carry a role. Pure; colour is the terminal's matter."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from nsa_caps.base.lines import Line, indented, plain, printable
from nsa_caps.base.serial import field_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsa_caps.capabilities.records import Capabilities, Note, Package, Switch
    from nsa_caps.policy.changes import Change
    from nsa_caps.policy.reasons import Reason, RowVerdict
    from nsa_caps.policy.request import Request
    from nsa_caps.policy.rows import Row

__all__ = [
    "Decided",
    "explain",
    "headline",
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

    def verdict(self, row: str) -> RowVerdict:
        """Return what was decided of a row."""

    def better_rows(self) -> tuple[RowVerdict, ...]:
        """Return the verdicts on the rows before the chosen one."""

    def fix(self, row: str) -> _Fix | None:
        """Return the fewest changes that bring a row."""

    def best_fix(self) -> _Fix | None:
        """Return the fewest changes that bring a better row."""


_LABEL = 11
_BLANK: Line = ()


def explain(decision: Decided) -> str:
    """Return the verdict, what it rests on, why every better row is out, the smallest fix, and the notes."""
    lines = list(report_lines(decision))
    notes = list(note_lines(decision.caps.notes))
    return plain([*lines, _BLANK, *notes] if notes else lines)


def report_lines(decision: Decided) -> Iterator[Line]:
    """Return the report without its notes, the verdict first."""
    yield headline(decision)
    for caveat in decision.caveats:
        yield from indented("  mind: ", caveat)
    yield _BLANK
    yield from _fact_lines(decision)
    better = decision.better_rows()
    if better:
        yield _BLANK
        yield (("Better rows are out:" if decision.chosen else "Every row is out:", "label"),)
        yield from _barred_lines(better)
    if decision.forced and decision.chosen:
        yield _BLANK
        yield (("Forced against:", "label"),)
        yield from _barred_lines((decision.verdict(decision.chosen),))
    fix = list(_fix_lines(decision))
    if fix:
        yield _BLANK
        yield from fix


def headline(decision: Decided) -> Line:
    """Return the verdict: the row, its page size and what it is."""
    if decision.chosen is None:
        return (("No row may be used: every one is refused or rests on something unknown.", "bad"),)
    summary = next(row.summary for row in decision.rows if row.name == decision.chosen)
    verdict, explanation = short_headline(decision), f": {summary}"
    if decision.forced:
        return (verdict, "bad"), (" (refused, and forced by NSA_CAPS_ROW_FORCE)", "bad"), (explanation, "")
    return (verdict, "good"), (explanation, "")


def short_headline(decision: Decided) -> str:
    """Return the row chosen and its page size."""
    if decision.chosen is None:
        return "no row"
    size, kpool = decision.verdict(decision.chosen).page_size, decision.request.index_kpool
    model = f" (model page {size * kpool})" if kpool > 1 else ""
    return f"{decision.chosen}, page size {size}{model}"


def _fact_lines(decision: Decided) -> Iterator[Line]:
    """Return what the verdict rests on: a name, a value and where it was read, in columns."""
    facts = list(_facts(decision.caps, decision.request))
    base = _shared_folder(decision.caps)
    width = min(26, max(len(value) for _, value, _ in facts))
    for name, value, source in facts:
        where = printable((source or "").replace(base + "/", "", 1) if base else source or "")
        source_span = (("  " + where, "source"),) if where else ()
        yield (f"{printable(name):<{_LABEL}}", "label"), (f"{printable(value):<{width}}", ""), *source_span
    if base:
        yield ("packages", "label"), (f"{'':<{_LABEL - 8}}below ", ""), (printable(base), "source")


def _facts(caps: Capabilities, request: Request) -> Iterator[tuple[str, str, str | None]]:
    yield "platform", caps.platform, caps.platform_source or "no readable torch"
    if not caps.devices:
        yield "devices", "not known" if caps.devices is None else "none", None
    for arch in caps.archs or ():
        same = [device for device in caps.devices or () if device.arch == arch]
        yield "devices", f"{len(same)} x {arch}", same[0].source
    packages = caps.packages
    for package in packages:
        if package.state != "missing":
            yield package.name, _version(package), package.source or package.location
    missing = [package.name for package in packages if package.state == "missing"]
    if missing:
        yield "missing", ", ".join(missing), None
    # Two equal machines may hold their switches in different order.
    for _, switch in sorted(caps.switches.items()):
        if switch.variable:
            yield "switch", f"{switch.name} {_value(switch)}", f"{switch.variable}={switch.raw} ({switch.source})"
    yield "engine", caps.engine, None
    asked = _asked(request)
    if asked:
        yield "request", asked, None


def _version(package: Package) -> str:
    version = package.version or "of unknown version"
    return version if package.state == "found" else f"{version}, {package.state}"


def _value(switch: Switch) -> str:
    if switch.value is None:
        return "unreadable"
    return {True: "on", False: "off"}[switch.value] if isinstance(switch.value, bool) else switch.value


def _asked(request: Request) -> str:
    """Return what the request asks for beyond the default of every field."""
    default = type(request)()
    names = [name for name in field_names(request) if getattr(request, name) != getattr(default, name)]
    return ", ".join(f"{name} {getattr(request, name)}" for name in names)


def _shared_folder(caps: Capabilities) -> str | None:
    """Return the folder that two or more of the packages lie in, which need not be printed with each."""
    places = [package.location for package in caps.packages]
    folders = [os.path.dirname(place) for place in places if place]
    return next((folder for folder in folders if folder and folders.count(folder) > 1), None)


def _barred_lines(verdicts: Iterable[RowVerdict]) -> Iterator[Line]:
    """Return why rows are out: each reason once, under the rows that it bars."""
    elsewhere: dict[str, list[str]] = {}
    barred: dict[Reason, list[str]] = {}
    for verdict in verdicts:
        reached = verdict.out_of_reach
        if reached is not None:
            elsewhere.setdefault(reached, []).append(verdict.row)
            continue
        for reason in verdict.reasons:
            barred.setdefault(reason, []).append(verdict.row)
    groups: dict[str, list[Reason]] = {}
    for reason, rows in barred.items():
        groups.setdefault(", ".join(rows), []).append(reason)
    for names, reasons in groups.items():
        yield (("  " + names, "row"),)
        for reason in reasons:
            yield from _reason_lines(reason)
    for why, rows in elsewhere.items():
        yield ("  " + ", ".join(rows), "row"), (f": {why}", "")


def _reason_lines(reason: Reason) -> Iterator[Line]:
    # What is not known is told from what is known to be wrong by its mark.
    mark = "-" if reason.verdict == "unmet" else "?"
    text = f"{reason.summary}: {reason.observed}; needs {reason.required} [{reason.code}]"
    yield from indented(f"    {mark} ", text)
    for word, change in zip(("fix:", *[" or:"] * len(reason.changes)), reason.changes, strict=False):
        yield from indented(f"      {word} ", change.text, "command")


def _fix_lines(decision: Decided) -> Iterator[Line]:
    fix = decision.best_fix()
    if fix is not None:
        yield from _steps_of(fix)
        return
    within_reach = [verdict for verdict in decision.better_rows() if verdict.out_of_reach is None]
    if within_reach:
        better = "a better row" if decision.chosen else "any row"
        yield ((f"No change that can be foreseen brings {better}.", "label"),)
        yield from _advice_lines(within_reach)


def _advice_lines(verdicts: Iterable[RowVerdict]) -> Iterator[Line]:
    """Return what to do where its outcome cannot be foreseen: it tells what is not known."""
    changes = (change for verdict in verdicts for reason in verdict.reasons for change in reason.changes)
    advice = dict.fromkeys(change.text for change in changes if change.kind == "advice")
    if advice:
        yield (("To know more:", "label"),)
        for text in advice:
            yield from indented("  ", text, "command")


def _steps_of(fix: _Fix) -> Iterator[Line]:
    verdict = fix.verdict
    yield ((f"Smallest fix, for {verdict.row} with page size {verdict.page_size}:", "label"),)
    for step in fix.steps:
        yield from indented("  ", step.fix or "", "command")


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
        yield ((f"{row} is chosen, page size {verdict.page_size}", "good"),)
        return
    if verdict.verdict == "met":
        yield (f"{row} may be used, page size {verdict.page_size}", ""), (f"; chosen is {short_headline(decision)}", "")
    else:
        chosen = "forced all the same" if decision.chosen == row else f"chosen is {short_headline(decision)}"
        word = "refused" if verdict.verdict == "unmet" else "not known to run"
        yield (f"{row} is {word}, page size {verdict.page_size}", "bad"), (f"; {chosen}", "")
    for reason in verdict.reasons:
        yield _BLANK
        yield from indented("", f"{reason.summary} [{reason.code}]", "row")
        yield from indented("  found:  ", reason.observed)
        yield from indented("  needs:  ", reason.required)
        if reason.source:
            yield ("  source: ", ""), (printable(reason.source), "source")
        for word, change in zip(("fix:    ", *["    or: "] * len(reason.changes)), reason.changes, strict=False):
            yield from indented(f"  {word}", change.text, "command")
    yield _BLANK
    fix = decision.fix(row)
    if fix is None:
        yield (("No change that can be foreseen brings it.", "label"),)
        yield from _advice_lines((verdict,))
    else:
        yield from _steps_of(fix)


def note_lines(notes: Iterable[Note]) -> Iterator[Line]:
    """Return notes, a line each: what a reader should know and that decides nothing."""
    for note in notes:
        yield ("note: ", "label"), (printable(note.source), "source"), (printable(f": {note.text}"), "")
