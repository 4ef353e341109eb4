"""A module's text cut into its top-level statements, so that only those that are asked for need to be parsed."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from nsa_caps.probes.aiter.normal import digest, text_digest, walked
from nsa_caps.probes.python_source import SourceError, parse

__all__ = ["WORD", "Segment", "Told", "segments"]

# A line that begins a statement at the left edge; a decorator begins the definition below it.
_START = re.compile(r"\n(?=[^ \t\r\n#)\]}])(?:(@)|(async[ ]+def|def|class)[ ]+(\w+)|(else|elif|except|finally)\b|)")
_MOST_STATEMENTS, _LONGEST = 1_000, 400_000
WORD = re.compile(r"[A-Za-z_]\w*")
_EDGE = re.compile(r"\n(?=\w)")
# The end of a function's head.
_HEAD = re.compile(r"\)[ ]*(?:->[^:\n]*)?:[ ]*\n")


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

    @cached_property
    def body(self) -> list[ast.stmt]:
        """Its statements, at their lines in the file.

        Raises:
            SourceError: this interpreter cannot read it.
        """
        # Looked at before it is parsed, which takes seconds for a megabyte.
        if len(self.text) > _LONGEST or len(_EDGE.findall(self.text)) > _MOST_STATEMENTS:
            raise SourceError("more statements in a row than any aiter has")
        return parse("\n" * (self.line - 1) + self.text).body

    @cached_property
    def arguments(self) -> ast.arguments | None:
        """The parameters of a function; its head alone is parsed, for a kernel has 38 kB. Raises as `body` does."""
        end = _HEAD.search(self.text)
        try:
            (node,) = parse(f"{self.text[: end.end()]} ..." if end else self.text).body
        except ValueError:
            node, *_ = self.body
        return node.args if isinstance(node, ast.FunctionDef) else None

    @cached_property
    def told(self) -> Told:
        """All of it as one; raises as `body` does."""
        return Told(digest(self.body), _names(walked(self.body)))

    @cached_property
    def written(self) -> Told:
        """Its text as one: a digest of it, and every word in it."""
        return Told(text_digest(self.text), frozenset(WORD.findall(self.text)))

    @cached_property
    def each(self) -> list[Told | None]:
        """Its statements; None: a common one, which is always followed. Raises as `body` does."""
        found: list[Told | None] = []
        for statement in self.body:
            common = isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef))
            nodes = [] if common else walked([statement])
            does = any(isinstance(inner, _CALLING) for inner in nodes)
            found.append(Told(digest([statement]), _names(nodes)) if does else None)
        return found


class Told(NamedTuple):
    """A digest of statements, and every name that they use."""

    digest: str
    names: frozenset[str]


_CALLING = (ast.Call, ast.Subscript, ast.Try, ast.With, ast.ClassDef)


def _names(nodes: list[ast.AST]) -> frozenset[str]:
    return frozenset(inner.id for inner in nodes if isinstance(inner, ast.Name))


def segments(text: str) -> list[Segment]:
    """Cut a module's text; where it cannot be cut, it is one segment.

    A text in several lines that begins in a definition and comes back to the left edge would be cut in two: then the
    number of its triple quotes is odd.
    """
    found: list[Segment] = []
    starts: list[tuple[int, str, str]] = []
    decorated: int | None = None
    before = "nothing"
    # The end of the line before stands in front, so that an offset is the one in the text.
    for match in _START.finditer(f"\n{text}"):
        if match[1]:
            decorated = match.start() if decorated is None else decorated
            continue
        if match[4]:
            continue
        start = match.start() if decorated is None else decorated
        decorated = None
        kind = (match[2] or "").rpartition(" ")[2]
        if not (kind or before):
            # Statements that define nothing stay together: one call parses them all.
            continue
        before = kind
        starts.append((start, kind, match[3] or ""))
    if not starts:
        return [Segment("", "", 1, text)]
    begins = [0, *(start for start, _, _ in starts[1:]), len(text)]
    quoted = [quotes for quotes in ('"""', "'''") if quotes in text]
    line = 1
    for (_, kind, name), (begin, end) in zip(starts, pairwise(begins), strict=True):
        piece = text[begin:end]
        if kind and any(piece.count(quotes) % 2 for quotes in quoted):
            return [Segment("", "", 1, text)]
        found.append(Segment(name, kind, line, piece))
        line += piece.count("\n")
    return found
