"""What a piece of source does, without what says nothing: the text that a digest is taken of.

Docstrings, comments, lines of a log, annotations, messages of errors, the order of imports and the names of locals are
left out; everything else is kept. A parameter keeps its name, since a caller may use it.
"""

from __future__ import annotations

import ast
import hashlib
from typing import TYPE_CHECKING

from nsa_caps.probes.aiter.noise import is_noise

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["digest", "normal", "text_digest"]

_SKIPPED = frozenset({"ctx", "type_comment", "kind", "type_params", "returns", "annotation"})
_LENGTH = 12


def text_digest(text: str) -> str:
    """Return the digest of a text as it stands, spaces at the ends of lines apart."""
    lines = "\n".join(line.rstrip() for line in text.splitlines() if line.strip())
    return hashlib.sha256(lines.encode()).hexdigest()[:_LENGTH]


def digest(nodes: list[ast.stmt]) -> str:
    """Return the digest of what statements do."""
    return hashlib.sha256(normal(nodes).encode()).hexdigest()[:_LENGTH]


def normal(nodes: list[ast.stmt]) -> str:
    """Return what statements do, as one text."""
    return "".join(_block(nodes, {}))


def _block(nodes: list[ast.stmt], names: dict[str, str]) -> Iterator[str]:
    imports: list[str] = []
    for node in nodes:
        if is_noise(node):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports += _imported(node)
            continue
        yield from sorted(imports)
        imports = []
        yield from _node(node, names)
    yield from sorted(imports)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    place = "." * node.level + (node.module or "") if isinstance(node, ast.ImportFrom) else ""
    for alias in node.names:
        yield f"import({place},{alias.name},{alias.asname});"


def _node(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield names.get(node.id, node.id)
    elif isinstance(node, ast.Constant):
        yield repr(node.value)
    elif isinstance(node, ast.Raise):
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        yield "raise("
        if error is not None:
            yield from _node(error, names)
        yield ")"
    elif isinstance(node, ast.Assert):
        yield "assert("
        yield from _node(node.test, names)
        yield ")"
    elif isinstance(node, ast.AnnAssign):
        if node.value is not None:
            yield "Assign("
            yield from _node(node.target, names)
            yield "="
            yield from _node(node.value, names)
            yield ")"
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield from _fields(node, _locals(node, names))
    else:
        yield from _fields(node, names)


def _fields(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    yield f"{type(node).__name__}("
    for field in node._fields:
        if field in _SKIPPED:
            continue
        value = getattr(node, field, None)
        if isinstance(value, ast.AST):
            yield from _node(value, names)
        elif isinstance(value, list):
            yield "["
            if value and isinstance(value[0], ast.stmt):
                yield from _block(value, names)
            else:
                for each in value:
                    if isinstance(each, ast.AST):
                        yield from _node(each, names)
                    else:
                        yield repr(each)
                    yield ","
            yield "]"
        elif field == "name" and isinstance(node, ast.ExceptHandler):
            yield names.get(str(value), repr(value))
        else:
            yield repr(value)
        yield ","
    yield ")"


def _locals(node: ast.FunctionDef | ast.AsyncFunctionDef, outer: dict[str, str]) -> dict[str, str]:
    """Number the locals in the order in which they are bound; parameters and globals keep their names."""
    arguments = node.args
    kept = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    kept.update(each.arg for each in (arguments.vararg, arguments.kwarg) if each is not None)
    bound: dict[str, str] = {}
    for inner in ast.walk(node):
        if isinstance(inner, (ast.Global, ast.Nonlocal)):
            kept.update(inner.names)
    for name in _stored(node.body):
        if name not in kept and name not in bound:
            bound[name] = f"v{len(bound)}"
    return {**{name: value for name, value in outer.items() if name not in kept}, **bound}


def _stored(nodes: list[ast.stmt]) -> Iterator[str]:
    """Return the names that statements bind, in the order of the source."""
    for statement in nodes:
        for inner in ast.walk(statement):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                yield inner.id
            elif isinstance(inner, ast.ExceptHandler) and inner.name:
                yield inner.name
