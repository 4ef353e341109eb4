"""The values that are no plain Python ones: names of other packages, functions, kernels, tensors, launches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.probes.aiter.space import Opaque, Thing, text_of

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable

__all__ = [
    "Bound", "Compiled", "Context", "Frame", "Function", "Kernel", "Later", "Launch", "Launcher", "ModuleRef", "Native",
    "Source", "Special", "Symbol", "Tensor", "Where",
]  # fmt: skip


class Symbol(Opaque):
    """A name of another package, such as `triton.compile`."""

    __slots__ = ()


class Native(Thing):
    """A pure function that is known."""

    __slots__ = ("call", "text")

    def __init__(self, text: str, call: Callable[..., Any]) -> None:
        self.text = text
        self.call = call


class Special(Thing):
    """A known function that looks at the machine, or marks what happens there."""

    __slots__ = ("call", "text")

    def __init__(self, text: str, call: Callable[[Any, list[Any], dict[str, Any], Any], Any]) -> None:
        self.text = text
        self.call = call


class Tensor(Opaque):
    """A tensor of known sizes; `row` is the stride of its first axis, in elements of `width` bytes."""

    __slots__ = ("row", "size", "width")

    def __init__(self, text: str, size: tuple[Any, ...], row: Any = None, width: int = 1) -> None:
        super().__init__(text)
        self.size = size
        self.row = row
        self.width = width


class ModuleRef(Thing):
    """A module of the package, by its dotted name."""

    __slots__ = ("name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = name


class Later(Thing):
    """A name that is looked up when it is asked for: a function not yet defined, or one of another module."""

    __slots__ = ("module", "name", "segment", "text")

    def __init__(self, module: str, name: str, segment: Any = None) -> None:
        self.module = module
        self.name = name
        self.segment = segment
        self.text = f"{module}.{name}"


class Kernel(Opaque):
    """A Triton or Gluon kernel of the package."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        super().__init__(name)
        self.module = module
        self.name = name


class Source(Opaque):
    """What is handed to Triton's compiler: the kernel, its signature's names in order, its constants by name."""

    __slots__ = ("constants", "function", "signature")

    def __init__(self, function: Any, signature: tuple[str, ...], constants: tuple[str, ...]) -> None:
        super().__init__(f"source({text_of(function)},{signature},{constants})")
        self.function = function
        self.signature = signature
        self.constants = constants


class Compiled(Opaque):
    """A compiled kernel; `bundle` is the path of the ahead-of-time folder that it is taken from, None: in place."""

    __slots__ = ("bundle", "source")

    def __init__(self, source: Any, bundle: Any) -> None:
        super().__init__(f"compiled({text_of(source)},{text_of(bundle)})")
        self.source = source
        self.bundle = bundle


class Launcher(Thing):
    """A kernel with its grid: a call of it launches."""

    __slots__ = ("kernel", "text")

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.text = f"{text_of(kernel)}[grid]"


class Launch(NamedTuple):
    """A launch: the kernel or what was compiled, and its arguments."""

    kernel: Any
    positional: tuple[Any, ...]
    named: dict[str, Any]


class Bound(Thing):
    """A method of a value that is known, or known machine by machine, or of a tensor."""

    __slots__ = ("name", "owner", "text")

    def __init__(self, owner: Any, name: str) -> None:
        self.owner = owner
        self.name = name
        self.text = f"{text_of(owner)}.{name}"


class Context(Opaque):
    """A context manager that takes compiled kernels from a folder."""

    __slots__ = ("path",)

    def __init__(self, path: Any) -> None:
        super().__init__("context")
        self.path = path


class Where(NamedTuple):
    """A place in the source; line 0 is the whole file."""

    file: str
    line: int = 0


@dataclass
class Frame:
    """The names of a function or a module; `local` are those that a function binds itself, wherever in it."""

    names: dict[str, Any]
    globals: dict[str, Any]
    file: str
    module: str
    package: str
    declared: set[str] = field(default_factory=set)
    local: frozenset[str] = frozenset()
    returns: list[tuple[int, int, Any]] = field(default_factory=list)


@dataclass
class Function(Thing):
    """A function of the package: its definition and the names that it sees."""

    node: ast.FunctionDef
    frame: Frame
    defaults: dict[str, Any]
    local: frozenset[str]
    text: str
