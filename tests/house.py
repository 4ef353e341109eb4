"""The house as it stands: every import of the package read from its sources, and the floors that follow from them.

Read by `tests/test_imports.py`, which holds it, and by `docs/pictures.py`, which draws it.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PACKAGE = Path(__file__).parents[1] / "src" / "nsa_caps"

# What stands beside the packages: the face, and the public paths of what lies deeper.
FACES = ("__init__", "__main__", "reasons", "requirements", "rows", "switches")


class Import(NamedTuple):
    """One import of the package's own: who imports what, as module names without `nsa_caps.`, and in which line."""

    module: str
    imported: str
    line: int


class CircleError(ValueError):
    """Modules or packages import each other."""


def module_name(file: Path, package: Path = PACKAGE) -> str:
    """Return a file's module name without `nsa_caps.`; a package's own file has the package's."""
    parts = file.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(package: Path = PACKAGE) -> Iterator[Import]:
    """Return every import of the package's own, those in functions and for type checkers too."""
    modules = {module_name(file, package) for file in package.rglob("*.py")}
    for file in sorted(package.rglob("*.py")):
        name = module_name(file, package)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for target in _targets(node):
                if target == "nsa_caps":
                    yield Import(name, "__init__", node.lineno)  # type: ignore[attr-defined]  # an import has a line
                elif target.startswith("nsa_caps."):
                    found = target.removeprefix("nsa_caps.")
                    # `from nsa_caps.policy import rows` imports a module, `from nsa_caps.pages import TILE` a name.
                    found = found if found in modules else found.rpartition(".")[0] or "__init__"
                    if found != name:
                        yield Import(name, found, node.lineno)  # type: ignore[attr-defined]  # as above


def _targets(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module: str) -> str:
    """Return the package that a module counts under; a module beside the packages counts as one."""
    return module.partition(".")[0]


def arrows(found: Iterable[Import], *, packages: bool) -> dict[str, set[str]]:
    """Return who imports whom, by module or by package."""
    graph: dict[str, set[str]] = {}
    for each in found:
        left, right = (package_of(name) if packages else name for name in (each.module, each.imported))
        graph.setdefault(left, set())
        graph.setdefault(right, set())
        if left != right:
            graph[left].add(right)
    return graph


def floors(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the floor of each: one above the highest that it imports; what imports nothing is on floor 1.

    Raises:
        CircleError: they import each other; the message names the circle.
    """
    found: dict[str, int] = {}

    def floor(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise CircleError(" -> ".join((*above[above.index(name) :], name)))
        if name not in found:
            found[name] = 1 + max((floor(each, (*above, name)) for each in sorted(graph[name])), default=0)
        return found[name]

    for name in sorted(graph):
        floor(name, ())
    return found
