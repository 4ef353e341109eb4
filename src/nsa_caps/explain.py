"""A decision in words, one screen of it: lines whose parts carry a role. Pure; colour is the terminal's matter."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from nsa_caps.frozen import field_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsa_caps.capabilities import Capabilities, Note, Package, Switch
    from nsa_caps.changes import Change
    from nsa_caps.policy import Decision, RowVerdict
    from nsa_caps.reasons import Reason
    from nsa_caps.request import Request

__all__ = [
    "Line",
    "best_fix",
    "explain",
    "headline",
    "indented",
    "note_lines",
    "page_size_after",
    "plain",
    "printable",
    "report_lines",
    "short_headline",
    "supposed_lines",
    "what_if_lines",
    "why_lines",
]

# A text and its role: good, bad, label, row, source, command, or nothing.
Span: TypeAlias = tuple[str, str]
Line: TypeAlias = tuple[Span, ...]

_WIDTH = 100
_LABEL = 11
_BLANK: Line = ()


def explain(decision: Decision) -> str:
    """Return the verdict, what it rests on, why every better row is out, the smallest fix, and the notes."""
    lines = list(report_lines(decision))
    notes = list(note_lines(decision.caps.notes))
    return plain([*lines, _BLANK, *notes] if notes else lines)


def plain(lines: Iterable[Line]) -> str:
    """Return lines as text without colour."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def printable(text: str) -> str:
    """Return the text with what would steer a terminal, or cannot be encoded, spelled out: variables hold anything."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def report_lines(decision: Decision) -> Iterator[Line]:
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


def headline(decision: Decision) -> Line:
    """Return the verdict: the row, its page size and what it is."""
    if decision.chosen is None:
        return (("No row may be used: every one is refused or rests on something unknown.", "bad"),)
    summary = next(row.summary for row in decision.rows if row.name == decision.chosen)
    verdict, explanation = short_headline(decision), f": {summary}"
    if decision.forced:
        return (verdict, "bad"), (" (refused, and forced by NSA_CAPS_ROW_FORCE)", "bad"), (explanation, "")
    return (verdict, "good"), (explanation, "")


def short_headline(decision: Decision) -> str:
    """Return the row chosen and its page size."""
    if decision.chosen is None:
        return "no row"
    size, kpool = decision.verdict(decision.chosen).page_size, decision.request.index_kpool
    model = f" (model page {size * kpool})" if kpool > 1 else ""
    return f"{decision.chosen}, page size {size}{model}"


def _fact_lines(decision: Decision) -> Iterator[Line]:
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
    packages = (caps.torch, caps.triton, caps.aiter, caps.deep_gemm)
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
    places = [package.location for package in (caps.torch, caps.triton, caps.aiter, caps.deep_gemm)]
    folders = [os.path.dirname(place) for place in places if place]
    return next((folder for folder in folders if folder and folders.count(folder) > 1), None)


def _barred_lines(verdicts: Iterable[RowVerdict]) -> Iterator[Line]:
    """Return why rows are out: each reason once, under the rows that it bars."""
    elsewhere: dict[str, list[str]] = {}
    barred: dict[Reason, list[str]] = {}
    for verdict in verdicts:
        reached = _out_of_reach(verdict)
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


def _out_of_reach(verdict: RowVerdict) -> str | None:
    """Return why nothing else about a row matters: it is another platform's, or not the engine's; else None."""
    for reason in verdict.reasons:
        if reason.code == "platform.mismatch":
            return f"for {reason.required}"
        if reason.code == "row.not-in-request":
            return "not among the rows that the engine runs"
    return None


def _reason_lines(reason: Reason) -> Iterator[Line]:
    # What is not known is told from what is known to be wrong by its mark.
    mark = "-" if reason.verdict == "unmet" else "?"
    text = f"{reason.summary}: {reason.observed}; needs {reason.required} [{reason.code}]"
    yield from indented(f"    {mark} ", text)
    for word, change in zip(("fix:", *[" or:"] * len(reason.changes)), reason.changes, strict=False):
        yield from indented(f"      {word} ", change.text, "command")


def indented(start: str, text: str, role: str = "") -> Iterator[Line]:
    """Return a text behind `start`, broken at blanks to fit the width; what has none stays whole and can be copied."""
    from textwrap import wrap  # noqa: PLC0415 an engine's start-up explains nothing

    broken = wrap(printable(text), _WIDTH - len(start), break_long_words=False, break_on_hyphens=False)
    for index, part in enumerate(broken):
        yield (start if index == 0 else " " * len(start), ""), (part, role)


def best_fix(decision: Decision) -> tuple[RowVerdict, int, list[Reason]] | None:
    """Return the best row that changes would bring, its page size then, and the fewest of them; None: no row."""
    for verdict in decision.better_rows():
        # No change reaches these; the search would find that out, and takes 0.1 ms a row for it.
        if _out_of_reach(verdict) is not None:
            continue
        steps = decision.smallest_fix(verdict.row)
        if steps is not None:
            return verdict, page_size_after(decision, verdict, steps), steps
    return None


def page_size_after(decision: Decision, verdict: RowVerdict, steps: Iterable[Reason]) -> int:
    """Return the page size of a row once the changes of a fix are made: one of them may be to ask for another."""
    for step in steps:
        for change in step.changes:
            if change.kind == "page-size":
                return int(change.value or next(row.page_size for row in decision.rows if row.name == verdict.row))
    return verdict.page_size


def _fix_lines(decision: Decision) -> Iterator[Line]:
    found = best_fix(decision)
    if found is not None:
        verdict, page_size, steps = found
        yield ((f"Smallest fix, for {verdict.row} with page size {page_size}:", "label"),)
        yield from _step_lines(steps)
        return
    within_reach = [verdict for verdict in decision.better_rows() if _out_of_reach(verdict) is None]
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


def _step_lines(steps: Iterable[Reason]) -> Iterator[Line]:
    for step in steps:
        yield from indented("  ", step.fix or "", "command")


def what_if_lines(decision: Decision, changes: Iterable[Change], before: Decision) -> Iterator[Line]:
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


def why_lines(decision: Decision, row: str) -> Iterator[Line]:
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
    steps = decision.smallest_fix(row)
    if steps is None:
        yield (("No change that can be foreseen brings it.", "label"),)
        yield from _advice_lines((verdict,))
    else:
        page_size = page_size_after(decision, verdict, steps)
        yield ((f"Smallest fix, for {row} with page size {page_size}:", "label"),)
        yield from _step_lines(steps)


def note_lines(notes: Iterable[Note]) -> Iterator[Line]:
    """Return notes, a line each: what a reader should know and that decides nothing."""
    for note in notes:
        yield ("note: ", "label"), (printable(note.source), "source"), (printable(f": {note.text}"), "")
