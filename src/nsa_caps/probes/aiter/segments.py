"""A module's text cut into its top-level statements, so that only those that are asked for need to be parsed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_caps.probes.python_source import parse

if TYPE_CHECKING:
    import ast

__all__ = ["Segment", "segments"]

# A line that begins a statement at the left edge; a decorator begins the definition below it.
_START = re.compile(r"(?m)^(?![ \t\r\n#)\]}]|$)(?:(@)|(async[ ]+def|def|class)[ ]+(\w+)|(else|elif|except|finally)\b|)")


@dataclass
class Segment:
    """One or more statements at the top of a module.

    Attributes:
        name: what it defines, if it is one function or class.
        kind: `def`, `class`, or empty.
        line: the number of its first line.
        text: its source.
    """

    name: str
    kind: str
    line: int
    text: str
    _body: list[ast.stmt] | None = None

    @property
    def body(self) -> list[ast.stmt]:
        """Its statements, at their lines in the file.

        Raises:
            SourceError: this interpreter cannot read it.
        """
        if self._body is None:
            self._body = parse("\n" * (self.line - 1) + self.text).body
        return self._body


def segments(text: str) -> list[Segment]:
    """Cut a module's text; where it cannot be cut, it is one segment.

    A text in several lines that begins in a definition and comes back to the left edge would be cut in two: then the
    number of its triple quotes is odd.
    """
    found: list[Segment] = []
    starts: list[tuple[int, str, str]] = []
    decorated: int | None = None
    for match in _START.finditer(text):
        if match[1]:
            decorated = match.start() if decorated is None else decorated
            continue
        if match[4]:
            continue
        start = match.start() if decorated is None else decorated
        decorated = None
        kind = (match[2] or "").rpartition(" ")[2]
        if starts and not kind and not starts[-1][1]:
            # Statements that define nothing stay together: one call parses them all.
            continue
        starts.append((start, kind, match[3] or ""))
    if not starts:
        return [Segment("", "", 1, text)]
    line, at = 1, 0
    for index, (start, kind, name) in enumerate(starts):
        begin = 0 if index == 0 else start
        end = starts[index + 1][0] if index + 1 < len(starts) else len(text)
        line += text.count("\n", at, begin)
        at = begin
        piece = text[begin:end]
        if kind and (piece.count('"""') % 2 or piece.count("'''") % 2):
            return [Segment("", "", 1, text)]
        found.append(Segment(name, kind, line, piece))
    return found
