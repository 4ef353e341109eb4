"""What runs in the process of a dry run: it takes sources and machines, and tells what becomes of each."""

from __future__ import annotations

import gc
import inspect
import json
import os
import sys
import warnings
from itertools import product
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.dry_run.calls import logits
from nsa_caps.probes.dry_run.importing import MOST_OTHERS, apart, deciding, first_doubt, imported
from nsa_caps.probes.dry_run.stand_ins import Doubts, Dtype, StandIn
from nsa_caps.probes.dry_run.world import REAL, Environ, Source, World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["main"]

_MOST_BYTES = 2**30
_MOST_ANSWER = 2**25
# What an audit hook lets by once aiter's code runs: nothing that leaves this process.
_HARMLESS = ("compile", "exec", "object.", "code.__new__", "function.__new__", "sys._getframe", "builtins.id", "import",
    "gc.", "cpython.", "sys.excepthook", "marshal.", "array.")  # fmt: skip
_MOST_LEAVES = 16


def main() -> None:
    """Read a task from stdin and write the answer to stdout; what the code under examination prints goes nowhere."""
    task = json.load(sys.stdin)
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    for name in sorted(REAL | {"packaging.version", "collections.abc"}):
        __import__(name)
    # A warning goes nowhere, and would be written from a source that is not opened.
    warnings.warn = lambda *_, **__: None
    _bound(float(task["limit"]))
    _shut()
    # No garbage is worth looking for in a process that ends soon.
    gc.disable()
    sources = {name: Source(file, text) for name, (file, text) in task["sources"].items()}
    present = frozenset(task["present"])
    answers = {name: _ASKED[name](sources, present, asked) for name, asked in task["asked"].items()}
    answer.write(json.dumps(answers))
    answer.close()


def _bound(limit: float) -> None:
    """Bound memory, time and files."""
    import resource  # noqa: PLC0415 there is none on Windows

    seconds = int(limit) + 1
    for kind, most in (
        (resource.RLIMIT_AS, _MOST_BYTES), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _MOST_ANSWER),
    ):  # fmt: skip
        resource.setrlimit(kind, (most, most))


def _shut() -> None:
    """Refuse, from here on, to open, start, load or connect anything."""

    def hook(event: str, _: object) -> None:
        if not event.startswith(_HARMLESS):
            Doubts.add(event)
            raise PermissionError(f"a dry run does not {event}")

    sys.addaudithook(hook)


def _gate(sources: Mapping[str, Source], present: frozenset[str], asked: Any) -> Any:
    """Tell on which machines a module raises while it is imported, or whether that cannot be said."""
    read = set[str]()

    def machine(triton: str, arch: str, given: Mapping[str, str | None]) -> list[str]:
        environ = Environ({name: value for name, value in given.items() if value is not None}, read)
        world = World(sources, present, triton, arch, environ)
        apart(world, asked["module"])
        _, error = imported(world, asked["module"])
        return first_doubt() or ["raises" if error else "runs"]

    names = list(asked["environ"])
    machines = product(asked["triton"], asked["arch"], *asked["environ"].values())
    found = [machine(triton, arch, dict(zip(names, values, strict=True))) for triton, arch, *values in machines]
    return {"found": found, "deciding": deciding(read - set(names), machine, asked["tried"])}


def _types(sources: Mapping[str, Source], present: frozenset[str], asked: Any) -> Any:
    """Tell which dtype is aiter's fp8 on each arch."""
    found = []
    for arch in asked["arch"]:
        world = World(sources, present, asked["triton"], arch, Environ({}, set()))
        apart(world, asked["module"])
        module, error = imported(world, asked["module"])
        fp8 = vars(module).get("fp8") if module else None
        found.append(first_doubt() or [error or (fp8.name if isinstance(fp8, Dtype) else "")])
    return {"found": found}


def _cache(sources: Mapping[str, Source], present: frozenset[str], asked: Any) -> Any:
    """Tell how the cache kernels are declared: what each is built from, and its parameters; the C++ is not seen."""
    built: dict[int, tuple[Any, Any]] = {}

    def compile_ops(*given: Any, **named: Any) -> Any:
        def decorate(function: Any) -> Any:
            built[id(function)] = given, named
            return function

        return decorate

    world = World(sources, present, asked["triton"], asked["arch"], Environ({}, set()))
    apart(world, asked["module"])
    world.modules["aiter.jit.core"] = StandIn("aiter.jit.core", compile_ops=compile_ops)
    module, error = imported(world, asked["module"])
    doubt = first_doubt()
    if doubt or error:
        return {"found": {}, "why": doubt[1] if doubt else error}
    found = {}
    for name in asked["names"]:
        function = vars(module).get(name)
        given, named = built.get(id(function), ((), {}))
        if not inspect.isfunction(function) or given != ("module_cache",) or named.pop("fc_name", name) != name:
            continue
        named.pop("develop", None)
        parameters = inspect.signature(function).parameters.values()
        plain = all(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters)
        # A body of its own would be a stand-in's, or another kernel's.
        if plain and not named and not function.__code__.co_names:
            found[name] = [[each.name, "" if each.default is each.empty else repr(each.default)] for each in parameters]
    return {"found": found, "why": "a cache kernel is declared in another way"}


def _package(sources: Mapping[str, Source], present: frozenset[str], asked: Any) -> Any:
    """Tell with which variables the package does not bind `dtypes`, which the kernels' modules take from it."""
    alone = {"aiter": sources["aiter"]} if "aiter" in sources else {}
    others = present | sources.keys() - alone.keys()

    def bound(environ: dict[str, str], read: set[str]) -> str:
        world = World(alone, others, asked["triton"], asked["arch"], Environ(environ, read))
        module, error = imported(world, "aiter")
        types = vars(module).get("dtypes") if module else None
        is_bound = isinstance(types, StandIn) and types.__name__ == "aiter.utility.dtypes"
        return error or ("bound" if is_bound else "left out")

    read: set[str] = set()
    plain = _either_way(lambda: bound({}, read))
    each: dict[str, dict[str, str]] = {}
    for name in sorted(read)[:MOST_OTHERS]:
        each[name] = {value: _either_way(lambda: bound({name: value}, set())) for value in ("0", "1")}  # noqa: B023
        if each[name]["1"] != plain:
            each[name].update({value: _either_way(lambda: bound({name: value}, set())) for value in ("", "true")})  # noqa: B023
    return {"plain": plain, "each": each, "read": len(read)}


def _either_way(run: Callable[[], str]) -> str:
    """Return what comes of a run if that is the same whatever is answered to its questions, else the first of them."""
    todo: list[tuple[bool, ...]] = [()]
    found: set[str] = set()
    first = ""
    for _ in range(_MOST_LEAVES):
        if not todo:
            break
        Doubts.answers, Doubts.given = todo.pop(), 0
        came = run()
        answers, unanswered = Doubts.answers, max(0, Doubts.given - len(Doubts.answers))
        asked = Doubts.taken()
        Doubts.answers, Doubts.given = (), 0
        if len(asked) > unanswered:
            # Of some of these questions the answer is more than yes or no.
            return asked[0]
        first = first or (asked[0] if asked else "")
        found.add(came)
        # The run answered with no from there on; each of these questions is answered with yes once.
        todo += [(*answers, *[False] * at, True) for at in range(unanswered)]
    return found.pop() if not todo and len(found) == 1 else first


def _archs(sources: Mapping[str, Source], present: frozenset[str], asked: Any) -> Any:
    """Tell the archs of `GFX_MAP`."""
    world = World(sources, present, asked["triton"], asked["arch"], Environ({}, set()))
    apart(world, "")
    module, _ = imported(world, asked["module"])
    found = vars(module).get("GFX_MAP") if module else None
    sure = isinstance(found, dict) and all(isinstance(value, str) for value in found.values()) and not first_doubt()
    return {"found": list(found.values()) if sure and isinstance(found, dict) else None}


_ASKED: dict[str, Callable[[Mapping[str, Source], frozenset[str], Any], Any]] = {
    "gate": _gate,
    "types": _types,
    "cache": _cache,
    "package": _package,
    "archs": _archs,
    "logits": logits,
}
