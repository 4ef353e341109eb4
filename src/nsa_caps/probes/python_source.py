"""Python source read as data: parsed, never executed."""

from __future__ import annotations

import ast
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from nsa_caps.errors import NsaCapsError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Literals", "SourceError", "parse", "string_literals"]

# MAXSTACK of CPython's parser; and the bytes that a tree takes for each character of its source, at most (measured).
_PARSER_DEPTH, _BYTES_OF_A_TREE = 6000, 800
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
    except MemoryError as error:
        # What is nested deeper than the parser goes is one to it, too; and it goes deeper than this is long.
        if len(text) < _PARSER_DEPTH or not _has_memory_for(text):
            raise
        raise SourceError("nested too deep for this Python's parser") from error
    # ValueError: NUL bytes. RecursionError: nesting beyond the parser.
    except (SyntaxError, ValueError, RecursionError) as error:
        raise SourceError(f"Python {sys.version_info[0]}.{sys.version_info[1]} cannot parse it: {error}") from error


def _has_memory_for(text: str) -> bool:
    try:
        bytes(_BYTES_OF_A_TREE * len(text))
    except MemoryError:
        return False
    return True


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


class Literals(NamedTuple):
    """The module-level names of a source whose value can be read off it, and those whose cannot.

    Attributes:
        values: names whose last word is a plain string or None.
        unclear: names that something else binds, or may: a call, a branch, an import, `del`, `global`.
        is_open: any other name may be bound too: by `import *`, through `globals()`, or by the module's `__getattr__`.
    """

    values: dict[str, str | None]
    unclear: set[str]
    is_open: bool


def string_literals(module: ast.Module) -> Literals:
    """Return the module-level names that a plain string or None is assigned to, and has the last word of.

    torch writes `hip: Optional[str] = "7.0"` (annotated), setuptools-scm `__version__ = version = "0.1.13"` (chained).
    """
    values: dict[str, str | None] = {}
    unclear: set[str] = set()
    is_open = False
    for statement in module.body:
        literal = _literal(statement)
        for name in _bound(statement):
            is_open = is_open or name in (_ANY, _STAR, "__getattr__")
            # `import *` brings no name that begins with a line.
            lost = [each for each in values if name == _ANY or each[0] != "_"] if name in (_ANY, _STAR) else [name]
            for each in lost:
                values.pop(each, None)
            unclear.update(lost)
        if literal is not None:
            names, value = literal
            values.update(dict.fromkeys(names, value))
            unclear -= names
    # A function may bind them whenever it is called.
    later = {name for node in ast.walk(module) if isinstance(node, ast.Global) for name in node.names}
    plain = {name: value for name, value in values.items() if name not in later}
    return Literals(plain, unclear | later, is_open)


# What a statement may bind: any name, or any that `import *` brings.
_ANY, _STAR = "globals()", "*"
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_OWN_NAMES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _literal(statement: ast.stmt) -> tuple[set[str], str | None] | None:
    """Return the names that a statement gives a plain string or None, and which."""
    if isinstance(statement, ast.Assign):
        targets: list[ast.expr] = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return None
    if not isinstance(statement.value, ast.Constant) or not isinstance(statement.value.value, (str, type(None))):
        return None
    return {target.id for target in targets if isinstance(target, ast.Name)}, statement.value.value


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Return the names that a statement binds or deletes in the module, however deep in its branches."""
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        if isinstance(node, _SCOPES):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, (ast.Store, ast.Del)):
                yield node.id
            elif node.id in ("globals", "vars", "locals", "exec"):
                yield _ANY
        elif not isinstance(node, _OWN_NAMES) and not (isinstance(node, ast.AnnAssign) and node.value is None):
            if isinstance(node, ast.ExceptHandler) and node.name:
                yield node.name
            todo += ast.iter_child_nodes(node)
