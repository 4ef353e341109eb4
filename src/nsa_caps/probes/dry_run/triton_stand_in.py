"""A Triton of a given version, as far as aiter's gates look at one: which modules it has, and what a launch takes."""

from __future__ import annotations

import inspect
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from packaging.version import Version

from nsa_caps.probes.dry_run.stand_ins import Anything, Dtype, StandIn, Tensor, lacks, leaves_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FunctionType

__all__ = [
    "SINCE",
    "Launch",
    "Launches",
    "RefusedError",
    "Target",
    "expected_arguments",
    "parameters_of",
    "torch_module",
    "triton_modules",
]

# Modules that came with a release; all others have been there since before the first kernel.
SINCE = {
    "triton.experimental": (3, 4),
    "triton.experimental.gluon": (3, 4),
    "triton.experimental.gluon._runtime": (3, 4),
    "triton.experimental.gluon.language": (3, 4),
    "triton.experimental.gluon.language.amd": (3, 5),
    "triton.experimental.gluon.language.amd.cdna3": (3, 5),
    "triton.experimental.gluon.language.amd.cdna4": (3, 5),
}
_ALWAYS = ("triton.backends", "triton.language", "triton.language.extra", "triton.language.extra.hip",
    "triton.language.core", "triton.runtime.jit", "triton.runtime.cache", "triton.testing", "triton.tools")  # fmt: skip
_CONSTEXPRS_SINCE = (3, 3)
_OPTIONS = frozenset({"num_stages", "num_warps", "waves_per_eu", "matrix_instr_nonkdim", "kpack"})


class Target(NamedTuple):
    """`GPUTarget`."""

    backend: str
    arch: str
    warp_size: int


class Launch(NamedTuple):
    """A kernel that was launched.

    Attributes:
        kernel: its function's name.
        how: `plain`, `jit` or `aot`.
        path: where its ahead-of-time files are looked for.
        tells_page: it is told the page size.
        fits: every argument is the one that the parameter of that name stands for: `fits`, `short`, or what is not.
    """

    kernel: str
    how: str
    path: str | None
    tells_page: bool
    fits: str


class Launches:
    """What was launched since the last `taken`, and with what it should be."""

    made: list[Launch] = []  # noqa: RUF012  one process has one dry run
    expected: Mapping[str, Callable[[Any], bool]] = {}

    @classmethod
    def taken(cls) -> list[Launch]:
        """Return the launches, and begin anew."""
        taken, cls.made = cls.made, []
        return taken

    @classmethod
    def add(
        cls, function: FunctionType, parameters: tuple[str, ...], how: str, path: str | None, args: Any, named: Any
    ) -> None:
        """Put down a launch of a function with arguments in the order of `parameters`."""
        given = dict(zip(parameters, args, strict=False))
        extra = len(args) > len(parameters) or named.keys() & given.keys() or named.keys() - set(parameters)
        given.update(named)
        missing = [name for name in parameters if name not in given]
        wrong = [name for name, value in given.items() if not cls.expected.get(name, _unknown)(value)]
        fits = "short" if missing and not extra else "odd" if extra else wrong[0] if wrong else "fits"
        cls.made.append(Launch(function.__name__, how, path, "KVBlockSize" in given, fits))


def parameters_of(function: FunctionType) -> tuple[str, ...]:
    """Return the names of a kernel's parameters, in order."""
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _unknown(_: object) -> bool:
    return False


@cache
def expected_arguments(arch: str, page: int, heads: int) -> dict[str, Callable[[Any], bool]]:
    """Return what each parameter of aiter's logits kernels has to be handed, by its name in every release."""
    anything = lambda _: True  # noqa: E731
    known: dict[str, Callable[[Any], bool]] = {
        "batch_size": _is("q.size0"), "next_n": _is("q.size1"), "heads_num": _equals(heads),
        "stride_q_batch": _stride("q", heads), "stride_q_next_n": _equals(heads * 128), "stride_q_heads": _equals(128),
        "Q_buffer": _shows("q", "fp8", 0), "KV_buffer": _shows("kv", "fp8", 0),
        "scale_buffer": _shows("kv", "float32", page * 128), "stride_k_seq": _equals(page * 132),
        "stride_scale_seq": _equals(page * 132 // 4), "stride_k_block": _equals(page * 132),
        "stride_scale_block": _equals(page * 132 // 4), "stride_k_token": _equals(128),
        "stride_scale_token": _equals(1),
        "context_len_ptr": _shows("lens", "int32", 0), "kv_indices": _shows("table", "int32", 0),
        "weights": _shows("weights", "float32", 0), "stride_w_batch": _equals(heads),
        "OutLogits_buffer": _shows("out", "float32", 0), "stride_out_batch": _is("out.size1"),
        "max_model_len": _is("max_len"), "max_block_len": _is("table.size1"), "max_blk_len": _is("table.size1"),
        "num_block": _is("kv.blocks"), "SplitKV": anything, "dummyPointerArg": anything,
        "ChunkQ": _equals(heads), "ChunkK": _equals(256), "KVBlockSize": _equals(page), "HiddenDim": _equals(128),
        "CDNA_VERSION": anything, "ARCH": _equals(arch), "IS_GFX1250": _equals(arch == "gfx1250"),
    }  # fmt: skip
    return known


def _equals(wanted: object) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, (Anything, Tensor)) and bool(value == wanted)


def _is(name: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Anything) and value.stands_for == name


def _stride(name: str, heads: int) -> Callable[[Any], bool]:
    wanted = f"{name}.size1.rmul({heads * 128})", f"{name}.size1.mul({heads * 128})"
    return lambda value: isinstance(value, Anything) and value.stands_for in wanted


def _shows(name: str, dtype: str, start: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, Tensor) or isinstance(value.start, Anything):
            return False
        return (value.name, value.dtype.name, value.start) == (name, dtype, start)

    return check


class Kernel:
    """What `triton.jit` and `gluon.jit` make of a function."""

    def __init__(self, function: FunctionType) -> None:
        self.fn = function
        self.__name__ = function.__name__

    def __getitem__(self, _grid: object) -> Callable[..., Any]:
        return self.launch

    def launch(self, *args: Any, **named: Any) -> Any:
        """Stand in for a compilation for the GPU and a launch."""
        given = {name: value for name, value in named.items() if name not in _OPTIONS}
        Launches.add(self.fn, parameters_of(self.fn), "plain", None, args, given)
        return Anything("kernel")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise lacks(self, name)
        return Anything(f"kernel.{name}")


def _jit(function: Any = None, **_: object) -> Any:
    return Kernel(function) if inspect.isfunction(function) else _jit


class _Source:
    """`ASTSource` since Triton 3.3.0, and `GluonASTSource`."""

    def __init__(self, fn: Any, signature: Any, constexprs: Any = None, attrs: object = None) -> None:
        del attrs
        parameters = parameters_of(fn.fn)
        constants = dict(constexprs or {})
        if constants.keys() - set(parameters):
            raise ValueError("a constant is no argument of the kernel")
        self.function = fn.fn
        # A launch hands arguments in the order of the signature; the kernel takes what is no constant in its own.
        self.order = tuple(signature)
        same = [name for name in self.order if name not in constants] == [
            name for name in parameters if name not in constants
        ]
        wrong = [name for name, value in constants.items() if not Launches.expected.get(name, _unknown)(value)]
        self.fits = "a signature of its own" if not same else wrong[0] if wrong else "fits"


class RefusedError(TypeError):
    """What Triton itself raises there."""


class _OldSource(_Source):
    """`ASTSource` before Triton 3.3.0."""

    def __init__(self, fn: Any, signature: Any, constants: Any = None, attrs: object = None, **unknown: object) -> None:
        if unknown:
            raise RefusedError(f"ASTSource takes no {', '.join(unknown)}")
        super().__init__(fn, signature, constants, attrs)


def _compiled_kernel() -> type:
    """Return a `CompiledKernel` of its own, since aiter patches it."""

    class CompiledKernel:
        hash = ""

        def __init__(self, src: Any, metadata_group: Mapping[str, str], hash: str) -> None:  # noqa: A002 Triton's name
            del hash
            self.source = src
            path = next(path for name, path in metadata_group.items() if name.endswith(".json"))
            self.path = None if path.startswith("/cache/") else path.rpartition("/")[0]

        def __getitem__(self, _grid: object) -> Callable[..., Any]:
            return self.launch

        def launch(self, *args: Any, **named: Any) -> Any:
            how = "jit" if self.path is None else "aot"
            Launches.add(self.source.function, self.source.order, how, self.path, args, named)
            if self.source.fits != "fits":
                Launches.made[-1] = Launches.made[-1]._replace(fits=self.source.fits)
            return Anything("kernel")

    return CompiledKernel


def triton_modules(version: str, arch: str) -> dict[str, StandIn]:
    """Return Triton's modules by name; what this Triton lacks is left out."""
    release = Version(version).release[:2]
    compiler = StandIn("triton.compiler.compiler", CompiledKernel=_compiled_kernel())
    source = _Source if release >= _CONSTEXPRS_SINCE else _OldSource

    def compile_(src: Any, target: Any = None, options: Any = None) -> Any:
        del target, options
        name = src.function.__name__
        files = {f"{name}.json": f"/cache/{name}.json", f"{name}.hsaco": f"/cache/{name}.hsaco"}
        return compiler.CompiledKernel(src, files, "")

    target = SimpleNamespace(
        get_current_target=lambda: Target("hip", arch, 32 if arch[3:5] in ("10", "11", "12") else 64)
    )
    found = [
        StandIn(
            "triton", __version__=version, jit=_jit, compile=compile_, autotune=leaves_alone, heuristics=leaves_alone
        ),
        StandIn("triton.compiler", ASTSource=source, CompiledKernel=compiler.CompiledKernel),
        compiler,
        StandIn("triton.backends.compiler", GPUTarget=Target),
        StandIn("triton.runtime", driver=SimpleNamespace(active=target)),
        *map(StandIn, _ALWAYS),
    ]
    gluon: dict[str, dict[str, Any]] = {
        "triton.experimental.gluon": {"jit": _jit},
        "triton.experimental.gluon._runtime": {"GluonASTSource": _Source},
    }
    found += [StandIn(name, **gluon.get(name, {})) for name, since in SINCE.items() if release >= since]
    modules = {module.__name__: module for module in found}
    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        if parent in modules:
            vars(modules[parent]).setdefault(last, module)
    return modules


def torch_module(arch: str) -> StandIn:
    """Return a torch with real dtypes."""
    sizes = {
        "float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "uint8": 1, "int8": 1, "int16": 2, "int32": 4,
        "int64": 8, "bool": 1, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1,
        "uint16": 2, "uint32": 4, "uint64": 8,
    }  # fmt: skip
    properties = SimpleNamespace(gcnArchName=f"{arch}:sramecc+:xnack-", multi_processor_count=Anything("units"))
    cuda = StandIn("torch.cuda", get_device_properties=lambda *_: properties, current_device=lambda: 0)
    dtypes = {name: Dtype(name, size) for name, size in sizes.items()}
    return StandIn("torch", cuda=cuda, compile=leaves_alone, Tensor=Tensor, dtype=Dtype, **dtypes)
