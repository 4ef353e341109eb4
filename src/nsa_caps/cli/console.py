"""Lines on a stream: coloured where a person watches and rich is there, plain text otherwise."""

from __future__ import annotations

import os
from io import TextIOWrapper
from typing import TYPE_CHECKING

from nsa_caps.base.lines import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO

    from nsa_caps.base.lines import Line

__all__ = ["print_lines", "print_text"]

_STYLES: Mapping[str, str] = {
    "good": "bold green",
    "bad": "bold red",
    "label": "bold",
    "row": "yellow",
    "source": "dim",
    "command": "cyan",
}


def print_lines(lines: Iterable[Line], stream: TextIO) -> None:
    """Print lines, in colour where the stream is a terminal, NO_COLOR is not set and rich is installed."""
    listed = list(lines)
    if listed:
        print_text((_in_colour(listed, stream) if _wants_colour(stream) else None) or plain(listed), stream)


def print_text(text: str, stream: TextIO) -> None:
    """Print a text; what the stream's encoding lacks is spelled out, and a reader that went away is no error.

    Raises:
        OSError: the stream cannot be written to for another reason.
    """
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    try:
        stream.write(text + "\n")
        stream.flush()
    except OSError as error:
        # The interpreter flushes once more when it exits, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


def _wants_colour(stream: TextIO) -> bool:
    # no-color.org: present and not empty.
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _in_colour(lines: Iterable[Line], stream: TextIO) -> str | None:
    """Return lines with colours and with long sources shortened in the middle, or None without rich."""
    try:
        from rich.console import Console  # noqa: PLC0415 optional, and 60 ms
        from rich.text import Text  # noqa: PLC0415 as above
    except ImportError:
        return None
    console = Console(file=stream, highlight=False)
    with console.capture() as captured:
        for line in lines:
            spans = [(text, _STYLES.get(role, "")) for text, role in _fitted(line, console.width)]
            console.print(Text.assemble(*spans), soft_wrap=True)
    return captured.get().removesuffix("\n")


def _fitted(line: Line, width: int) -> Iterable[tuple[str, str]]:
    """Return a line whose sources have lost what is too much, in the middle: both ends of a path tell something."""
    excess = sum(len(text) for text, _ in line) - width
    for text, role in line:
        if role == "source" and excess > 0 and len(text) > excess + 20:
            kept = len(text) - excess - 3
            yield f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}", role
            excess = 0
        else:
            yield text, role
