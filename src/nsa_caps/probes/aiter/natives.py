"""The functions of Python, packaging, Triton and torch that aiter's deciding code calls, and what they are here."""

from __future__ import annotations

import builtins
import posixpath
from typing import TYPE_CHECKING, Any

from packaging.version import parse

from nsa_caps.probes.aiter.machines import version_of
from nsa_caps.probes.aiter.space import Choice, Opaque, choice, lifted, parts_of, text_of
from nsa_caps.probes.aiter.values import Compiled, Context, Native, Source, Special, Symbol, Where

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsa_caps.probes.aiter.run import Run

__all__ = ["BUILTINS", "HARMLESS", "MACHINE", "METHODS", "SPECIALS", "TENSOR_METHODS", "VERSION_PARTS", "since_triton"]

METHODS = frozenset(
    [
        "split",
        "rsplit",
        "partition",
        "rpartition",
        "strip",
        "lstrip",
        "rstrip",
        "lower",
        "upper",
        "startswith",
        "endswith",
        "removeprefix",
        "removesuffix",
        "replace",
        "join",
        "get",
        "keys",
        "values",
        "items",
        "count",
        "index",
        "isdigit",
    ]
)
TENSOR_METHODS = frozenset(
    [
        "size",
        "stride",
        "view",
        "contiguous",
        "is_contiguous",
        "numel",
        "dim",
        "element_size",
        "data_ptr",
        "reshape",
        "unsqueeze",
        "squeeze",
        "get_device",
    ]
)
VERSION_PARTS = frozenset(
    ["base_version", "release", "major", "minor", "micro", "public", "local", "is_prerelease", "is_devrelease"]
)
# What importing a module of Triton's needs: the first release that has it.
_SINCE = {
    "triton.experimental": (3, 4),
    "triton.experimental.gluon.language.amd": (3, 5),
}


def since_triton(module: str) -> list[tuple[int, int]]:
    """Return the first Tritons that have a module of it, and those above it, as far as one lacked them."""
    return [since for name, since in _SINCE.items() if module == name or module.startswith(name + ".")]


def _environment(run: Run, positional: list[Any], named: dict[str, Any], _: Where) -> Any:
    given = [*positional, *named.values()]
    name, default = given[0] if given else None, given[1] if len(given) > 1 else None
    if not isinstance(name, str):
        return Opaque(f"environ {text_of(name)}")
    dimension = f"env:{name}"
    if dimension not in run.space.dimensions:
        return Opaque(f"environ {name}")
    value = run.space.choice(dimension)
    return lifted(lambda text: default if text is None else text, [value], run.may, f"environ {name} or {default!r}")


def _source(run: Run, positional: list[Any], named: dict[str, Any], where: Where) -> Any:
    if positional or not {"fn", "signature", "constexprs"} <= named.keys():
        return run.unaccounted("ASTSource with other arguments", where)
    signature, constants = named["signature"], named["constexprs"]
    tables = [part for held in (signature, constants) for _, part in parts_of(held, run.may)]
    if not all(isinstance(part, dict) for part in tables):
        return Opaque("source")
    # Before Triton 3.3 the constants had another name.
    old = run.space.where("triton", lambda version: version_of(version).release < (3, 3))
    run.raises(old, "TypeError", where)
    parts = [
        (mask & inner, Source(named["fn"], tuple(one), tuple(other)))
        for mask, one in parts_of(signature, run.may)
        for inner, other in parts_of(constants, run.may)
    ]
    return choice(parts, "source")


def _compile(run: Run, positional: list[Any], _: dict[str, Any], where: Where) -> Any:
    if len(positional) != 1:
        return run.unaccounted("triton.compile with other arguments", where)
    bundle = run.bundle[-1] if run.bundle else None
    (source,) = positional
    if isinstance(source, Source):
        return Compiled(source, bundle)
    if isinstance(source, Choice) and all(isinstance(part, Source) for _, part in source.parts):
        return choice([(mask, Compiled(part, bundle)) for mask, part in source.parts], source.text)
    return run.unaccounted("a source that is not known", where)


def _bundle(run: Run, positional: list[Any], named: dict[str, Any], where: Where) -> Any:
    given = [*positional, *named.values()]
    return Context(given[1]) if len(given) == 2 else run.unaccounted("a context with other arguments", where)


def _harmless(text: str) -> Special:
    def call(_run: Run, positional: list[Any], _named: dict[str, Any], _where: Where) -> Any:
        return Opaque(f"{text}({','.join(map(text_of, positional))})")

    return Special(text, call)


def _natives(*functions: tuple[str, Callable[..., Any]]) -> dict[str, Native]:
    return {name: Native(name, function) for name, function in functions}


def _exit(run: Run, _positional: list[Any], _named: dict[str, Any], where: Where) -> Any:
    run.raises(run.may, "SystemExit", where)
    return Opaque("exit")


# Calls that give something of which nothing is asked, and that no machine refuses.
HARMLESS = (
    "functools.partial", "triton.language.constexpr", "triton.experimental.gluon.language.constexpr",
    "logging.getLogger", "math.ceil", "math.floor", "math.log2", "threading.Lock",
    "threading.RLock", "threading.local", "torch.cuda.current_device", "torch.cuda.get_device_properties",
    "torch.empty", "torch.empty_like", "torch.zeros", "triton.backends.compiler.GPUTarget", "triton.cdiv",
    "triton.next_power_of_2", "triton.runtime.cache.get_cache_manager", "warnings.warn", "warnings.simplefilter",
    "warnings.filterwarnings", "re.compile", "os.path.isdir", "os.path.exists", "os.path.isfile",
)  # fmt: skip
SPECIALS: dict[str, Special | Native] = {
    "os.environ.get": Special("os.environ.get", _environment),
    "os.getenv": Special("os.getenv", _environment),
    "triton.compile": Special("triton.compile", _compile),
    "triton.compiler.ASTSource": Special("ASTSource", _source),
    "triton.experimental.gluon._runtime.GluonASTSource": Special("ASTSource", _source),
    "sys.exit": Special("sys.exit", _exit),
    "os._exit": Special("os._exit", _exit),
    **_natives(
        ("packaging.version.Version", version_of),
        ("packaging.version.parse", parse),
        ("os.path.join", posixpath.join),
        ("os.path.dirname", posixpath.dirname),
        ("os.path.abspath", posixpath.abspath),
        ("os.path.realpath", posixpath.abspath),
        ("os.path.normpath", posixpath.normpath),
    ),
    **{name: _harmless(name) for name in HARMLESS},
}
BUNDLE = Special("AOTMetadataContext", _bundle)
# Attributes that differ from machine to machine.
MACHINE: dict[str, Callable[[Run], Any]] = {
    "triton.__version__": lambda run: run.space.choice("triton"),
    "triton.runtime.driver.active.get_current_target().arch": lambda run: run.space.choice("arch"),
    "sys.platform": lambda _: "linux",
    "os.name": lambda _: "posix",
    "os.sep": lambda _: "/",
}
SPECIALS["triton.runtime.driver.active.get_current_target"] = Special(
    "get_current_target", lambda *_: Symbol("triton.runtime.driver.active.get_current_target()")
)


def _getattr(_run: Run, positional: list[Any], _named: dict[str, Any], _where: Where) -> Any:
    return Opaque(f"getattr({','.join(map(text_of, positional))})")


BUILTINS: dict[str, Any] = {
    **{name: Symbol(f"builtins.{name}") for name in dir(builtins)},
    **_natives(
        *(
            (function.__name__, function)
            for function in (len, max, min, abs, any, all, sum, sorted, int, str, bool, float)
        ),
        ("tuple", tuple),
        ("list", list),
        ("set", frozenset),
        ("frozenset", frozenset),
        ("map", lambda function, values: tuple(map(function, values))),
    ),
    **{name: _harmless(name) for name in ("print", "repr", "hasattr", "isinstance", "issubclass", "callable")},
    "getattr": Special("getattr", _getattr),
    "exit": Special("exit", _exit),
    "quit": Special("quit", _exit),
    "dict": Symbol("builtins.dict"),
}
