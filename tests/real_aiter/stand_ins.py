"""An imagined machine, and stand-ins for the torch, Triton and rocminfo that aiter's gate code would meet on it.

What the stand-ins of Triton know was read in, and tried with, the wheels of Triton 3.0.0 to 3.9.0.
"""

from __future__ import annotations

import inspect
import math
import sys
from dataclasses import dataclass
from types import FunctionType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = "/site-packages"
AOT = f"{ROOT}/aiter/ops/triton/configs/paged_mqa_logits/aot/"
LAUNCH_OPTIONS = frozenset({"num_stages", "num_warps", "waves_per_eu"})


class Bundle(NamedTuple):
    """A complete AOT kernel (json and hsaco): its folder, its file name without ending, and the arch in its json."""

    folder: str
    kernel: str
    arch: str


@dataclass(frozen=True)
class RealMachine:
    """What aiter can see of a machine.

    `triton` is the text of `triton.__version__`, None without Triton. `arch` is that of the GPU which runs,
    `first` the one that rocminfo prints first, the same if empty. An incomplete bundle is one that is not there.
    """

    triton: str | None
    arch: str
    env: frozenset[tuple[str, str]] = frozenset()
    bundles: frozenset[Bundle] = frozenset()
    first: str = ""


class Launched(BaseException):
    """A kernel was launched: how it came to be, its function, and the dtype in which it reads keys.

    What was asked for, not an error: no handler of aiter's may catch it.
    """

    def __init__(self, how: str, function: FunctionType, keys: str, page: object = None) -> None:
        super().__init__(how)
        self.how = how
        self.keys = keys
        self.name = function.__name__
        self.page = page
        # The gluon kernels take KVBlockSize too, but read pages above 1 as tiles whatever is asked (aiter#5591).
        self.reads_flat_pages = how == "plain" and "KVBlockSize" in inspect.signature(function).parameters


class Anything:
    """Stands for every object that no gate looks at."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **_: Any) -> Any:
        """As a decorator it leaves its function alone."""
        return args[0] if len(args) == 1 and isinstance(args[0], (FunctionType, Kernel, type)) else self

    def __getitem__(self, _: object) -> Anything:
        return self

    def __or__(self, _: object) -> Anything:
        return self

    __ror__ = __or__

    def __mro_entries__(self, _: object) -> tuple[type, ...]:
        return ()


class StandIn(ModuleType):
    """A module of which a few names matter; every other name is there and means nothing."""

    def __init__(self, name: str, **values: object) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        vars(self).update(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


class Kernel:
    """What `triton.jit` and `gluon.jit` make of a function."""

    def __init__(self, function: FunctionType) -> None:
        self.fn = function

    def __getitem__(self, _grid: object) -> Callable[..., Any]:
        return self.launch

    def launch(self, *args: Any, **kwargs: Any) -> Any:
        """Compile for the GPU that runs, and launch."""
        kwargs = {name: value for name, value in kwargs.items() if name not in LAUNCH_OPTIONS}
        given = inspect.signature(self.fn).bind(*args, **kwargs).arguments
        raise Launched("plain", self.fn, given["KV_buffer"].dtype, given.get("KVBlockSize"))


class Tensor:
    """Sizes, a dtype and, where it is a slice of longer rows, the elements from row to row."""

    def __init__(self, shape: Sequence[int], dtype: str, row: int | None = None) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype
        self.row = math.prod(self.shape[1:]) if row is None else row

    def size(self) -> tuple[int, ...]:
        """Its shape."""
        return self.shape

    def stride(self, axis: int) -> int:
        """Elements from one index of the axis to the next."""
        return self.row if axis == 0 else math.prod(self.shape[axis + 1 :])

    def view(self, *to: Any) -> Tensor:
        """The three views that aiter takes: as rows, of split rows, and as another dtype."""
        if to[0] == -1:  # of a contiguous tensor
            return Tensor((math.prod(self.shape) // math.prod(to[1:]), *to[1:]), self.dtype)
        if isinstance(to[0], int):  # the rows stay, and each is split
            return Tensor(to, self.dtype, self.row)
        width = 4 if to[0] == "float32" else 1
        return Tensor((*self.shape[:-1], self.shape[-1] // width), to[0], self.row // width)

    def __getitem__(self, key: tuple[Any, slice]) -> Tensor:
        return Tensor((*self.shape[:-1], len(range(*key[1].indices(self.shape[-1])))), self.dtype, self.row)


def rocminfo(machine: RealMachine) -> str:
    """What rocminfo prints, as far as aiter reads it."""
    agents = ["Name: EPYC\nDevice Type: CPU\nCompute Unit: 64"] + [
        f"Name: {arch}\nDevice Type: GPU\nCompute Unit: 256\nName: amdgcn-amd-amdhsa--{arch}:xnack-"
        for arch in dict.fromkeys((machine.first or machine.arch, machine.arch))
    ]
    return "".join(f"Agent {number}\n{agent}\n" for number, agent in enumerate(agents, 1))


class Source:
    """`ASTSource` since Triton 3.3.0, and `GluonASTSource`."""

    def __init__(self, fn: Kernel, signature: object, constexprs: Mapping[str, Any], attrs: object) -> None:
        del signature, attrs
        absent = constexprs.keys() - inspect.signature(fn.fn).parameters
        if absent:
            raise ValueError(f"{sorted(absent)} not among the arguments of {fn.fn.__name__}")
        self.function = fn.fn


class OldSource:
    """`ASTSource` before Triton 3.3.0."""

    def __init__(self, fn: Kernel, signature: object, constants: object = None, attrs: object = None) -> None: ...


class Target(NamedTuple):
    """`GPUTarget`."""

    backend: str
    arch: str
    warp_size: int


def compiled_kernel_class(machine: RealMachine) -> type:
    """A `CompiledKernel`: a class for each machine, as aiter patches it."""
    release = _release(machine)

    class CompiledKernel:
        hash = ""

        def __init__(self, src: tuple[FunctionType, str], files: Mapping[str, str], _hash: str) -> None:
            self.function, self.arch = src
            self.how = "gluon-jit"
            path = next(path for name, path in files.items() if name.endswith(".json"))
            if path.startswith(AOT):
                where = tuple(path.removeprefix(AOT).removesuffix(".json").split("/"))
                archs = [bundle.arch for bundle in machine.bundles if bundle[:2] == where]
                if not archs:
                    raise FileNotFoundError(path)
                self.how, self.arch = "gluon-aot", archs[0]

        def __getitem__(self, _grid: object) -> Callable[..., Any]:
            return self.launch

        def launch(self, *args: Any) -> Any:
            if self.arch != machine.arch:
                raise RuntimeError(f"no kernel image for {machine.arch}: the kernel was compiled for {self.arch}")
            takes = len(inspect.signature(self.function).parameters)
            if len(args) != takes and release >= (3, 5):
                # Triton 3.5 and 3.6 count, on AMD later ones do not: the rest is shifted (d863d2f8).
                if release < (3, 7):
                    raise TypeError(f"{self.function.__name__} takes {takes} arguments, not {len(args)}")
                raise Launched(self.how, self.function, "shifted")
            raise Launched(self.how, self.function, args[7].dtype)

    return CompiledKernel


def _release(machine: RealMachine) -> tuple[int, ...]:
    try:
        return Version(str(machine.triton)).release
    except InvalidVersion:
        return (sys.maxsize,)


def triton_modules(machine: RealMachine) -> dict[str, ModuleType]:
    """Triton's modules on that machine, each under its name; what this Triton lacks is left out."""
    if machine.triton is None:
        return {}
    release = _release(machine)

    def jit(fn: FunctionType | None = None, **_: object) -> Any:
        return Kernel(fn) if fn else jit

    compiler = StandIn("triton.compiler.compiler", CompiledKernel=compiled_kernel_class(machine))

    def compile_(src: Source, target: Target, options: object) -> Any:
        del options
        name = src.function.__name__
        files = {f"{name}.json": f"/cache/{name}.json", f"{name}.hsaco": f"/cache/{name}.hsaco"}
        return compiler.CompiledKernel((src.function, target.arch), files, "")

    active = SimpleNamespace(get_current_target=lambda: Target("hip", machine.arch, 64))
    driver = SimpleNamespace(active=active)
    modules = [
        StandIn("triton", __version__=machine.triton, jit=jit, compile=compile_),
        StandIn("triton.backends"),
        StandIn("triton.backends.compiler", GPUTarget=Target),
        compiler,
        StandIn("triton.compiler", ASTSource=Source if release >= (3, 3) else OldSource),
        StandIn("triton.language"),
        StandIn("triton.language.extra"),
        StandIn("triton.language.extra.hip"),
        StandIn("triton.runtime", driver=driver),
    ]
    if release >= (3, 4):
        modules += [
            StandIn("triton.experimental"),
            StandIn("triton.experimental.gluon", jit=jit),
            StandIn("triton.experimental.gluon._runtime", GluonASTSource=Source),
            StandIn("triton.experimental.gluon.language"),
        ]
    if release >= (3, 5):
        modules += [
            StandIn("triton.experimental.gluon.language.amd"),
            StandIn("triton.experimental.gluon.language.amd.cdna3"),
        ]
    return {module.__name__: module for module in modules}


def torch_module() -> ModuleType:
    """A torch whose dtypes are their names."""
    names = ("float32", "uint8", "float8_e4m3fn", "float8_e4m3fnuz")
    return StandIn("torch", **{name: name for name in names})
