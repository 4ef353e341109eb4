"""Text as lines whose parts carry a role. Colour is the terminal's matter."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Line", "Span", "indented", "plain", "printable"]


# A text and its role: good, bad, label, row, source, command, or nothing.
Span: TypeAlias = tuple[str, str]


Line: TypeAlias = tuple[Span, ...]


_WIDTH = 100


def plain(lines: Iterable[Line]) -> str:
    """Return lines as text without colour."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def printable(text: str) -> str:
    """Return the text with what would steer a terminal, or cannot be encoded, spelled out: variables hold anything."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def indented(start: str, text: str, role: str = "") -> Iterator[Line]:
    """Return a text behind `start`, broken at blanks to fit the width; what has none stays whole and can be copied."""
    broken = wrap(printable(text), _WIDTH - len(start), break_long_words=False, break_on_hyphens=False)
    for index, part in enumerate(broken):
        yield (start if index == 0 else " " * len(start), ""), (part, role)
