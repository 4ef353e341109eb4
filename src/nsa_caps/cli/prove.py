"""`nsa-caps prove` and `nsa-caps bench`: run rows on this machine's device, and keep what came of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nsa_caps.cli.question import NO, YES, Answer, UsageError, write_file
from nsa_caps.policy.decision import UnknownRowError, find_row
from nsa_caps.policy.kept import void_because
from nsa_caps.probes.host import Host
from nsa_caps.probes.kept import kept_folder
from nsa_caps.probes.kept_files import files_changed, read_kept
from nsa_caps.report.bench import bench_document, bench_lines, bench_of, draw_bench
from nsa_caps.report.proofs import Listed, kept_document, kept_lines, prove_document, prove_lines
from nsa_caps.selfcheck.kept import forget
from nsa_caps.selfcheck.proof import Proof
from nsa_caps.selfcheck.prove import prove_best, prove_rows

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Note
    from nsa_caps.cli.question import Question
    from nsa_caps.probes.kept_files import KeptFile

__all__ = ["bench", "prove"]


def prove(question: Question) -> Answer:
    """Prove the best row, or the rows that are named; list or forget what is kept."""
    options, proof = question.options, _proof(question)
    if options.forget:
        return _forget(question)
    if options.list:
        return _list(question)
    names = tuple(options.check_rows)
    if names:
        outcome = prove_rows(question.caps, question.request, names, question.rows, proof)
    else:
        outcome = prove_best(question.caps, question.request, question.rows, proof)
    decision = question._replace(caps=outcome.caps).decide()
    asked = names or ((decision.chosen,) if decision.chosen else ())
    answer = bool(asked) and all(decision.verdict(name).proofs for name in asked)
    code = YES if answer else NO
    if options.json:
        return Answer(code, prove_document(decision, outcome.checks, answer=answer), outcome.caps)
    return Answer(code, prove_lines(decision, outcome.checks, names), outcome.caps)


def bench(question: Question) -> Answer:
    """Prove and time every row that runs here."""
    options, proof = question.options, replace(_proof(question), measure=True)
    names = tuple(options.check_rows) or tuple(row.name for row in question.rows)
    outcome = prove_rows(question.caps, question.request, names, question.rows, proof)
    benches = bench_of(outcome.caps, names)
    if options.svg is not None:
        write_file("--svg", options.svg, draw_bench(benches))
    code = YES if benches else NO
    if options.json:
        return Answer(code, bench_document(benches, outcome.checks, outcome.caps), outcome.caps)
    return Answer(code, bench_lines(benches, outcome.checks), outcome.caps)


def _proof(question: Question) -> Proof:
    """Return how rows are to be proven.

    Raises:
        UsageError: another machine than this one is named, or no time.
    """
    options = question.options
    if options.source is not None or options.named or options.python is not None:
        text = "runs kernels on this machine, with this Python: not with --from, --machine or --python"
        raise UsageError(f"{options.command} {text}")
    if not options.limit > 0:
        raise UsageError(f"--limit is {options.limit:g}, needs seconds above 0")
    return Proof(limit=options.limit, device=options.device, again=options.again, keep=not options.no_keep)


def _list(question: Question) -> Answer:
    host = Host.current()
    notes: list[Note] = []
    names = question.options.check_rows
    listed = [
        Listed(path, _void(question, host, file), file.verdict)
        for path, file in read_kept(host, kept_folder(host.environ), notes)
        if not names or file.verdict.row in names
    ]
    if question.options.json:
        return Answer(YES, kept_document(listed), question.caps)
    return Answer(YES, kept_lines(listed, kept_folder(host.environ)), question.caps)


def _void(question: Question, host: Host, file: KeptFile) -> str | None:
    try:
        row = find_row(file.verdict.row, question.rows)
    except UnknownRowError:
        return "there is no such row here"
    return void_because(file.verdict, row.bound_packages, question.caps) or files_changed(host, file)


def _forget(question: Question) -> Answer:
    gone = forget(Host.current(), question.options.check_rows)
    if question.options.json:
        return Answer(YES, kept_document((), gone), question.caps)
    return Answer(YES, (((f"forgotten: {path}", ""),) for path in gone or ["nothing"]), question.caps)
