"""The command `nsa-caps`: the verdict on a machine, why better rows are out, and the smallest fix."""

from __future__ import annotations

import json
import os
import sys
from itertools import islice
from typing import TYPE_CHECKING

from nsa_caps.base.lines import printable
from nsa_caps.cli.commands import COMMANDS, WITHOUT_A_MACHINE
from nsa_caps.cli.console import kept_for_data, print_lines, print_text
from nsa_caps.cli.options import parse, wrong_usage
from nsa_caps.cli.question import FAILED, UsageError, private_names, question_of
from nsa_caps.errors import NsaCapsError
from nsa_caps.policy.explain import note_lines
from nsa_caps.probes.probe import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import SimpleNamespace
    from typing import TextIO

    from nsa_caps.cli.question import Answer
    from nsa_caps.probes.host import Host

__all__ = ["UsageError", "main"]

# What a shell says of a process that Ctrl-C ended.
_INTERRUPTED = 130
# The sources of the notes that one of this library's own probes failed; a third party's may.
_OWN_PROBES = frozenset(f"probe {getattr(each, '__qualname__', '')}" for each in BUILT_IN)


def main(argv: Sequence[str] | None = None, *, host: Host | None = None) -> int:
    """Run the command and return its exit code: 0 yes, 1 no, 3 the probe or this command failed, 130 Ctrl-C.

    Args:
        argv: the arguments after the command's name; None: this process's.
        host: the machine to probe; None: this one.

    Raises:
        SystemExit: with 2 on wrong usage; with 0 after `--help` and `--version`.
    """
    options = parse(sys.argv[1:] if argv is None else argv)
    try:
        if not os.environ.get("NSA_CAPS_PLUGINS"):
            return _run(options, host, sys.stdout)
        with kept_for_data(for_good=argv is None) as stdout:
            return _run(options, host, stdout)
    except KeyboardInterrupt:
        # Whoever calls this as a function has its own way to end.
        if argv is not None:
            raise
        return _INTERRUPTED


def _run(options: SimpleNamespace, host: Host | None, stdout: TextIO | None) -> int:
    try:
        if options.command in WITHOUT_A_MACHINE:
            return _print(WITHOUT_A_MACHINE[options.command](options), options, stdout)
        return _print(COMMANDS[options.command](question_of(options, host)), options, stdout)
    except NsaCapsError as error:
        wrong_usage(str(error), options.command)
    except OSError as error:
        print_text(printable(f"nsa-caps: error: {error}"), sys.stderr)
        return FAILED
    except Exception as error:  # noqa: BLE001 a traceback's own exit code is 1, which here says "no"
        sys.__excepthook__(type(error), error, error.__traceback__)
        return FAILED


def _print(answer: Answer, options: SimpleNamespace, stdout: TextIO | None) -> int:
    """Print data on stdout, or into the file that was named, and notes on stderr; return the exit code."""
    if options.redact and not isinstance(answer.output, str):
        from nsa_caps.report.redacted import redacted  # noqa: PLC0415 few ask for it

        output = answer.output if isinstance(answer.output, dict) else tuple(answer.output)
        answer = answer._replace(output=redacted(output, private_names()))
    broken = [note for note in answer.caps.notes if note.source in _OWN_PROBES]
    if options.output is None:
        _print_output(answer, stdout, options)
    else:
        try:
            with open(options.output, "w", encoding="utf-8") as stream:
                _print_output(answer, stream, options)
        except OSError as error:
            raise UsageError(f"--output {options.output}: {error.strerror or error}") from error
    if not options.quiet and not isinstance(answer.output, (dict, str)):
        print_lines(note_lines(note for note in answer.caps.notes if note not in broken), sys.stderr, options.color)
    for note in broken:
        print_text(printable(f"nsa-caps: error: {note.source} {note.text}"), sys.stderr)
    return FAILED if broken else answer.code


def _print_output(answer: Answer, stream: TextIO | None, options: SimpleNamespace) -> None:
    if stream is None:
        raise OSError("stdout is closed")
    if isinstance(answer.output, dict):
        print_text(json.dumps(answer.output, indent=2, sort_keys=True), stream)
    elif isinstance(answer.output, str):
        print_text(answer.output, stream)
    else:
        print_lines(islice(answer.output, 1 if options.quiet else None), stream, options.color)
