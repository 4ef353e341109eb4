"""What each command does with the question: a function a command."""

from __future__ import annotations

import os
import sys
from itertools import chain
from typing import TYPE_CHECKING, Any

from nsa_caps.base.lines import WIDTH
from nsa_caps.cli.console import width_of
from nsa_caps.cli.parser import parser, parsers
from nsa_caps.cli.question import NO, YES, Answer, UsageError, private_names, request_of, write_file
from nsa_caps.policy.changes import torch_for
from nsa_caps.policy.decision import decide
from nsa_caps.policy.engine import engine_lines
from nsa_caps.policy.explain import report_lines, supposed_lines, what_if_lines, why_lines
from nsa_caps.report.documents import (
    matrix_document,
    report_document,
    row_document,
    selfcheck_document,
    what_if_document,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import SimpleNamespace

    from nsa_caps.base.lines import Line
    from nsa_caps.cli.question import Question
    from nsa_caps.policy.changes import Change
    from nsa_caps.policy.decision import Decision

__all__ = ["COMMANDS", "WITHOUT_A_MACHINE"]


def _report(question: Question) -> Answer:
    decision, options = question.decide(), question.options
    code = NO if decision.chosen is None else YES
    if options.json or options.format == "json":
        return Answer(code, report_document(decision), question.caps)
    if options.format == "markdown":
        from nsa_caps.report.markdown import markdown  # noqa: PLC0415 few ask for it

        return Answer(code, markdown(decision), question.caps)
    if options.format in ("nfd", "prometheus"):
        from nsa_caps.report.metrics import nfd_labels, prometheus  # noqa: PLC0415 as above

        return Answer(code, {"nfd": nfd_labels, "prometheus": prometheus}[options.format](decision), question.caps)
    meant = options.engine is not None or question.caps.engine_release is not None
    engine = engine_lines(question.caps, question.request) if meant else ()
    return Answer(code, (*report_lines(decision), *engine, *_invitation(decision)), question.caps)


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
        raise UsageError("what-if needs a change: --triton, --arch, --aiter, --package, --set or --unset")
    # A GPU of another vendor is worth asking about only with a torch for it; `why` and `require` suppose no such thing.
    torches = [torch_for(change.value or "") for change in changes if change.kind == "arch"]
    told = any((change.kind, change.name) == ("package", "torch") and "+" in str(change.value) for change in changes)
    changes = [*changes, *(torch for torch in torches if not told and torch.value != question.caps.platform)]
    before, question = question.decide(), question.changed(changes)
    decision = question.decide()
    code = NO if decision.chosen is None else YES
    if question.options.json:
        return Answer(code, what_if_document(decision, changes, before), question.caps)
    return Answer(code, what_if_lines(decision, changes, before), question.caps)


def _row(question: Question) -> Answer:
    changes = question.options.changes
    question = question.changed(changes)
    decision, row = question.decide(), question.options.row
    decision.verdict(row)
    code = YES if decision.chosen == row and not decision.forced else NO
    if question.options.json:
        return Answer(code, row_document(question.options.command, decision, row, changes), question.caps)
    return Answer(code, (*supposed_lines(changes), *why_lines(decision, row)), question.caps)


def _snapshot(question: Question) -> Answer:
    return Answer(YES, question.caps.to_dict(), question.caps)


def _matrix(question: Question) -> Answer:
    from nsa_caps.report.matrix import matrix  # noqa: PLC0415 this command's alone
    from nsa_caps.report.matrix_lines import matrix_lines  # noqa: PLC0415 as above

    question = question.changed(question.options.changes)
    found = matrix(question.caps, question.request, question.rows)
    if question.options.svg is not None:
        from nsa_caps.report.matrix_svg import draw  # noqa: PLC0415 as above

        write_file("--svg", question.options.svg, draw(found))
    if question.options.json:
        return Answer(YES, matrix_document(found), question.caps)
    width = WIDTH if question.options.output or sys.stdout is None else width_of(sys.stdout)
    return Answer(YES, (*supposed_lines(question.options.changes), *matrix_lines(found, width)), question.caps)


def _compare(options: SimpleNamespace) -> Answer:
    """Compare other machines than this one, which is not probed."""
    from nsa_caps.agreement.document import compare_document  # noqa: PLC0415 as above
    from nsa_caps.agreement.fleet import compare, fleet_lines, read_machines  # noqa: PLC0415 as above

    if options.source is not None or options.python is not None or options.dry_run:
        raise UsageError("compare takes its machines as arguments or on stdin, not by --from, --python or --dry-run")
    if not options.machines and not options.named:
        raise UsageError("compare needs its machines: files, folders, or - for what comes on stdin")
    machines: Iterable[tuple[str, Any]] = chain(read_machines(options.machines, sys.stdin), _named_machines(options))
    if options.redact:
        from nsa_caps.report.redacted import redacted  # noqa: PLC0415 few ask for it

        names = private_names()
        machines = ((redacted(name, names), redacted(document, names)) for name, document in machines)
    found = compare(machines, request_of(options), options.engine, os.environ)
    if options.html is not None:
        from nsa_caps.agreement.page import fleet_page  # noqa: PLC0415 as above

        write_file("--html", options.html, fleet_page(found))
    output = compare_document(found) if options.json else fleet_lines(found)
    return Answer(YES if found.shared else NO, output)


def _named_machines(options: SimpleNamespace) -> Iterator[tuple[str, Any]]:
    if options.named:
        from nsa_caps.testing.named_machines import named_capabilities  # noqa: PLC0415 few ask for them

        for name in options.named:
            yield name, named_capabilities(name, options.engine or "sglang").to_dict()


def _schema(options: SimpleNamespace) -> Answer:
    from importlib.resources import files  # noqa: PLC0415 this command's alone

    path = files("nsa_caps") / "schemas" / f"{options.name or 'report'}.json"
    return Answer(YES, path.read_text(encoding="utf-8").rstrip("\n"))


def _completion(options: SimpleNamespace) -> Answer:
    try:
        import shtab  # noqa: PLC0415 optional
    except ImportError as error:
        raise UsageError("completion needs the package shtab: pip install shtab") from error
    return Answer(YES, shtab.complete(parser(), options.shell).rstrip("\n"))


def _help(options: SimpleNamespace) -> Answer:
    if options.topic == "words":
        from nsa_caps.report.words import word_lines  # noqa: PLC0415 this command's alone

        return Answer(YES, word_lines())
    found = parsers()
    return Answer(YES, found.by_name.get(options.topic, found.whole).format_help().rstrip("\n"))


def _selfcheck(question: Question) -> Answer:
    from nsa_caps.selfcheck.check import default_device, run  # noqa: PLC0415 this command's alone

    options = question.options
    if options.source is not None or options.named or options.python is not None:
        raise UsageError("selfcheck runs kernels on this machine: not with --from, --machine or --python")
    decision = question.decide()
    possible = [verdict.row for verdict in decision.verdicts if verdict.verdict != "unmet"]
    names = question.options.check_rows or possible
    checks = run(question.caps, question.request, question.options.device or default_device(), names, question.rows)
    code = YES if checks and all(check.verdict == "proven" for check in checks) else NO
    if question.options.json:
        return Answer(code, selfcheck_document(checks), question.caps)
    lines = [line for check in checks for line in check.explain().splitlines()]
    return Answer(code, (((line, ""),) for line in lines or ["no row to check: each is refused"]), question.caps)


def _dry_run(question: Question) -> Answer:
    from nsa_caps.report.dry_run import dry_run_document, dry_run_lines, left_unknown  # noqa: PLC0415 this command's alone

    told = question.caps.extras["dry_run"]
    code = NO if left_unknown(question.caps) or told["differs"] else YES
    if question.options.json:
        return Answer(code, dry_run_document(question.caps, answer=code == YES), question.caps)
    return Answer(code, dry_run_lines(question.caps, answer=code == YES), question.caps)


def _prove(question: Question) -> Answer:
    from nsa_caps.cli.prove import prove  # noqa: PLC0415 this command's alone

    return prove(question)


def _bench(question: Question) -> Answer:
    from nsa_caps.cli.prove import bench  # noqa: PLC0415 this command's alone

    return bench(question)


COMMANDS: Mapping[str, Callable[[Question], Answer]] = {
    "report": _report,
    "tour": _tour,
    "why": _row,
    "what-if": _what_if,
    "snapshot": _snapshot,
    "require": _row,
    "matrix": _matrix,
    "selfcheck": _selfcheck,
    "prove": _prove,
    "dry-run": _dry_run,
    "bench": _bench,
}
"""The commands about one machine, by name."""

WITHOUT_A_MACHINE: Mapping[str, Callable[[SimpleNamespace], Answer]] = {
    "compare": _compare,
    "schema": _schema,
    "completion": _completion,
    "help": _help,
}
"""The commands that ask no machine of their own."""
