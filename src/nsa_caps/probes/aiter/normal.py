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
    from collections.abc import Iterable, Iterator

__all__ = ["children", "digest", "normal", "text_digest", "walked"]

_SKIPPED = frozenset({"ctx", "type_comment", "kind", "type_params", "returns", "annotation"})
# Fields that hold texts, numbers, operators or aliases.
_WITHOUT_NODES = frozenset({
    "arg", "asname", "attr", "cls_name", "conversion", "ctx", "id", "is_async", "kind", "kwd_attrs", "level", "module",
    "name", "names", "op", "ops", "rest", "simple", "type_comment", "type_ignores",
})  # fmt: skip
_BLOCKS = frozenset({"body", "orelse", "finalbody"})
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}
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
    out: list[str] = []
    _block(nodes, {}, out)
    return "".join(out)


def walked(nodes: Iterable[ast.AST]) -> list[ast.AST]:
    """Return nodes and all below them, each level after the one above; operators, contexts and aliases are left out.

    `ast.walk` takes three times as long.
    """
    found = list(nodes)
    for node in found:
        found += children(node)
    return found


def children(node: ast.AST) -> list[ast.AST]:
    """Return what stands directly below a node, less what `walked` leaves out."""
    kind = type(node)
    if kind not in _FIELDS:
        plain = kind is ast.Constant
        _FIELDS[kind] = () if plain else tuple(name for name in kind._fields if name not in _WITHOUT_NODES)
    found: list[ast.AST] = []
    for name in _FIELDS[kind]:
        value = getattr(node, name)
        if type(value) is list:
            # The keys of a dict have None in the place of a `**`.
            found += value if kind is not ast.Dict else [each for each in value if each is not None]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def _block(nodes: list[ast.stmt], names: dict[str, str], out: list[str]) -> None:
    imports: list[str] = []
    for node in nodes:
        if is_noise(node):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports += _imported(node)
            continue
        out += sorted(imports)
        imports = []
        _node(node, names, out)
    out += sorted(imports)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    place = "." * node.level + (node.module or "") if isinstance(node, ast.ImportFrom) else ""
    for alias in node.names:
        yield f"import({place},{alias.name},{alias.asname});"


def _node(node: ast.AST, names: dict[str, str], out: list[str]) -> None:
    if isinstance(node, ast.Name):
        out.append(names.get(node.id, node.id))
    elif isinstance(node, ast.Constant):
        out.append(repr(node.value))
    elif isinstance(node, ast.Raise):
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        out.append("raise(")
        if error is not None:
            _node(error, names, out)
        out.append(")")
    elif isinstance(node, ast.Assert):
        out.append("assert(")
        _node(node.test, names, out)
        out.append(")")
    elif isinstance(node, ast.AnnAssign):
        if node.value is not None:
            out.append("Assign(")
            _node(node.target, names, out)
            out.append("=")
            _node(node.value, names, out)
            out.append(")")
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        _fields(node, _locals(node, names), out)
    else:
        _fields(node, names, out)


def _fields(node: ast.AST, names: dict[str, str], out: list[str]) -> None:
    out.append(f"{type(node).__name__}(")
    for field in node._fields:
        if field in _SKIPPED:
            continue
        value = getattr(node, field, None)
        if isinstance(value, ast.AST):
            _node(value, names, out)
        elif isinstance(value, list):
            out.append("[")
            if field in _BLOCKS:
                _block(value, names, out)
            else:
                for each in value:
                    if isinstance(each, ast.AST):
                        _node(each, names, out)
                    else:
                        out.append(repr(each))
                    out.append(",")
            out.append("]")
        elif isinstance(node, ast.ExceptHandler):
            # Its name.
            out.append(names.get(str(value), repr(value)))
        else:
            out.append(repr(value))
        out.append(",")
    out.append(")")


def _locals(node: ast.FunctionDef | ast.AsyncFunctionDef, outer: dict[str, str]) -> dict[str, str]:
    """Number the locals in the order in which they are bound; parameters and globals keep their names."""
    arguments = node.args
    kept = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    kept.update(each.arg for each in (arguments.vararg, arguments.kwarg) if each is not None)
    bound: dict[str, str] = {}
    stored: list[str] = []
    for statement in node.body:
        for inner in walked([statement]):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                stored.append(inner.id)
            elif isinstance(inner, ast.ExceptHandler) and inner.name:
                stored.append(inner.name)
            elif isinstance(inner, (ast.Global, ast.Nonlocal)):
                kept.update(inner.names)
    for name in stored:
        if name not in kept and name not in bound:
            bound[name] = f"v{len(bound)}"
    return {**{name: value for name, value in outer.items() if name not in kept}, **bound}
