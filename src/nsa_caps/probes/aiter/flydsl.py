"""What `aiter.ops.flydsl` asks of the package flydsl, from which aiter builds some of its kernels.

Where flydsl is installed, the module imports those kernels, and fails if flydsl is of a version that it does not take.
Where it is not installed, the module has none of their names.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.aiter_digests import FLYDSL_GATES, FLYDSL_LOOKS
from nsa_caps.probes.aiter.modules import FLYDSL
from nsa_caps.probes.aiter.noise import is_noise
from nsa_caps.probes.aiter.normal import digest
from nsa_caps.probes.python_source import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeGuard

__all__ = ["LOGITS", "flydsl_facts", "flydsl_names"]

LOGITS = "flydsl_fp8_mqa_logits"
_NAMES = frozenset({"_MIN_FLYDSL_VERSION", "_REQUIRED_FLYDSL_VERSION"})


def flydsl_facts(files: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the versions of flydsl that the module takes, and what speaks against it."""
    path = files.module(FLYDSL)
    if path is None and FLYDSL not in files.shadowed:
        return {"flydsl_needs": "none"}, []
    try:
        needs, problem = _needs(files, path)
    except SourceError as error:
        needs, problem = None, str(error)
    return {"flydsl_needs": needs}, [] if needs else [(path or FLYDSL, problem)]


def _needs(files: Any, path: str | None) -> tuple[str | None, str]:
    """Return the versions that the module takes, or None and what is not accounted for."""
    if not path or files.text(path) is None:
        return None, "cannot be read"
    version, operator = "", ""
    for statement in _statements(files, path):
        if _is_look(statement):
            if operator or gate_digest(statement) not in FLYDSL_GATES:
                return None, f"line {statement.lineno}: another way to ask for flydsl: not accounted for"
            operator = FLYDSL_GATES[gate_digest(statement)]
        elif (text := _version(statement)) is not None:
            version = text
        elif not (is_noise(statement) or isinstance(statement, ast.ImportFrom) or _names_all(statement)):
            return None, f"line {statement.lineno}: not accounted for"
    looks = files.module(f"{FLYDSL}.utils")
    found = [part for part in files.segments(looks) if part.name == "is_flydsl_available"] if looks else []
    if [part.told.digest in FLYDSL_LOOKS for part in found] != [True]:
        return None, "asks in a way that was never read whether flydsl is there"
    if not operator:
        return ("none", "") if not version else (None, "names a version that nothing asks for")
    return (f"{operator}{version}", "") if version else (None, "asks for a version and names none")


def flydsl_names(files: Any) -> list[str]:
    """Return the kernel that engines import from that module, if it has it where flydsl is installed.

    One that the module names in another way counts too: `flydsl_needs` then is not known.
    """
    path = files.module(FLYDSL)
    if not path or LOGITS not in (files.text(path) or ""):
        return []
    try:
        gates = [statement for statement in _statements(files, path) if _is_look(statement)]
    except SourceError:
        return [LOGITS]
    imported = {alias.name for gate in gates for each in _imports(gate) for alias in each.names}
    return [LOGITS] if LOGITS in imported or not gates else []


def gate_digest(gate: ast.If) -> str:
    """Return the digest of what the module does where flydsl is there, beside importing kernels and naming them."""
    rest = [each for each in gate.body if not (isinstance(each, ast.ImportFrom) or _names_all(each))]
    return digest([*rest, *gate.orelse])


def _statements(files: Any, path: str) -> Iterator[ast.stmt]:
    for part in files.segments(path):
        yield from part.body


def _imports(gate: ast.If) -> Iterator[ast.ImportFrom]:
    yield from (each for each in gate.body if isinstance(each, ast.ImportFrom))


def _is_look(statement: ast.stmt) -> TypeGuard[ast.If]:
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "is_flydsl_available()"


def _version(statement: ast.stmt) -> str | None:
    """Return the text of `_MIN_FLYDSL_VERSION = Version(text)`, or without `Version`, as it was before 2026-04."""
    if not isinstance(statement, ast.Assign) or _NAMES.isdisjoint(map(ast.unparse, statement.targets)):
        return None
    text = statement.value
    if isinstance(text, ast.Call) and ast.unparse(text.func) == "Version" and len(text.args) == 1:
        (text,) = text.args
    return text.value if isinstance(text, ast.Constant) and isinstance(text.value, str) else None


def _names_all(statement: ast.stmt) -> bool:
    """Return whether a statement only lists names in `__all__`."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AugAssign):
        targets = [statement.target]
    else:
        return False
    if [ast.unparse(each) for each in targets] != ["__all__"]:
        return False
    names = statement.value
    return isinstance(names, ast.List) and all(isinstance(each, ast.Constant) for each in names.elts)
