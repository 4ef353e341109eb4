"""Python source read as data: parsed, never executed."""

from __future__ import annotations

import ast
import re
import sys

from nsa_caps.errors import NsaCapsError

__all__ = ["SourceError", "parse", "string_literals"]

# What may follow a backslash, in bytes and in text; a pair of characters that is none; and every comment or literal.
_ESCAPES = "\n\r\\'\"abfnrtvx01234567"
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ODD_ESCAPE = re.compile(r"\\[^\n\r\\'\"abfnrtvx0-7]")
_LITERAL = re.compile(
    r"#[^\n]*"
    r"|(?<!\w)([A-Za-z]{0,2})"
    r"(\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|\"(?:[^\\\"\n]|\\.)*\"|'(?:[^\\'\n]|\\.)*')",
    re.DOTALL,
)


class SourceError(NsaCapsError, ValueError):
    """A text is no Python source to this interpreter, which could therefore not import it either."""


def parse(text: str) -> ast.Module:
    """Return the syntax tree of a source text.

    Raises:
        SourceError: this interpreter cannot read it; a newer one may (aiter at 914dcee3 needs Python 3.12).
    """
    try:
        return ast.parse(_without_odd_escapes(text))
    # The parser's own depth is one to it, too.
    except MemoryError as error:
        raise SourceError("no memory to parse it, or nested too deep") from error
    # ValueError: NUL bytes. RecursionError: nesting beyond the parser.
    except (SyntaxError, ValueError, RecursionError) as error:
        raise SourceError(f"Python {sys.version_info[0]}.{sys.version_info[1]} cannot parse it: {error}") from error


def _without_odd_escapes(text: str) -> str:
    """Return the source with the backslash doubled in each escape that Python knows none of, which is the same text.

    Python warns of such an escape. It is not the engine's to hear about, and to silence a warning takes the process's
    own filters, which other threads use: `warnings.catch_warnings` leaves them as another thread had them.
    """
    return _LITERAL.sub(_escaped, text) if _ODD_ESCAPE.search(text) else text


def _escaped(literal: re.Match[str]) -> str:
    prefix, body = literal[1], literal[2]
    if body is None or "r" in prefix.lower():
        return literal[0]
    known = _ESCAPES if "b" in prefix.lower() else f"{_ESCAPES}NuU"
    return prefix + _ESCAPE.sub(lambda escape: escape[0] if escape[1] in known else f"\\{escape[0]}", body)


def string_literals(module: ast.Module) -> dict[str, str | None]:
    """Return the module-level names that a plain string or None is assigned to.

    torch writes `hip: Optional[str] = "7.0"` (annotated), setuptools-scm `__version__ = version = "0.1.13"` (chained).
    """
    found: dict[str, str | None] = {}
    for statement in module.body:
        if isinstance(statement, ast.Assign):
            targets: list[ast.expr] = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        if isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, (str, type(None))):
            found.update({target.id: statement.value.value for target in targets if isinstance(target, ast.Name)})
    return found
