"""The command line of `nsa-caps`: commands, options, and what each may be."""

from __future__ import annotations

import argparse
import re
from functools import partial
from typing import Any, NoReturn

from nsa_caps._version import __version__
from nsa_caps.base.lines import printable
from nsa_caps.capabilities.aiter_history import AITER_RELEASES
from nsa_caps.capabilities.engines import ENGINES
from nsa_caps.capabilities.switches import VARIABLES
from nsa_caps.policy.changes import Change

__all__ = ["parser"]

_ARCH = re.compile(r"gfx[0-9a-f]{3,}|sm_\d{2,3}", re.ASCII)

_COMMANDS = {
    "report": "the verdict, what it rests on, why better rows are out, the smallest fix (the default)",
    "tour": "this machine's answer, and beside it those of machines that you know",
    "why": "every reason against a row, with fixes; exit 0 if it is chosen",
    "what-if": "the decision if that were so",
    "snapshot": "the capabilities as JSON, for bug reports, tests and --from",
    "require": "exit 0 if this row is chosen, 1 if not, and say why: for image builds and CI",
    "matrix": "the decision over Triton versions x GPU archs",
    "compare": "do machines share a layout; if not, who differs and by what: snapshots and handshakes",
    "selfcheck": "write, read back and compare on this machine's device; exit 0 if every row checked is proven",
    "prove": "run the best row on this machine's device, in a process of its own; exit 0 if it is proven",
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors may quote any argument."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def parser() -> argparse.ArgumentParser:
    """Return the parser; parse into a namespace of `nsa_caps.cli.options.DEFAULTS`."""
    # Without a width argparse asks the terminal for one, by way of shutil, at every argument that is added.
    shared: dict[str, Any] = {
        "argument_default": argparse.SUPPRESS,
        "formatter_class": partial(argparse.HelpFormatter, width=100),
        "epilog": "exit codes: 0 yes, 1 no, 2 wrong usage, 3 the probe or this command itself failed",
    }
    common = _Parser(**shared, add_help=False)
    common.add_argument(
        "--engine", choices=ENGINES, help="whose switches to read (the one that is installed, else sglang)"
    )
    common.add_argument("--from", dest="source", metavar="FILE", help="decide about this snapshot; - reads stdin")
    common.add_argument(
        "--machine", action="append", dest="named", metavar="NAME", help="ask a known machine, such as mi300x_rocm700"
    )
    common.add_argument(
        "--python", metavar="PATH", help="ask another Python of this machine: a path, a name, an environment's folder"
    )
    common.add_argument("--color", choices=("auto", "always", "never"), help="colour the text (auto: on a terminal)")
    common.add_argument("--json", action="store_true", help="print JSON, by schemas/report.json of this package")
    asking = _Parser(**shared, add_help=False, parents=[common])
    asking.add_argument("--heads", type=int, metavar="N", help="the model's index_n_heads (64)")
    asking.add_argument("--page-size", type=int, metavar="N", help="index slots a page (the row's own)")
    asking.add_argument("--index-kpool", type=int, metavar="N", help="tokens that share one index state (1)")
    whole = _Parser(
        **shared,
        prog="nsa-caps",
        parents=[asking],
        description="Which memory layout may the sparse-attention indexer use on this machine, and why.",
    )
    whole.add_argument("--version", action="version", version=f"nsa-caps {__version__}")
    commands = whole.add_subparsers(metavar="COMMAND", dest="command", prog="nsa-caps")
    added = {
        name: commands.add_parser(
            name, **shared, parents=[common if name == "snapshot" else asking], help=text, description=text
        )
        for name, text in _COMMANDS.items()
    }
    for name in ("why", "require"):
        added[name].add_argument("row", metavar="ROW", help="the row's name")
    for name in ("what-if", "why", "require"):
        _add_changes(added[name])
    selfcheck = added["selfcheck"]
    selfcheck.add_argument("--device", metavar="D", help="a torch device, such as cuda:1 (the GPU if there is one)")
    selfcheck.add_argument(
        "--row", action="append", dest="check_rows", metavar="ROW", help="a row to check (every row not refused)"
    )
    _add_proof(added["prove"])
    for name in ("matrix", "compare"):
        added[name].add_argument("--svg", metavar="FILE", help="draw it into this file as well")
    text = "JSON documents, one or many; a folder of .json and .jsonl files; - is stdin"
    added["compare"].add_argument("machines", nargs="*", metavar="FILE", help=text)
    return whole


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
        ("--list", "say what is kept, and whether it holds here"),
        ("--forget", "remove what is kept"),
    ):
        command.add_argument(option, action="store_true", help=text)


def _add_changes(command: argparse.ArgumentParser) -> None:
    for option, parse, value, text in (
        ("--triton", _triton, "VERSION", "with this Triton"),
        ("--arch", _arch, "ARCH", "on GPUs of this arch, such as gfx950 or sm_90"),
        ("--aiter", _aiter, "RELEASE", f"with this aiter: {', '.join(AITER_RELEASES)}"),
        ("--set", _set, "NAME=VALUE", "with this variable set"),
        ("--unset", _unset, "NAME", "with this variable not set"),
    ):
        command.add_argument(option, action="append", dest="changes", type=parse, metavar=value, help=text)


def _triton(text: str) -> Change:
    return Change.triton(text)


def _arch(text: str) -> Change:
    if not _ARCH.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no arch; one looks like gfx942 or sm_90")
    return Change.arch(text)


def _aiter(text: str) -> Change:
    if text not in AITER_RELEASES:
        raise argparse.ArgumentTypeError(f"{text!r} is not known; known are {', '.join(AITER_RELEASES)}")
    return Change.aiter(text)


def _set(text: str) -> Change:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} has no '='; write {name}=VALUE, or --unset {name}")
    return Change("set", _variable(name), value)


def _unset(text: str) -> Change:
    return Change("unset", _variable(text))


def _variable(name: str) -> str:
    if name not in VARIABLES:
        raise argparse.ArgumentTypeError(f"no switch reads {name!r}; those that one does are {', '.join(VARIABLES)}")
    return name
