"""Text as lines whose parts carry a role. Colour and width are the terminal's matter."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, TypeAlias

from nsa_caps.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["HANG", "WIDTH", "Line", "Span", "indented", "parted", "pieces", "plain", "printable"]


# A text and its role: good, fallback, bad, warning, label, row, source, command, hang, or nothing.
Span: TypeAlias = tuple[str, str]


# A line that has the span `HANG` is broken to fit the width, and what follows that span is indented as far as it.
# Any other line, such as one of a table, stays as it is.
Line: TypeAlias = tuple[Span, ...]


HANG: Span = ("", "hang")
WIDTH = 80
"""Columns where nobody knows how many there are: a pipe, a log, a file."""


def plain(lines: Iterable[Line], width: int = WIDTH) -> str:
    """Return lines as text without colour, broken at blanks; what has no blank stays whole and can be copied."""
    return "\n".join(text.rstrip() for line in lines for text in _broken(line, width))


def parted(line: Line) -> tuple[Line, Line] | None:
    """Return what stands before and after `HANG`; None where a line has none and is not to be broken."""
    return (line[: line.index(HANG)], line[line.index(HANG) + 1 :]) if HANG in line else None


def _broken(line: Line, width: int) -> Iterator[str]:
    parts = parted(line)
    if parts is None:
        yield _text(line)
        return
    start, body = map(_text, parts)
    for index, part in enumerate(pieces(body, width - len(start))):
        yield (start if index == 0 else " " * len(start)) + body[part]


def pieces(text: str, width: int) -> Iterator[slice]:
    """Return the parts of a text that fit a width, broken at blanks; what has none stays whole."""
    place = 0
    for piece in wrap(text, max(1, width), break_long_words=False, break_on_hyphens=False) or [""]:
        place = text.index(piece, place)
        yield slice(place, place + len(piece))
        place += len(piece)


def _text(line: Line) -> str:
    return "".join(text for text, _ in line)


def indented(start: str, text: str, role: str = "") -> Iterator[Line]:
    """Return one line: a text behind `start`, below which it goes on where it is broken."""
    yield (start, ""), HANG, (printable(text), role)
