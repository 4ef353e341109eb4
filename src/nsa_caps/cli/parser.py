"""The command line of `nsa-caps`: commands, options, and what each may be."""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from nsa_caps._version import __version__
from nsa_caps.base.hints import did_you_mean
from nsa_caps.base.lines import WIDTH
from nsa_caps.capabilities.engines import ENGINES
from nsa_caps.cli import values
from nsa_caps.cli.console import width_of
from nsa_caps.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FORMATS", "SCHEMAS", "SHELLS", "Commands", "parser", "parsers"]

FORMATS = ("text", "json", "markdown", "nfd", "prometheus")
COLORS = ("auto", "always", "never")
SCHEMAS = ("report", "capabilities", "handshake")
SHELLS = ("bash", "zsh", "tcsh")
_EXIT_CODES = "exit codes: 0 yes, 1 no, 2 wrong usage, 3 the probe or this command itself failed, 130 Ctrl-C"
_COMMANDS = {
    "report": "which layout, why not a better one, and the smallest fix; the default",
    "tour": "this machine's answer, and beside it those of machines that you may know",
    "why": "everything that stands against a row, with fixes; exit 0 if it is chosen",
    "what-if": "the report as it would be with another Triton, GPU, aiter, package or variable",
    "snapshot": "everything that was found, as JSON: for bug reports, tests and --from",
    "require": "exit 0 if this row is chosen, else 1 and why: for image builds and CI",
    "matrix": "the answer for each Triton version and GPU arch, as a table",
    "compare": "do these machines share a layout? If not, who differs, and by what",
    "selfcheck": "write, read back and compare on this machine's device; exit 0 if every row checked is proven",
    "prove": "run the best row on this machine's device, in a process of its own; exit 0 if it is proven",
    "dry-run": "execute aiter's own gates without a GPU or torch; exit 0 if all that they decide is known",
    "bench": "time every row that runs on this machine, each proven first: what does a fallback cost here?",
    "schema": "the JSON Schema that --json follows",
    "completion": "what makes a shell complete these commands",
    "help": "this help, that of a command, or what the words of a report mean",
}
# These ask no machine.
_WITHOUT_OPTIONS = ("schema", "completion", "help")


class Commands(NamedTuple):
    """The parser of the whole command line, and those of the commands by name."""

    whole: argparse.ArgumentParser
    by_name: dict[str, argparse.ArgumentParser]


class _Help(argparse.HelpFormatter):
    """Help that breaks lines at blanks alone: `aiter-preshuffle` is one word."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(text, width, break_long_words=False, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return fill(
            text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )


class _Parser(argparse.ArgumentParser):
    """A parser whose errors may quote any argument, and say what may have been meant."""

    def error(self, message: str) -> NoReturn:
        """Print the command's usage and the error, a line each, and exit with 2."""
        choice = re.search(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message)
        if choice:
            message += did_you_mean(choice[1], re.findall(r"[\w.-]+", choice[2]))
        self.exit(2, f"{self.format_usage()}{self.prog}: error: {printable(message)}\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    return parsers().whole


def parsers(*, commands: bool = True) -> Commands:
    """Return the parsers; parse into a namespace of `nsa_caps.cli.options.DEFAULTS`.

    Args:
        commands: also make those of the commands, which take longer than all the rest of a report.
    """
    # Without a width argparse asks the terminal for one, by way of shutil, at every argument that is added.
    width = width_of(sys.stdout) if sys.stdout is not None else WIDTH
    shared: dict[str, Any] = {
        "argument_default": argparse.SUPPRESS,
        "formatter_class": partial(_Help, width=width),
        "allow_abbrev": False,
    }
    whole = _Parser(
        **shared,
        prog="nsa-caps",
        usage="nsa-caps [OPTION ...] [COMMAND [OPTION ...]]",
        description="Which memory layout may the sparse-attention indexer use on this machine, and why?",
        epilog=f"{_EXIT_CODES}. What the words of a report mean: nsa-caps help words",
    )
    _add_common(whole)
    _add_asking(whole)
    whole.add_argument("-V", "--version", action="version", version=f"nsa-caps {__version__}")
    _add_report(whole)
    added: dict[str, argparse.ArgumentParser] = {}
    if commands:
        listed = whole.add_subparsers(metavar="COMMAND", dest="command", prog="nsa-caps")
        for name, text in _COMMANDS.items():
            usage = f"nsa-caps {name} [OPTION ...]{_POSITIONALS.get(name, '')}"
            added[name] = listed.add_parser(
                name, **shared, usage=usage, help=text, description=text, epilog=_EXIT_CODES
            )
            if name not in _WITHOUT_OPTIONS:
                _add_common(added[name])
                if name != "snapshot":
                    _add_asking(added[name])
            if name in _OWN:
                _OWN[name](added[name])
    return Commands(whole, added)


def _add_common(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    text = f"whose variables to read: {', '.join(ENGINES)} (default: the one installed, else sglang)"
    add("--engine", choices=ENGINES, metavar="NAME", help=text)
    add("--from", dest="source", metavar="FILE", help="ask the machine of this snapshot; - reads stdin")
    add("--machine", action="append", dest="named", metavar="NAME", help="ask a known machine, such as mi300x_rocm700")
    add("--python", metavar="PATH", help="ask another Python of this machine: a path, a name, an environment's folder")
    add("--dry-run", action="store_true", help="also execute aiter's own gates, as nsa-caps dry-run does")
    add("--json", action="store_true", help="print JSON; its schema: nsa-caps schema")
    add("--output", metavar="FILE", help="write the answer into this file, not to stdout")
    add("--redact", action="store_true", help="leave out user and host names, home folders and GPUs' serial numbers")
    add("-q", "--quiet", action="store_true", help="print the first line alone, and no notes")
    text = f"colour the text: {', '.join(COLORS)} (default: auto, on a terminal)"
    add("--color", choices=COLORS, metavar="WHEN", help=text)


def _add_asking(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--heads", type=int, metavar="N", help="the model's index_n_heads (default: 64)")
    add("--page-size", type=int, metavar="N", help="tokens per page (default: the row's own)")
    add("--index-kpool", type=int, metavar="N", help="tokens that share one index key (default: 1)")


def _add_report(command: argparse.ArgumentParser) -> None:
    text = f"what to print the report as: {', '.join(FORMATS)} (default: text)"
    command.add_argument("--format", choices=FORMATS, metavar="KIND", help=text)
    command.add_argument("--markdown", action="store_const", const="markdown", dest="format", help="for an issue")


def _add_row(command: argparse.ArgumentParser) -> None:
    command.add_argument("row", metavar="ROW", help="the row's name, such as aiter-preshuffle")
    _add_changes(command)


def _add_proof(command: argparse.ArgumentParser) -> None:
    text = "a torch device, such as cuda:1 (the first of each kind, or the CPU)"
    command.add_argument("--device", metavar="D", help=text)
    command.add_argument(
        "--row", action="append", dest="check_rows", metavar="ROW", help="a row (the best, and while it fails the next)"
    )
    text = "seconds that a row is given, imports and first compilation included (300)"
    command.add_argument("--limit", type=float, metavar="S", help=text)
    for option, text in (
        ("--again", "prove also what a verdict is kept of"),
        ("--no-keep", "write nothing"),
    ):
        command.add_argument(option, action="store_true", help=text)


def _add_prove(command: argparse.ArgumentParser) -> None:
    _add_proof(command)
    command.add_argument("--list", action="store_true", help="say what is kept, and whether it holds here")
    command.add_argument("--forget", action="store_true", help="remove what is kept")


def _add_bench(command: argparse.ArgumentParser) -> None:
    _add_proof(command)
    command.add_argument("--svg", metavar="FILE", help="draw it into this file as well")


def _add_changes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--arch", action="append", dest="changes", type=values.arch, metavar="ARCH",
        help="suppose GPUs of this arch, such as gfx950 or sm_90",
    )  # fmt: skip
    command.add_argument(
        "--triton", action="append", dest="changes", type=values.triton, metavar="VERSION", help="suppose this Triton"
    )
    _add_software(command)


def _add_software(command: argparse.ArgumentParser) -> None:
    for option, parse, value, text in (
        ("--aiter", values.aiter_release, "RELEASE", "suppose this aiter: a release such as 0.1.15, a commit, or main"),
        ("--package", values.package, "NAME[=VERSION]", "suppose this package: torch, deep_gemm, or cuda, the toolkit"),
        ("--set", values.set_variable, "NAME=VALUE", "suppose this variable set"),
        ("--unset", values.unset_variable, "NAME", "suppose this variable not set"),
    ):
        command.add_argument(option, action="append", dest="changes", type=parse, metavar=value, help=text)


def _add_matrix(command: argparse.ArgumentParser) -> None:
    command.add_argument("--svg", metavar="FILE", help="draw it into this file as well")
    _add_software(command)


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("--html", metavar="FILE", help="write a page of it into this file as well")
    text = "JSON documents, one or many; a folder of .json and .jsonl files; - is stdin"
    command.add_argument("machines", nargs="*", metavar="FILE", help=text)


def _add_selfcheck(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", metavar="D", help="a torch device, such as cuda:1 (default: the GPU, else cpu)")
    text = "a row to check (default: every row not refused)"
    command.add_argument("--row", action="append", dest="check_rows", metavar="ROW", help=text)


def _add_schema(command: argparse.ArgumentParser) -> None:
    # A suppressed default would itself be looked for among the choices.
    command.add_argument("name", nargs="?", default=None, choices=SCHEMAS, help="which (default: report)")


def _add_completion(command: argparse.ArgumentParser) -> None:
    command.add_argument("shell", choices=SHELLS, help="whose")


def _add_help(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "topic", nargs="?", default=None, choices=(*_COMMANDS, "words"), metavar="TOPIC", help="a command, or words"
    )


_OWN: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "report": _add_report,
    "why": _add_row,
    "require": _add_row,
    "what-if": _add_changes,
    "matrix": _add_matrix,
    "compare": _add_compare,
    "selfcheck": _add_selfcheck,
    "prove": _add_prove,
    "bench": _add_bench,
    "schema": _add_schema,
    "completion": _add_completion,
    "help": _add_help,
}
_POSITIONALS = {"why": " ROW", "require": " ROW", "compare": " FILE ...", "completion": " SHELL", "help": " [TOPIC]"}
