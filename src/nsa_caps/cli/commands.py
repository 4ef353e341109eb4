"""What each command does with the question: a function a command."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from nsa_caps.cli.prove import prove
from nsa_caps.cli.question import NO, YES, Answer, UsageError, request_of
from nsa_caps.policy.decision import decide
from nsa_caps.policy.explain import report_lines, supposed_lines, what_if_lines, why_lines
from nsa_caps.report.documents import (
    matrix_document,
    report_document,
    row_document,
    selfcheck_document,
    what_if_document,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import SimpleNamespace

    from nsa_caps.base.lines import Line
    from nsa_caps.cli.question import Question
    from nsa_caps.policy.changes import Change
    from nsa_caps.policy.decision import Decision

__all__ = ["COMMANDS", "WITHOUT_A_MACHINE"]


def _report(question: Question) -> Answer:
    decision = question.decide()
    code = NO if decision.chosen is None else YES
    if question.options.json:
        return Answer(code, report_document(decision), question.caps)
    return Answer(code, (*report_lines(decision), *_invitation(decision)), question.caps)


def _invitation(decision: Decision) -> Iterator[Line]:
    """Return what else may be asked, where this machine shows little of it."""
    if decision.chosen is None or not decision.caps.devices:
        yield ()
        yield ("See what it says of other machines:  ", ""), ("nsa-caps tour", "command")


def _tour(question: Question) -> Answer:
    from nsa_caps.report.tour import Stop, tour_document, tour_lines  # noqa: PLC0415 this command's alone
    from nsa_caps.testing.named_machines import TITLES, TOUR, named_capabilities  # noqa: PLC0415 as above

    decision = question.decide()
    machines = {name: named_capabilities(name, question.caps.engine) for name in TOUR}
    stops = [Stop(name, TITLES[name], decide(caps, question.request, question.rows)) for name, caps in machines.items()]
    if question.options.json:
        return Answer(YES, tour_document(decision, stops), question.caps)
    return Answer(YES, tour_lines(decision, stops), question.caps)


def _what_if(question: Question) -> Answer:
    changes: list[Change] = question.options.changes
    if not changes:
        raise UsageError("what-if needs a change: --triton, --arch, --aiter, --set or --unset")
    before, question = question.decide(), question.changed()
    decision = question.decide()
    code = NO if decision.chosen is None else YES
    if question.options.json:
        return Answer(code, what_if_document(decision, changes, before), question.caps)
    return Answer(code, what_if_lines(decision, changes, before), question.caps)


def _row(question: Question) -> Answer:
    question, changes = question.changed(), question.options.changes
    decision, row = question.decide(), question.options.row
    decision.verdict(row)
    code = YES if decision.chosen == row and not decision.forced else NO
    if question.options.json:
        return Answer(code, row_document(question.options.command, decision, row, changes), question.caps)
    return Answer(code, (*supposed_lines(changes), *why_lines(decision, row)), question.caps)


def _snapshot(question: Question) -> Answer:
    return Answer(YES, question.caps.to_dict(), question.caps)


def _matrix(question: Question) -> Answer:
    from nsa_caps.report.matrix import matrix, matrix_lines  # noqa: PLC0415 this command's alone

    found = matrix(question.caps, question.request, question.rows)
    if question.options.svg is not None:
        from nsa_caps.report.matrix_svg import draw  # noqa: PLC0415 as above

        _write_file("--svg", question.options.svg, draw(found))
    if question.options.json:
        return Answer(YES, matrix_document(found), question.caps)
    return Answer(YES, matrix_lines(found), question.caps)


def _compare(options: SimpleNamespace) -> Answer:
    """Compare other machines than this one, which is not probed."""
    from nsa_caps.agreement.document import compare_document  # noqa: PLC0415 as above
    from nsa_caps.agreement.fleet import compare, fleet_lines, read_machines  # noqa: PLC0415 as above

    if options.source is not None or options.python is not None:
        raise UsageError("compare takes its machines as arguments or on stdin, not by --from or --python")
    if not options.machines:
        raise UsageError("compare needs its machines: files, folders, or - for what comes on stdin")
    machines = read_machines(options.machines, sys.stdin)
    found = compare(machines, request_of(options), options.engine, os.environ)
    if options.svg is not None:
        from nsa_caps.agreement.picture import draw_fleet  # noqa: PLC0415 as above

        _write_file("--svg", options.svg, draw_fleet(found))
    output = compare_document(found) if options.json else fleet_lines(found)
    return Answer(YES if found.shared else NO, output)


def _write_file(option: str, path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror or error}") from error


def _selfcheck(question: Question) -> Answer:
    from nsa_caps.selfcheck.check import default_device, run  # noqa: PLC0415 this command's alone

    decision = question.decide()
    possible = [verdict.row for verdict in decision.verdicts if verdict.verdict != "unmet"]
    names = question.options.check_rows or possible
    checks = run(question.caps, question.request, question.options.device or default_device(), names, question.rows)
    code = YES if checks and all(check.verdict == "proven" for check in checks) else NO
    if question.options.json:
        return Answer(code, selfcheck_document(checks), question.caps)
    lines = [line for check in checks for line in check.explain().splitlines()]
    return Answer(code, (((line, ""),) for line in lines or ["no row to check: each is refused"]), question.caps)


COMMANDS: Mapping[str, Callable[[Question], Answer]] = {
    "report": _report,
    "tour": _tour,
    "why": _row,
    "what-if": _what_if,
    "snapshot": _snapshot,
    "require": _row,
    "matrix": _matrix,
    "selfcheck": _selfcheck,
    "prove": prove,
}
"""The commands about one machine, by name."""

WITHOUT_A_MACHINE: Mapping[str, Callable[[SimpleNamespace], Answer]] = {"compare": _compare}
"""The commands that ask no machine of their own."""
