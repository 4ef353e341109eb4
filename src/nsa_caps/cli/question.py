"""What every command starts from, and what it ends in."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.base.files import text_pieces
from nsa_caps.base.serial import SnapshotError
from nsa_caps.capabilities.records import Capabilities, Note
from nsa_caps.capabilities.switches import with_variables
from nsa_caps.capabilities.system import with_system
from nsa_caps.errors import NsaCapsError
from nsa_caps.layout.row_table import row_table
from nsa_caps.policy.decision import decide
from nsa_caps.policy.request import Request
from nsa_caps.probes.host import Host
from nsa_caps.probes.interpreter import pythons_with_torch, this_python
from nsa_caps.probes.probe import probe
from nsa_caps.probes.system import with_files

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import SimpleNamespace

    from nsa_caps.base.lines import Line
    from nsa_caps.policy.changes import Change
    from nsa_caps.policy.decision import Decision
    from nsa_caps.policy.rows import Row

__all__ = ["FAILED", "NO", "YES", "Answer", "Question", "UsageError", "private_names", "question_of", "read_file",
    "request_of", "write_file"]  # fmt: skip

YES, NO, FAILED = 0, 1, 3
# Characters of the longest snapshot; one has some ten thousand.
_LONGEST = 1 << 22


class UsageError(NsaCapsError, ValueError):
    """The command line asks for what cannot be; the message says what could."""


class Question(NamedTuple):
    """A machine, what is asked of it, and how.

    Attributes:
        options: the command line's.
        caps: the machine.
        request: what is asked.
        rows: the table to decide over.
    """

    options: SimpleNamespace
    caps: Capabilities
    request: Request
    rows: tuple[Row, ...]

    def decide(self) -> Decision:
        """Return the decision."""
        return decide(self.caps, self.request, self.rows)

    def changed(self, changes: Iterable[Change]) -> Question:
        """Return the question about the machine as it would be after changes."""
        caps, request = self.caps, self.request
        for change in changes:
            caps, request = change.apply(caps, request)
        return self._replace(caps=caps, request=request)


class Answer(NamedTuple):
    """What a command ends in.

    Attributes:
        code: the exit code.
        output: what goes to stdout: a document, lines, or a text as it is.
        caps: the machine whose notes go to stderr.
    """

    code: int
    output: dict[str, Any] | Iterable[Line] | str
    caps: Capabilities = Capabilities()


def question_of(options: SimpleNamespace, host: Host | None) -> Question:
    """Return what a command line asks.

    Args:
        options: the command line's.
        host: the machine to ask where no option names another one; None: this one.

    Raises:
        NsaCapsError: the machine that is named cannot be asked, or the request is none.
    """
    # What a third party's probe or row prints is no data.
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        caps = _capabilities(options, host)
        # A document of somebody else's asks for no code here.
        strange = None if options.source is None else os.environ if host is None else host.environ
        caps, rows = row_table(caps, strange)
    finally:
        sys.stdout = stdout
    if options.redact:
        from nsa_caps.report.redacted import redacted  # noqa: PLC0415 few ask for it

        caps = Capabilities.from_dict(redacted(caps.to_dict(), private_names()))
    return Question(options, caps, request_of(options), rows)


def request_of(options: SimpleNamespace) -> Request:
    """Return what the options ask for.

    Raises:
        RequestError: nothing can be asked so.
    """
    given = {name: getattr(options, name) for name in ("heads", "page_size", "index_kpool")}
    return Request(**{name: value for name, value in given.items() if value is not None})


def _capabilities(options: SimpleNamespace, host: Host | None) -> Capabilities:
    """Return the machine that is named by a file, by its own name or by a Python, or what the probes find here."""
    named = {"--from": options.source, "--machine": options.named, "--python": options.python}
    given = [option for option, value in named.items() if value]
    if len(given) > 1 or len(options.named) > 1:
        raise UsageError(f"one machine at a time: {' and '.join(given)} name several")
    dry_run: bool | str = options.dry_run or options.command == "dry-run"
    if dry_run and (options.source is not None or options.named):
        raise UsageError("a dry run executes the sources of this machine: not with --from or --machine")
    engine = options.engine
    if options.source is not None:
        caps = _snapshot(options.source)
        return caps if options.engine is None else with_variables(caps, caps.variables, options.engine)
    if options.named:
        from nsa_caps.testing.named_machines import named_capabilities  # noqa: PLC0415 few ask for it

        return named_capabilities(options.named[0], engine or "sglang")
    if options.python is not None:
        from nsa_caps.probes.other_python import host_of_python  # noqa: PLC0415 likewise

        host, system = host_of_python(options.python)
        found = probe(host, engine=engine, dry_run=(system.python or True) if dry_run else False)
        return with_system(found, with_files(system, host))
    if host is not None:
        return probe(host, engine=engine, dry_run=dry_run)
    return _this_machine(Host.current(), engine, dry_run=dry_run)


def _snapshot(path: str) -> Capabilities:
    text = read_file("--from", path)
    try:
        caps = Capabilities.from_json(text)
    except SnapshotError as error:
        raise UsageError(f"--from {path}: {error}") from error
    # What is left out of a snapshot is not known; of one that leaves out all, nothing can be said.
    if '"platform"' not in text:
        raise UsageError(f"--from {path}: names no platform, so it is no snapshot; make one with nsa-caps snapshot")
    return caps


def private_names() -> dict[str, str]:
    """Return what a report for everyone replaces: this machine's name, its user's, and where that user is at home."""
    home, host = os.path.expanduser("~"), os.uname().nodename
    users = {os.path.basename(home), os.environ.get("USER", ""), os.environ.get("LOGNAME", "")} - {"root"}
    names = {**{f"/{user}": "/user" for user in users}, home: "~", host: "host", host.partition(".")[0]: "host"}
    return {name: word for name, word in names.items() if len(name) > 3}


def _this_machine(host: Host, engine: str | None, *, dry_run: bool | str) -> Capabilities:
    """Return this machine; where this Python has no torch, with a note that names one that has."""
    caps = with_system(probe(host, engine=engine, dry_run=dry_run), with_files(this_python(), host))
    elsewhere = next(pythons_with_torch(host), None) if caps.torch.state == "missing" else None
    if elsewhere is None:
        return caps
    text = f"has a torch, and {sys.executable} has none; ask it with: nsa-caps --python {elsewhere}"
    return caps.replace(notes=(*caps.notes, Note("python", elsewhere, text)))


def read_file(option: str, path: str) -> str:
    """Return the text of the file that an option names; `-` is stdin.

    Raises:
        UsageError: it cannot be read, or is longer than any snapshot.
    """
    text = ""
    try:
        for piece in text_pieces(path, sys.stdin):
            text += piece
            if len(text) > _LONGEST:
                raise UsageError(f"{option} {path}: holds more than {_LONGEST:,} characters")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path}: {getattr(error, 'strerror', None) or error}") from error
    return text


def write_file(option: str, path: str, text: str) -> None:
    """Write a text into the file that an option names.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror or error}") from error
