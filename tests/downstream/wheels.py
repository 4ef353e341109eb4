"""Engines' wheels, and a Python of its own in which modules of theirs run: what decides for real, the rest stands in.

Nothing of a wheel enters the repository, or stays in `sys.modules`.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import zipfile
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tests.real_aiter.stand_ins import StandIn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


class Wheel:
    """One wheel of an engine, its sources read where they lie and written out only to be run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.project, self.version = path.name.split("-")[:2]
        self._zip = zipfile.ZipFile(path)

    def __str__(self) -> str:
        return f"{self.project} {self.version}"

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def modules(self) -> dict[str, str]:
        """Return the file of every module, by its name."""
        files = [name for name in self._zip.namelist() if name.endswith(".py")]
        return {re.sub(r"(/__init__)?\.py$", "", name).replace("/", "."): name for name in files}

    def source(self, module: str) -> str:
        """Return the source of a module."""
        return self._zip.read(self.modules()[module]).decode("utf-8")

    def sources(self) -> Iterator[str]:
        """Yield the source of every module."""
        for file in self.modules().values():
            yield self._zip.read(file).decode("utf-8", "replace")

    def write(self, module: str, folder: Path) -> Path:
        """Write a module's file below a folder, as Triton reads the source of its kernels from a file."""
        return Path(self._zip.extract(self.modules()[module], folder))

    def importers(self, name: str) -> set[str]:
        """Return the modules that import a name by value when they are imported themselves."""
        found = set()
        for module, file in self.modules().items():
            text = self._zip.read(file).decode("utf-8")
            if name in text and any(
                isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}
                for node in ast.parse(text).body
            ):
                found.add(module)
        return found


def find_wheels(folder: Path) -> list[Wheel]:
    """Return the wheels of engines in a folder, by name and version."""
    paths = [path for path in folder.glob("*.whl") if path.name.split("-")[0] in ("sglang", "vllm")]
    return [Wheel(path) for path in sorted(paths)]


def take(source: str, names: Iterable[str], given: Mapping[str, object]) -> dict[str, Any]:
    """Return top-level definitions of a source, or `Class.method` of a class, executed with the globals given."""
    wanted = {name.rpartition(".")[2]: name.rpartition(".")[0] for name in names}
    body: list[ast.stmt] = []
    tree = ast.parse(source)
    for owner, statements in [("", tree.body), *((n.name, n.body) for n in tree.body if isinstance(n, ast.ClassDef))]:
        for node in statements:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and wanted.get(node.name) == owner:
                if owner:
                    node.decorator_list = []
                body.append(node)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)) and not owner:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and target.id in wanted:
                    body.append(node)
    future = ast.ImportFrom(module="__future__", names=[ast.alias(name="annotations")], level=0)
    code = compile(ast.fix_missing_locations(ast.Module(body=[future, *body], type_ignores=[])), "wheel", "exec")
    namespace = dict(given)
    exec(code, namespace)  # noqa: S102 the code under examination
    return {name: namespace[name] for name in wanted}


class Sandbox:
    """Modules of one wheel, some executed, imported beside this process's own torch and Triton."""

    def __init__(
        self, wheel: Wheel, folder: Path, executed: Iterable[str], modules: Mapping[str, Mapping[str, object]]
    ) -> None:
        """Prepare it.

        Args:
            wheel: whose modules.
            folder: where their files are written.
            executed: the modules to execute; every other one of the wheel is a stand-in.
            modules: names that stand-ins need to have, by module; of other projects' modules too.
        """
        self.wheel, self.folder, self.executed, self.given = wheel, folder, set(executed), modules
        self.modules: dict[str, ModuleType] = {}
        self.builtins = {**vars(builtins), "__import__": self.import_}

    def import_(
        self,
        name: str,
        importer: Mapping[str, Any] | None = None,
        _locals: object = None,
        names: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """Python's `__import__`, for this sandbox."""
        if level and importer is not None:
            name = resolve_name("." * level + name, importer["__package__"])
        top = name.split(".")[0]
        if top != self.wheel.project and not any(f"{given}.".startswith(f"{top}.") for given in self.given):
            return builtins.__import__(name, None, None, tuple(names or ()))
        module = self.load(name)
        for each in names or ():
            if f"{name}.{each}" in self.executed:
                setattr(module, each, self.load(f"{name}.{each}"))
        return module if names else self.modules[top]

    def load(self, name: str) -> ModuleType:
        """Return a module, imported after its parents if it was not yet."""
        parent, _, last = name.rpartition(".")
        if parent:
            self.load(parent)
        module = self.modules.get(name) or self._execute(name)
        if parent:
            setattr(self.modules[parent], last, module)
        return module

    def _execute(self, name: str) -> ModuleType:
        if name not in self.executed:
            self.modules[name] = StandIn(name, **self.given.get(name, {}))
            return self.modules[name]
        module = self.modules[name] = ModuleType(name)
        path = self.wheel.write(name, self.folder)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        vars(module).update(__file__=str(path), __package__=package, __builtins__=self.builtins)
        code = compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)
        # `dataclasses` looks a class's module up there.
        sys.modules[name] = module
        try:
            exec(code, vars(module))  # noqa: S102 as above
        except BaseException:
            del self.modules[name]
            raise
        finally:
            del sys.modules[name]
        return module
