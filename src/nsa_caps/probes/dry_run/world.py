"""One imagined machine in which aiter's modules are imported and called: nothing of it reaches the real one."""

from __future__ import annotations

import ast
import builtins
import posixpath
import sys
import types
from importlib.util import resolve_name
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.dry_run.stand_ins import Anything, Doubts, Dtype, StandIn, Tensor, is_same, lacks, leaves_alone
from nsa_caps.probes.dry_run.triton_stand_in import SINCE, torch_module, triton_modules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType, ModuleType

__all__ = ["REAL", "Environ", "World"]

# Modules of the standard library that compute and do nothing else, and `packaging`.
REAL = frozenset({
    "__future__", "abc", "argparse", "ast", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum",
    "functools", "inspect", "itertools", "json", "math", "numbers", "operator", "packaging", "re", "string",
    "textwrap", "threading", "types", "typing", "warnings",
})  # fmt: skip
# Packages that may be there or not, and without which aiter's own gates are the same.
_OPTIONAL = frozenset({"aiter_", "csrc", "flydsl", "iris"})
# aiter puts its folder jit/utils on the path and imports these by their bare names.
_BARE = "aiter.jit.utils."
# What builds compiled code: its decorators change nothing that decides.
_KNOWN: dict[str, dict[str, Any]] = {
    "aiter.jit.core": {"compile_ops": leaves_alone},
    "aiter.jit.utils.torch_guard": {"torch_compile_guard": leaves_alone},
    # The C++ names of dtypes, from a header of its own.
    "aiter.utility.aiter_types": {"aiter_dtypes": {}},
}
_PURE_PATHS = ("abspath", "basename", "dirname", "isabs", "join", "normpath", "split", "splitext", "sep", "realpath")


class Environ(dict[str, str]):
    """The variables of a machine, and which of them were asked for."""

    def __init__(self, values: Mapping[str, str], asked: set[str]) -> None:
        super().__init__(values)
        self.asked = asked

    def __getitem__(self, name: str) -> str:
        self.asked.add(str(name))
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a variable."""
        self.asked.add(str(name))
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)

    def _whole(self, *_: object) -> Any:
        Doubts.add("all variables")
        return iter(())

    __iter__ = keys = items = values = copy = _whole


class World:
    """A machine and what was imported on it.

    Attributes:
        modules: the modules by name.
        environ: the variables.
    """

    def __init__(
        self, sources: Mapping[str, Source], present: frozenset[str], triton: str, arch: str, environ: Environ
    ) -> None:
        self.sources = sources
        self.present = present
        self.environ = environ
        self.joined: set[str] = set()
        self.modules: dict[str, ModuleType] = {**triton_modules(triton, arch), **_system(self, arch)}
        self.modules["torch"] = torch_module(arch)
        self.builtins = {**vars(builtins), **_BUILTINS, "__import__": self.import_}

    def import_(
        self,
        name: str,
        importer: Mapping[str, Any] | None = None,
        _locals: object = None,
        names: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """Python's `__import__`, for this machine."""
        if level and importer is not None:
            name = resolve_name("." * level + name, importer["__package__"])
        if "." not in name and (f"{_BARE}{name}" in self.sources or f"{_BARE}{name}" in self.present):
            name = f"{_BARE}{name}"
            return self.load(name)
        top = name.partition(".")[0]
        if top in REAL:
            return builtins.__import__(name, None, None, tuple(names or ()))
        module = self.load(name)
        for each in names or ():
            if each not in vars(module) and self.is_module(f"{name}.{each}"):
                self.load(f"{name}.{each}")
        return module if names else self.modules[top]

    def is_module(self, name: str) -> bool:
        """Return whether aiter has a module of that name, or one stands in."""
        return name in self.modules or name in self.sources or name in self.present

    def import_module(self, name: str, package: str | None = None) -> Any:
        """Return a module whose name was computed: one that no import names was not looked for."""
        if name.startswith("."):
            name = resolve_name(name, package)
        if name.partition(".")[0] in ("aiter", "triton") and not self.is_module(name):
            Doubts.add(f"whether there is {name}")
        return self.import_(name, None, None, ("__name__",))

    def find_spec(self, name: str, *_: object) -> Any:
        """Return something for a module that is there, and nothing for one that never decides."""
        if name in _OPTIONAL:
            return None
        found = Anything(f"the place of {name}")
        return [found] if self.is_module(name) or name.partition(".")[0] in REAL else found

    def load(self, name: str) -> Any:
        """Return a module, imported after its parents if it was not yet."""
        if name in self.joined:
            return self.modules[name]
        parent, _, last = name.rpartition(".")
        if parent:
            self.load(parent)
        module = self.modules.get(name) or self._made(name)
        if parent:
            setattr(self.modules[parent], last, module)
        self.joined.add(name)
        return module

    def _made(self, name: str) -> Any:
        top = name.partition(".")[0]
        if name in self.sources:
            return self._executed(name, self.sources[name])
        if top in ("torch", "numpy") or name in self.present:
            self.modules[name] = StandIn(name, **_KNOWN.get(name, {}))
            return self.modules[name]
        if top in sys.stdlib_module_names:
            # It could open, start or read something: whatever it answers is a doubt.
            self.modules[name] = StandIn(name)
            return self.modules[name]
        if top not in ("aiter", *_OPTIONAL) and name not in SINCE:
            Doubts.add(f"whether there is {name}")
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def _executed(self, name: str, source: Source) -> ModuleType:
        module = types.ModuleType(name)
        package = name if source.is_package else name.rpartition(".")[0]
        vars(module).update(__file__=f"/aiter/{source.file}", __package__=package, __builtins__=self.builtins)
        if source.is_package:
            module.__path__ = [posixpath.dirname(f"/aiter/{source.file}")]
        self.modules[name] = module
        try:
            exec(source.code(), vars(module))  # noqa: S102 the code under examination, as the user asked for
        except BaseException:
            del self.modules[name]
            raise
        return module


class Source:
    """A module's source, compiled once for all machines."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.is_package = file.rpartition("/")[2] == "__init__.py"
        self._text = text
        self._code: CodeType | None = None

    def code(self) -> CodeType:
        """Return the code, in which `is` asks `is_same`.

        Raises:
            SyntaxError: this Python cannot read it.
        """
        if self._code is None:
            tree = ast.parse(self._text, self.file)
            self._code = compile(_Is().visit(tree), self.file, "exec", dont_inherit=True)
        return self._code


class _Is(ast.NodeTransformer):
    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        kinds = [operator for operator in node.ops if isinstance(operator, (ast.Is, ast.IsNot))]
        if not kinds:
            return node
        if len(node.ops) > 1:
            raise SyntaxError("a chain of `is`, which no aiter has had")
        call = ast.Call(ast.Name("__is_same__", ast.Load()), [node.left, node.comparators[0]], [])
        same = call if isinstance(kinds[0], ast.Is) else ast.UnaryOp(ast.Not(), call)
        return ast.fix_missing_locations(ast.copy_location(same, node))


class _Logger:
    """A logger: whether it has a handler is asked, and what it logs goes nowhere."""

    def __init__(self) -> None:
        self.handlers: list[object] = []
        self.addHandler = self.handlers.append

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise lacks(self, name)
        return Anything(f"logger.{name}")


def _unknown(value: object) -> bool:
    return isinstance(value, (Anything, StandIn, Tensor, Dtype)) or value is Tensor or value is Dtype


def _hasattr(value: object, name: str) -> bool:
    if _unknown(value) and name not in vars(value):
        return Doubts.answer(f"whether it has {name}")
    return hasattr(value, name)


def _getattr(value: object, name: str, *default: Any) -> Any:
    if default and default[0] is None and _unknown(value) and name not in vars(value):
        return getattr(value, name) if Doubts.answer(f"whether it has {name}") else None
    return getattr(value, name, *default)


def _largest(*values: Any, **options: Any) -> Any:
    unknown = any(isinstance(value, Anything) for value in values)
    return Anything("the largest") if unknown else max(*values, **options)


def _smallest(*values: Any, **options: Any) -> Any:
    unknown = any(isinstance(value, Anything) for value in values)
    return Anything("the smallest") if unknown else min(*values, **options)


def _open(*_: object, **__: object) -> Any:
    Doubts.add("a file")
    raise FileNotFoundError("a dry run reads no file")


_BUILTINS: dict[str, Any] = {
    "__is_same__": is_same, "hasattr": _hasattr, "getattr": _getattr, "max": _largest, "min": _smallest, "open": _open,
    "print": lambda *_, **__: None, "input": _open, "breakpoint": _open,
}  # fmt: skip


def _system(world: World, arch: str) -> dict[str, ModuleType]:
    """Return the modules that reach the machine, as far as a gate may ask them."""
    environ = world.environ
    paths = StandIn("os.path", **{name: getattr(posixpath, name) for name in _PURE_PATHS})
    # A path of nobody's machine: pure, as there is no link in it.
    vars(paths)["realpath"] = posixpath.normpath
    system = StandIn("os", environ=environ, getenv=environ.get, path=paths, sep="/", linesep="\n", name="posix")
    interpreter = StandIn(
        "sys", version_info=sys.version_info, platform="linux", path=[], modules={}, exit=sys.exit, maxsize=sys.maxsize
    )
    printed = SimpleNamespace(stdout=_rocminfo(arch), returncode=0, stderr="")
    process = StandIn("subprocess", run=lambda *_, **__: printed)
    finder = StandIn("importlib.util", find_spec=world.find_spec)
    importer = StandIn("importlib", import_module=world.import_module, util=finder)
    loggers: dict[str, _Logger] = {}
    logs = StandIn("logging", getLogger=lambda name="root": loggers.setdefault(name, _Logger()))
    found = [system, paths, interpreter, process, importer, finder, logs]
    return {module.__name__: module for module in found}


def _rocminfo(arch: str) -> str:
    """Return what `rocminfo` prints on a machine with one GPU, as far as aiter reads it."""
    return (
        "Agent 1\n  Name: CPU\n  Device Type: CPU\n  Compute Unit: 64\n"
        f"Agent 2\n  Name: {arch}\n  Device Type: GPU\n  Compute Unit: 256\n  Name: amdgcn-amd-amdhsa--{arch}:xnack-\n"
    )
