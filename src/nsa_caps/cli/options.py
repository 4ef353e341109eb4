"""What a command line asks for: an option each, with what it is where it was not given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

from nsa_caps.cli.parser import parser

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFAULTS", "parse", "wrong_usage"]

# What an option is where it was not given: the main parser and the command's both know the common ones, and of two
# defaults argparse would let the command's overrule what was given before it.
DEFAULTS = {
    "command": "report",
    "json": False,
    "engine": None,
    "source": None,
    "named": [],
    "python": None,
    "color": "auto",
    "heads": None,
    "page_size": None,
    "index_kpool": None,
    "changes": [],
    "svg": None,
    "device": None,
    "check_rows": [],
    "machines": [],
    "limit": 300.0,
    "again": False,
    "no_keep": False,
    "list": False,
    "forget": False,
}


def parse(argv: Sequence[str]) -> SimpleNamespace:
    """Return the options of a command line.

    Raises:
        SystemExit: with 2 on wrong usage; with 0 after `--help` and `--version`.
    """
    return parser().parse_args(argv, SimpleNamespace(**DEFAULTS))


def wrong_usage(message: str) -> NoReturn:
    """Print how to use the command and what is wrong, and exit with 2."""
    parser().error(message)
