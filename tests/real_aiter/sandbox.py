"""Executes aiter's own import and gate code for an imagined machine: no torch, no Triton, nothing in sys.modules."""

from __future__ import annotations

import builtins
import functools
import os
from importlib.util import resolve_name
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from . import stand_ins
from .stand_ins import ROOT, StandIn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType

    from .checkout import Checkout
    from .stand_ins import RealMachine

TRITON = "aiter.ops.triton."
# The files that decide run unchanged. The other modules of aiter, its C++ operators above all, are stand-ins.
EXECUTED = frozenset(
    {
        "aiter",
        "aiter.jit.utils.build_targets",
        "aiter.jit.utils.chip_info",
        "aiter.ops.attention",
        "aiter.utility.dtypes",
        "aiter.utility.triton.triton_metadata_redirect",
        f"{TRITON}_triton_kernels.attention.pa_mqa_logits",
        f"{TRITON}_triton_kernels.pa_mqa_logits",
        f"{TRITON}attention.pa_mqa_logits",
        f"{TRITON}gluon",
        f"{TRITON}gluon.pa_decode_gluon",
        f"{TRITON}gluon.pa_mqa_logits",
        f"{TRITON}gluon.triton_version",
        f"{TRITON}pa_mqa_logits",
        f"{TRITON}utils._triton.arch_info",
        f"{TRITON}utils.core",
        f"{TRITON}utils.device_info",
    }
)
# aiter puts its folder jit/utils on the path and imports these by their bare names.
BARE = {"build_targets": "aiter.jit.utils.build_targets"}
OPTIONAL = frozenset({"flydsl", "iris"})
REAL = frozenset(
    {
        "argparse",
        "collections",
        "dataclasses",
        "enum",
        "functools",
        "importlib",
        "json",
        "math",
        "packaging",
        "re",
        "sys",
        "threading",
        "types",
        "typing",
    }
)


class Sandbox:
    """A Python of its own in which one commit of aiter meets one machine."""

    def __init__(self, checkout: Checkout, machine: RealMachine) -> None:
        self.checkout = checkout
        environ = dict(machine.env)
        system = ModuleType("os")
        vars(system).update(vars(os), environ=environ, getenv=environ.get)
        found = SimpleNamespace(stdout=stand_ins.rocminfo(machine))
        self.modules: dict[str, ModuleType] = {
            "os": system,
            "torch": stand_ins.torch_module(),
            "subprocess": StandIn("subprocess", run=lambda *_, **__: found),
            "torch_guard": StandIn("torch_guard", torch_compile_guard=lambda *_, **__: lambda function: function),
            "aiter.utility.aiter_types": StandIn("aiter.utility.aiter_types", aiter_dtypes={}),
            **stand_ins.triton_modules(machine),
        }
        self.builtins = {**vars(builtins), "__import__": self.import_, "print": lambda *_, **__: None}

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
        name = BARE.get(name, name)
        if name.split(".")[0] in REAL:
            return builtins.__import__(name, None, None, tuple(names or ()))
        module = self.load(name)
        for each in names or ():
            if each not in vars(module) and self.is_module(f"{name}.{each}"):
                self.load(f"{name}.{each}")
        return module if names else self.modules[name.split(".")[0]]

    def is_module(self, name: str) -> bool:
        """Whether there is a module or a package of that name."""
        return name in self.modules or (name.startswith("aiter.") and name.replace(".", "/") in _modules(self.checkout))

    def load(self, name: str) -> ModuleType:
        """The module, imported after its parents if it was not yet."""
        parent, _, last = name.rpartition(".")
        if parent:
            self.load(parent)
        module = self.modules.get(name) or self.execute(name)
        if parent:
            setattr(self.modules[parent], last, module)
        return module

    def execute(self, name: str) -> ModuleType:
        """Import a module of aiter's, from its source where it decides; anything else is a stand-in."""
        top = name.split(".")[0]
        if top in OPTIONAL or top == "triton" or (top == "aiter" and name != "aiter" and not self.is_module(name)):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name not in EXECUTED or (source := _source(self.checkout, name)) is None:
            self.modules[name] = StandIn(name)
            return self.modules[name]
        path, code = source
        module = ModuleType(name)
        package = name if path.endswith("/__init__.py") else name.rpartition(".")[0]
        vars(module).update(__file__=f"{ROOT}/{path}", __package__=package, __builtins__=self.builtins)
        self.modules[name] = module
        try:
            exec(code, vars(module))  # noqa: S102 - the code under examination
        except BaseException:
            del self.modules[name]
            raise
        return module


@functools.lru_cache(maxsize=64)
def _modules(checkout: Checkout) -> frozenset[str]:
    """Paths of aiter's modules and packages, without ending."""
    paths = {
        path.removesuffix(".py") for path in checkout.paths() if path.startswith("aiter/") and path.endswith(".py")
    }
    folders = {path[:end] for path in paths for end, char in enumerate(path) if char == "/"}
    return frozenset(paths | folders)


def _source(checkout: Checkout, name: str) -> tuple[str, CodeType] | None:
    path = name.replace(".", "/")
    for file in (f"{path}.py", f"{path}/__init__.py"):
        text = checkout.text(file)
        if text is not None:
            return file, _compiled(text, file)
    return None


@functools.lru_cache(maxsize=1024)
def _compiled(text: str, file: str) -> CodeType:
    return compile(text, file, "exec", dont_inherit=True)
