"""What a command line asks for: an option each, with what it is where it was not given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

from nsa_caps.base.hints import did_you_mean
from nsa_caps.cli.parser import parsers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsa_caps.policy.changes import Change

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
    "dry_run": False,
    "color": "auto",
    "heads": None,
    "page_size": None,
    "index_kpool": None,
    "changes": [],
    "format": "text",
    "output": None,
    "redact": False,
    "quiet": False,
    "html": None,
    "svg": None,
    "device": None,
    "check_rows": [],
    "machines": [],
    "limit": 300.0,
    "again": False,
    "no_keep": False,
    "list": False,
    "forget": False,
    "name": None,
    "topic": None,
}


def parse(argv: Sequence[str]) -> SimpleNamespace:
    """Return the options of a command line.

    Raises:
        SystemExit: with 2 on wrong usage; with 0 after `--help` and `--version`.
    """
    whole = parsers(commands=_may_name_one(argv)).whole
    options, unknown = whole.parse_known_args(argv, SimpleNamespace(**DEFAULTS))
    if unknown:
        wrong_usage(f"unrecognized arguments: {' '.join(unknown)}{_hint(unknown[0], options.command)}", options.command)
    changes: dict[tuple[str, str], Change] = {}
    for change in options.changes:
        first = changes.setdefault(change.slot, change)
        if first is not change:
            told = first.name if first.kind in ("set", "unset") else f"--{first.kind}"
            wrong_usage(f"{told} is given twice; one of {first.value} and {change.value} can be", options.command)
    return options


def _may_name_one(argv: Sequence[str]) -> bool:
    """Return whether a command may be named, or all be listed; not where every argument is a long option."""
    return not all(each.startswith("--") and each not in ("--", "--help") for each in argv)


def _hint(unknown: str, command: str | None) -> str:
    """Return what an argument that no command takes may have meant."""
    found = parsers()
    known = found.by_name.get(command or "", found.whole)
    # argparse shows its options no other way.
    options = [name for action in known._actions for name in action.option_strings]  # noqa: SLF001
    name, equals, value = unknown.partition("=")
    if equals and f"--{name}" in options:
        return f". Did you mean --{name} {value}?"
    return did_you_mean(name, options)


def wrong_usage(message: str, command: str | None = None) -> NoReturn:
    """Print the usage of the command and what is wrong, a line each, and exit with 2."""
    found = parsers()
    found.by_name.get(command or "", found.whole).error(message)
