"""The package's modules as one evaluation meets them: executed once, statement by statement, and asked for names."""

from __future__ import annotations

import ast
import sys
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from nsa_caps.capabilities.aiter_digests import FUNCTIONS, STATEMENTS
from nsa_caps.probes.aiter import known
from nsa_caps.probes.aiter.definitions import define
from nsa_caps.probes.aiter.machines import version_of
from nsa_caps.probes.aiter.natives import since_triton
from nsa_caps.probes.aiter.normal import text_digest, walked
from nsa_caps.probes.aiter.space import Opaque
from nsa_caps.probes.aiter.statements import execute
from nsa_caps.probes.aiter.values import Frame, Kernel, Later, ModuleRef, Symbol, Where
from nsa_caps.probes.python_source import SourceError

if TYPE_CHECKING:
    from nsa_caps.probes.aiter.run import Run
    from nsa_caps.probes.aiter.segments import Segment

__all__ = ["DECIDING", "FLYDSL", "PACKAGE", "Files", "Modules", "bound_names"]

PACKAGE = "aiter"
# A folder that aiter puts on the path: its modules are imported by their bare names.
BARE = "aiter.jit.utils"
BARE_NAMES = frozenset({"build_targets", "cpp_extension", "torch_guard"})
FLYDSL = "aiter.ops.flydsl"
# Read apart: each has a fact of its own.
APART = frozenset({"aiter", "aiter.ops.triton.gluon"})
_DECIDING = (
    "jit.utils.build_targets", "jit.utils.chip_info", "ops.triton", "ops.triton.attention.pa_mqa_logits",
    "ops.triton.attention", "ops.triton.pa_mqa_logits", "ops.triton._triton_kernels.attention.pa_mqa_logits",
    "ops.triton._triton_kernels.pa_mqa_logits", "ops.triton.gluon.pa_decode_gluon", "ops.triton.gluon.pa_mqa_logits",
    "ops.triton.gluon.triton_version", "ops.triton.utils.core", "ops.triton.utils.device_info",
    "ops.triton.utils._triton.arch_info", "ops.triton.utils.arch_info", "utility.dtypes",
    "utility.triton.triton_metadata_redirect",
)  # fmt: skip
# Executed when they are imported; another module when a name of it is asked for.
DECIDING = frozenset(f"{PACKAGE}.{name}" for name in _DECIDING)
# Packages that are there wherever torch and Triton are.
PRESENT = frozenset({"torch", "triton", "packaging", "numpy"})


class Files(Protocol):
    """The files of a package."""

    def text(self, name: str) -> str | None:
        """Return the text of a file."""

    def module(self, dotted: str) -> str | None:
        """Return the file that Python would load a module from."""

    def segments(self, name: str) -> list[Segment]:
        """Return the statements of a file."""

    def excerpt(self, dotted: str) -> bool:
        """Return whether the package is an excerpt that leaves this module out."""


class Doubted(NamedTuple):
    """A statement at the top of a module that is not known: its module, where it stands, and what is the matter."""

    dotted: str
    segment: Segment
    at: int
    what: str


class Modules:
    """The modules that one run has executed."""

    def __init__(self, files: Files, apart: frozenset[str] = APART) -> None:
        self.files = files
        self.apart = apart
        self.frames: dict[str, Frame | None] = {}
        self.parts: dict[str, list[Segment]] = {}
        self.lazy: dict[str, dict[str, Segment]] = {}
        self.used: dict[tuple[str, str], str] = {}
        self.doubted: list[Doubted] = []

    def imports(self, run: Run, dotted: str, place: Where) -> Any:
        """Execute an import, and return the module."""
        root, bare = dotted.partition(".")[0], f"{BARE}.{dotted}"
        # The first name tells; a folder without `__init__.py` comes behind any package elsewhere.
        if dotted in BARE_NAMES or self.files.module(f"{BARE}.{root}"):
            dotted, root = bare, PACKAGE
        if root != PACKAGE:
            if root in sys.stdlib_module_names or root in PRESENT:
                self.since(run, dotted, "ModuleNotFoundError", place)
            else:
                run.raises(run.may, "ModuleNotFoundError", place, sure=False)
            return Symbol(dotted)
        for name in accumulate(dotted.split("."), "{}.{}".format):
            if self.files.module(name) is None:
                self.missing(run, name, place)
            elif name in DECIDING:
                self.frame(run, name, place)
        return ModuleRef(dotted)

    def since(self, run: Run, dotted: str, error: str, place: Where) -> None:
        """Raise on the Tritons that are older than a module of theirs."""
        floors = since_triton(dotted)
        if floors:
            older = run.space.where("triton", lambda each: any(version_of(each).release < floor for floor in floors))
            run.raises(older, error, place)

    def load(self, run: Run, dotted: str, name: str) -> Any:
        """Return what a module has under a name."""
        if self.files.module(dotted) is None and self.files.excerpt(dotted):
            # What an excerpt leaves out is as history has it.
            return Kernel(dotted, name) if name in known.KERNELS else known.named(dotted, name)
        if (dotted, name) in known.TRUSTED:
            return known.TRUSTED[dotted, name]
        frame = self.frame(run, dotted, Where(dotted))
        if frame is not None and name in frame.names:
            value = frame.names[name]
            if isinstance(value, Later):
                value = frame.names[name] = self.resolve(run, value)
            return value
        inner = f"{dotted}.{name}"
        if self.files.module(inner) is not None:
            if inner in DECIDING:
                self.frame(run, inner, Where(dotted))
            return ModuleRef(inner)
        if frame is None or dotted in self.apart:
            return Opaque(inner)
        if "*" in frame.names:
            return run.unaccounted(f"{inner}, which a star import may bind", Where(frame.file))
        run.raises(run.may, "ImportError", Where(frame.file))
        return Opaque(inner)

    def later(self, run: Run, dotted: str, name: str) -> Any:
        """Return what `from dotted import name` binds: of a module that is not executed now, a promise."""
        inner = f"{dotted}.{name}"
        if inner in DECIDING and self.files.module(inner) is not None:
            self.frame(run, inner, Where(dotted))
        return self.load(run, dotted, name) if dotted in DECIDING else Later(dotted, name)

    def parameters(self, kernel: Kernel) -> list[str] | None:
        """Return the names of a kernel's parameters, in order; nothing where they are not known, None: left out."""
        segment = self.lazy.get(kernel.module, {}).get(kernel.name)
        if segment is None:
            return None if self.files.excerpt(kernel.module) else []
        try:
            arguments = segment.arguments
        except SourceError:
            return []
        return [each.arg for each in arguments.args] if arguments else []

    def resolve(self, run: Run, later: Later) -> Any:
        """Return what a promise stands for."""
        if later.segment is None:
            return self.load(run, later.module, later.name)
        frame = self.frames[later.module]
        return Opaque(later.text) if frame is None else self.defined(run, later.module, later.segment, frame)

    def defined(self, run: Run, dotted: str, segment: Segment, frame: Frame) -> Any:
        """Return a function that was passed over when the module was executed."""
        role = self.role(dotted, segment.name)
        if role is not None:
            return role
        if segment.kind == "class":
            return Opaque(f"{dotted}.{segment.name}")
        first = segment.text.partition("\n")[0].strip()
        if first in ("@triton.jit", "@gluon.jit"):
            return Kernel(dotted, segment.name)
        try:
            (node,) = segment.body
        except ValueError as error:
            return run.unaccounted(str(error), Where(frame.file, segment.line))
        return define(run, node, frame) if isinstance(node, ast.FunctionDef) else Opaque(segment.name)

    def role(self, dotted: str, name: str) -> Any:
        """Return what a function is known to be, by the digest of all that it calls in its module."""
        if (dotted, name) not in known.ROLES:
            return None
        # By its text first, which need not be parsed.
        if self.closure(dotted, name, doing=False) in FUNCTIONS.get((dotted, name), ()):
            return known.ROLES[dotted, name]
        found = self.closure(dotted, name)
        self.used[dotted, name] = found
        return known.ROLES[dotted, name] if found in FUNCTIONS.get((dotted, name), ()) else None

    def closure(self, dotted: str, name: str, *, doing: bool = True) -> str:
        """Return the digest of a definition and of every other of its module that it names, directly or not.

        Args:
            dotted: the module.
            name: what is defined.
            doing: of what they do; else of their texts, in which a comment names things, too.
        """
        lazy, seen, todo = self.lazy.get(dotted, {}), {}, [name]
        while todo:
            each = todo.pop()
            if each in seen or each not in lazy:
                continue
            try:
                told = lazy[each].told if doing else lazy[each].written
            except SourceError:
                return ""
            seen[each] = told.digest
            todo += told.names
        return text_digest("".join(f"{each}={seen[each]}\n" for each in sorted(seen)))

    def frame(self, run: Run, dotted: str, place: Where) -> Frame | None:
        """Return the names of a module, executing it and its parents if that was not done; None: not known."""
        if dotted in self.frames:
            return self.frames[dotted]
        parent = dotted.rpartition(".")[0]
        if parent:
            self.frame(run, parent, place)
        if dotted in self.frames:
            return self.frames[dotted]
        self.frames[dotted] = None
        if dotted in self.apart:
            return None
        path = self.files.module(dotted)
        if path is None:
            self.missing(run, dotted, place)
            return None
        if path and self.files.text(path) is None:
            run.unaccounted("a file that cannot be read", Where(path))
            return None
        package = dotted if path.endswith("__init__.py") else parent
        names: dict[str, Any] = {"__file__": f"/aiter/{path}", "__name__": dotted}
        frame = Frame(names, names, path, dotted, package)
        self.frames[dotted] = frame
        self.lazy[dotted] = {}
        try:
            self.run_module(run, dotted, path, frame)
        except SourceError as error:
            run.unaccounted(str(error), Where(path))
        return frame

    def missing(self, run: Run, dotted: str, place: Where) -> None:
        """Raise as Python does for a module that is not there, unless the package is an excerpt that leaves it out."""
        if not self.files.excerpt(dotted):
            run.raises(run.may, "ModuleNotFoundError", place)

    def run_module(self, run: Run, dotted: str, path: str, frame: Frame) -> None:
        """Execute a module's statements; its functions are defined when they are asked for."""
        for segment in self.files.segments(path) if path else ():
            if segment.kind:
                self.lazy[dotted][segment.name] = segment
                frame.names[segment.name] = Later(dotted, segment.name, segment)
                self.decorators(run, segment, frame)
                if segment.kind == "class" and not _is_plain_class(segment):
                    run.unaccounted(f"the class {segment.name}", Where(frame.file, segment.line))
                continue
            for at, statement in enumerate(segment.body):
                if dotted in STATEMENTS and self.doing(dotted, segment, at) in STATEMENTS[dotted]:
                    for name in bound_names(statement):
                        frame.names[name] = Opaque(f"{frame.module}.{name}")
                    continue
                before = len(run.events)
                execute(run, [statement], frame)
                if len(run.events) > before:
                    self.doubted.append(Doubted(dotted, segment, at, run.events[before].detail))

    def doing(self, dotted: str, segment: Segment, at: int) -> str | None:
        """Return the digest of what a statement does, with the functions of its module that it names.

        None: it is a common one, which is always followed.
        """
        told, here = segment.each[at], self.lazy[dotted]
        if told is None:
            return None
        called = [f"{name}={self.closure(dotted, name)}" for name in sorted(told.names & here.keys())]
        return text_digest("\n".join([told.digest, *called]))

    def decorators(self, run: Run, segment: Segment, frame: Frame) -> None:
        """Look at the decorators of a function that is passed over: they run at once."""
        rest, at = segment.text, 0
        while rest.startswith("@"):
            line, _, rest = rest.partition("\n")
            name = line[1:].partition("(")[0].strip()
            if name not in known.DECORATORS:
                run.unaccounted(f"the decorator {name}", Where(frame.file, segment.line + at))
            at += 1


def _are_names(targets: list[ast.expr]) -> bool:
    return all(isinstance(each, ast.Name) for each in targets)


def _is_plain_class(segment: Segment) -> bool:
    """Return whether a class binds nothing but methods and constants, so that nothing of its body refuses."""
    try:
        (node,) = segment.body
    except ValueError:
        return False
    if not isinstance(node, ast.ClassDef) or node.bases or node.keywords:
        return False
    return all(
        isinstance(each, ast.Pass)
        or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        or (isinstance(each, ast.FunctionDef) and not each.decorator_list and not each.args.defaults)
        or (isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant) and _are_names(each.targets))
        for each in node.body
    )


def bound_names(statement: ast.stmt) -> list[str]:
    """Return the names that a statement binds."""
    names: list[str] = []
    for inner in walked([statement]):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, (ast.Store, ast.Del)):
            names.append(inner.id)
        elif isinstance(inner, (ast.Import, ast.ImportFrom)):
            names += [alias.asname or alias.name.partition(".")[0] for alias in inner.names]
        elif isinstance(inner, (ast.FunctionDef, ast.ClassDef)):
            names.append(inner.name)
    return names
