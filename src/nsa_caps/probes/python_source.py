"""Python source read as data: parsed, never executed."""

from __future__ import annotations

import ast
import sys
import warnings

from nsa_caps.errors import NsaCapsError

__all__ = ["SourceError", "parse", "string_literals"]


class SourceError(NsaCapsError, ValueError):
    """A text is no Python source to this interpreter, which could therefore not import it either."""


def parse(text: str) -> ast.Module:
    """Return the syntax tree of a source text.

    Raises:
        SourceError: this interpreter cannot read it; a newer one may (aiter at 914dcee3 needs Python 3.12).
    """
    try:
        with warnings.catch_warnings():
            # A vendor's invalid escape sequence is not the engine's to hear about.
            warnings.simplefilter("ignore")
            return ast.parse(text)
    # ValueError: NUL bytes. RecursionError and MemoryError: nesting beyond the parser.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"Python {sys.version_info[0]}.{sys.version_info[1]} cannot parse it: {error}") from error


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
