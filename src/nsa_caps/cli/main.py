"""The command `nsa-caps`: the verdict on a machine, why better rows are out, and the smallest fix."""

from __future__ import annotations

import json
import sys
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.base.lines import printable
from nsa_caps.capabilities.records import Capabilities
from nsa_caps.capabilities.switches import with_variables
from nsa_caps.cli.console import print_lines, print_text
from nsa_caps.cli.options import parse, wrong_usage
from nsa_caps.errors import NsaCapsError
from nsa_caps.layout.row_table import row_table
from nsa_caps.policy.decision import decide
from nsa_caps.policy.explain import note_lines, report_lines, supposed_lines, what_if_lines, why_lines
from nsa_caps.policy.request import Request
from nsa_caps.probes.probe import BUILT_IN, probe
from nsa_caps.report.documents import (
    matrix_document,
    report_document,
    row_document,
    selfcheck_document,
    what_if_document,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import SimpleNamespace

    from nsa_caps.base.lines import Line
    from nsa_caps.policy.changes import Change
    from nsa_caps.policy.decision import Decision
    from nsa_caps.policy.rows import Row
    from nsa_caps.probes.host import Host

__all__ = ["UsageError", "main"]

_YES, _NO, _FAILED = 0, 1, 3

# The sources of the notes that one of this library's own probes failed; a third party's may.
_OWN_PROBES = frozenset(f"probe {getattr(each, '__qualname__', '')}" for each in BUILT_IN)


class UsageError(NsaCapsError, ValueError):
    """The command line asks for what cannot be; the message says what could."""


class _Question(NamedTuple):
    """What every command starts from."""

    options: SimpleNamespace
    caps: Capabilities
    request: Request
    rows: tuple[Row, ...]

    def decide(self) -> Decision:
        return decide(self.caps, self.request, self.rows)

    def changed(self) -> _Question:
        """Return the question about the machine as it would be after the changes that were given."""
        caps, request = self.caps, self.request
        for change in self.options.changes:
            caps, request = change.apply(caps, request)
        return self._replace(caps=caps, request=request)


class _Answer(NamedTuple):
    """An exit code and what goes to stdout: a document, or lines, with the machine whose notes go to stderr."""

    code: int
    output: dict[str, Any] | Iterable[Line]
    caps: Capabilities


def main(argv: Sequence[str] | None = None, *, host: Host | None = None) -> int:
    """Run the command and return its exit code: 0 yes, 1 no, 3 the probe or this command itself failed.

    Args:
        argv: the arguments after the command's name; None: this process's.
        host: the machine to probe; None: this one.

    Raises:
        SystemExit: with 2 on wrong usage; with 0 after `--help` and `--version`.
    """
    argv = sys.argv[1:] if argv is None else argv
    options = parse(argv)
    try:
        return _print(_answer(options, host))
    except NsaCapsError as error:
        wrong_usage(str(error))
    except OSError as error:
        print_text(printable(f"nsa-caps: error: {error}"), sys.stderr)
        return _FAILED
    except Exception:  # noqa: BLE001 a traceback's own exit code is 1, which here says "no"
        print_text(traceback.format_exc(), sys.stderr)
        return _FAILED


def _answer(options: SimpleNamespace, host: Host | None) -> _Answer:
    if options.command == "compare":
        return _compare(options)
    # What a third party's probe or row prints is no data.
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        caps, rows = row_table(_capabilities(options, host))
    finally:
        sys.stdout = stdout
    return _COMMANDS[options.command](_Question(options, caps, _request(options), rows))


def _print(answer: _Answer) -> int:
    """Print data on stdout and notes on stderr, and return the exit code."""
    broken = [note for note in answer.caps.notes if note.source in _OWN_PROBES]
    if isinstance(answer.output, dict):
        print_text(json.dumps(answer.output, indent=2, sort_keys=True), sys.stdout)
    else:
        print_lines(answer.output, sys.stdout)
        print_lines(note_lines(note for note in answer.caps.notes if note not in broken), sys.stderr)
    for note in broken:
        print_text(printable(f"nsa-caps: error: {note.source} {note.text}"), sys.stderr)
    return _FAILED if broken else answer.code


def _capabilities(options: SimpleNamespace, host: Host | None) -> Capabilities:
    """Return the snapshot that `--from` names, or what the probes find."""
    if options.source is not None:
        caps = Capabilities.from_json(_read(options.source))
        return caps if options.engine is None else with_variables(caps, caps.variables, options.engine)
    return probe(host, engine=options.engine or "sglang")


def _read(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.read()
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--from {path}: {error}") from error


def _request(options: SimpleNamespace) -> Request:
    given = {name: getattr(options, name) for name in ("heads", "page_size", "index_kpool")}
    return Request(**{name: value for name, value in given.items() if value is not None})


def _report(question: _Question) -> _Answer:
    decision = question.decide()
    code = _NO if decision.chosen is None else _YES
    if question.options.json:
        return _Answer(code, report_document(decision), question.caps)
    return _Answer(code, report_lines(decision), question.caps)


def _what_if(question: _Question) -> _Answer:
    changes: list[Change] = question.options.changes
    if not changes:
        raise UsageError("what-if needs a change: --triton, --arch, --aiter, --set or --unset")
    before, question = question.decide(), question.changed()
    decision = question.decide()
    code = _NO if decision.chosen is None else _YES
    if question.options.json:
        return _Answer(code, what_if_document(decision, changes, before), question.caps)
    return _Answer(code, what_if_lines(decision, changes, before), question.caps)


def _row(question: _Question) -> _Answer:
    question, changes = question.changed(), question.options.changes
    decision, row = question.decide(), question.options.row
    decision.verdict(row)
    code = _YES if decision.chosen == row and not decision.forced else _NO
    if question.options.json:
        return _Answer(code, row_document(question.options.command, decision, row, changes), question.caps)
    return _Answer(code, (*supposed_lines(changes), *why_lines(decision, row)), question.caps)


def _snapshot(question: _Question) -> _Answer:
    return _Answer(_YES, question.caps.to_dict(), question.caps)


def _matrix(question: _Question) -> _Answer:
    from nsa_caps.report.matrix import matrix, matrix_lines  # noqa: PLC0415 this command's alone

    found = matrix(question.caps, question.request, question.rows)
    if question.options.svg is not None:
        from nsa_caps.report.matrix_svg import draw  # noqa: PLC0415 as above

        _write_picture(question.options.svg, draw(found))
    if question.options.json:
        return _Answer(_YES, matrix_document(found), question.caps)
    return _Answer(_YES, matrix_lines(found), question.caps)


def _compare(options: SimpleNamespace) -> _Answer:
    """Compare other machines than this one, which is not probed."""
    from nsa_caps.agreement.document import compare_document  # noqa: PLC0415 as above
    from nsa_caps.agreement.fleet import compare, fleet_lines, read_machines  # noqa: PLC0415 as above

    if options.source is not None:
        raise UsageError("compare takes its machines as arguments or on stdin, not by --from")
    found = compare(read_machines(options.machines or ["-"], sys.stdin), _request(options), options.engine)
    if options.svg is not None:
        from nsa_caps.agreement.picture import draw_fleet  # noqa: PLC0415 as above

        _write_picture(options.svg, draw_fleet(found))
    output = compare_document(found) if options.json else fleet_lines(found)
    return _Answer(_YES if found.shared else _NO, output, Capabilities())


def _write_picture(path: str, picture: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(picture)
    except OSError as error:
        raise UsageError(f"--svg {path}: {error}") from error


def _selfcheck(question: _Question) -> _Answer:
    from nsa_caps.selfcheck.check import default_device, run  # noqa: PLC0415 this command's alone

    decision = question.decide()
    possible = [verdict.row for verdict in decision.verdicts if verdict.verdict != "unmet"]
    names = question.options.check_rows or possible
    checks = run(question.caps, question.request, question.options.device or default_device(), names, question.rows)
    code = _YES if checks and all(check.verdict == "proven" for check in checks) else _NO
    if question.options.json:
        return _Answer(code, selfcheck_document(checks), question.caps)
    lines = [line for check in checks for line in check.explain().splitlines()]
    return _Answer(code, (((line, ""),) for line in lines or ["no row to check: each is refused"]), question.caps)


_COMMANDS: Mapping[str, Callable[[_Question], _Answer]] = {
    "report": _report,
    "why": _row,
    "what-if": _what_if,
    "snapshot": _snapshot,
    "require": _row,
    "matrix": _matrix,
    "selfcheck": _selfcheck,
}
