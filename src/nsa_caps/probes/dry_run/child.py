"""What runs in the process of a dry run: it takes sources and machines, and tells what becomes of each."""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.dry_run.stand_ins import Anything, Doubts, Dtype, StandIn, Tensor
from nsa_caps.probes.dry_run.triton_stand_in import Launches, expected_arguments
from nsa_caps.probes.dry_run.world import REAL, Environ, Source, World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["main"]

_MOST_BYTES = 2**30
_MOST_ANSWER = 2**25
# What an audit hook lets by once aiter's code runs: nothing that leaves this process.
_HARMLESS = ("compile", "exec", "object.", "code.__new__", "function.__new__", "sys._getframe", "builtins.id", "import",
    "gc.", "cpython.", "sys.excepthook", "marshal.", "array.")  # fmt: skip
# Read as the arch, which is a dimension of its own, and as a number of compute units.
_ARCHS = frozenset({"GPU_ARCHS", "AITER_GPU_ARCHS", "CU_NUM"})
_MOST_OTHERS = 16
_MOST_LEAVES = 16
_FEW_PAGES = (1, 64)
_PLAIN = (None, "1")


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


def _imported(world: World, name: str) -> tuple[Any, str | None]:
    """Return a module, or what its import raises."""
    try:
        return world.load(name), None
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 whatever it raises is the answer
        return None, type(error).__name__


def _gate(sources: Mapping[str, Source], present: frozenset[str], asked: Any) -> Any:
    """Tell on which machines a module raises while it is imported, or whether that cannot be said."""
    read = set[str]()

    def machine(triton: str, arch: str, given: Mapping[str, str | None]) -> list[str]:
        environ = Environ({name: value for name, value in given.items() if value is not None}, read)
        world = World(sources, present, triton, arch, environ)
        _apart(world, asked["module"])
        _, error = _imported(world, asked["module"])
        return _doubt() or ["raises" if error else "runs"]

    names = list(asked["environ"])
    machines = product(asked["triton"], asked["arch"], *asked["environ"].values())
    found = [machine(triton, arch, dict(zip(names, values, strict=True))) for triton, arch, *values in machines]
    return {"found": found, "deciding": _deciding(read - set(names), machine, asked["tried"])}


def _doubt() -> list[str] | None:
    asked = Doubts.taken()
    return ["unsure", asked[0]] if asked else None


def _apart(world: World, module: str) -> None:
    """Put a stand-in for what has facts of its own: the package, and the gluon package's minimum."""
    for name in ("aiter", "aiter.ops.triton.gluon"):
        if name != module:
            world.modules[name] = StandIn(name)
    if module != "aiter.utility.dtypes":
        types = StandIn("aiter.utility.dtypes", fp8=Dtype("fp8", 1))
        world.modules["aiter.utility.dtypes"] = types
        vars(world.modules["aiter"])["dtypes"] = types


def _types(sources: Mapping[str, Source], present: frozenset[str], asked: Any) -> Any:
    """Tell which dtype is aiter's fp8 on each arch."""
    found = []
    for arch in asked["arch"]:
        world = World(sources, present, asked["triton"], arch, Environ({}, set()))
        _apart(world, asked["module"])
        module, error = _imported(world, asked["module"])
        fp8 = vars(module).get("fp8") if module else None
        found.append(_doubt() or [error or (fp8.name if isinstance(fp8, Dtype) else "")])
    return {"found": found}


def _package(sources: Mapping[str, Source], present: frozenset[str], asked: Any) -> Any:
    """Tell with which variables the package does not bind `dtypes`, which the kernels' modules take from it."""
    alone = {"aiter": sources["aiter"]} if "aiter" in sources else {}
    others = present | sources.keys() - alone.keys()

    def bound(environ: dict[str, str], read: set[str]) -> str:
        world = World(alone, others, asked["triton"], asked["arch"], Environ(environ, read))
        module, error = _imported(world, "aiter")
        types = vars(module).get("dtypes") if module else None
        is_bound = isinstance(types, StandIn) and types.__name__ == "aiter.utility.dtypes"
        return error or ("bound" if is_bound else "left out")

    read: set[str] = set()
    plain = _either_way(lambda: bound({}, read))
    each: dict[str, dict[str, str]] = {}
    for name in sorted(read)[:_MOST_OTHERS]:
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
    _apart(world, "")
    module, _ = _imported(world, asked["module"])
    found = vars(module).get("GFX_MAP") if module else None
    sure = isinstance(found, dict) and all(isinstance(value, str) for value in found.values()) and not _doubt()
    return {"found": list(found.values()) if sure and isinstance(found, dict) else None}


class _Calls:
    """The calls of the logits function, machine by machine, and what becomes of each."""

    def __init__(self, sources: Mapping[str, Source], present: frozenset[str], asked: Any) -> None:
        self.sources, self.present, self.asked = sources, present, asked
        self.outcomes: dict[tuple[Any, ...], int] = {}
        self.read: set[str] = set()
        self.known: dict[tuple[str, str, tuple[str | None, ...]], list[int]] = {}
        self.calls = list(product(asked["page"], asked["tiles"]))

    def machine(self, triton: str, arch: str, given: Mapping[str, str | None]) -> list[int]:
        """Return what becomes of each call on a machine: indexes of outcomes."""
        environ = Environ({name: value for name, value in given.items() if value is not None}, self.read)
        world = World(self.sources, self.present, triton, arch, environ)
        _apart(world, self.asked["module"])
        module, error = _imported(world, self.asked["module"])
        doubt = Doubts.taken()
        entry = vars(module).get(self.asked["entry"]) if module else None
        if doubt or not callable(entry):
            outcome = ("unsure", doubt[0]) if doubt else ("raises", error or "no such function")
            return [self._index(outcome)] * len(self.calls)
        return [self._index(_of_any_heads(entry, arch, page, tiles)) for page, tiles in self.calls]

    def _index(self, outcome: tuple[Any, ...]) -> int:
        return self.outcomes.setdefault(outcome, len(self.outcomes))

    def alike(self, values: tuple[str | None, ...], plain: list[tuple[str | None, ...]]) -> tuple[str | None, ...]:
        """Return which of some variables' values do what these do, on the machines on which that is tried.

        A value that does what another one does on these machines does so on all.
        """
        names = list(self.asked["environ"])
        if values in plain:
            return values
        for other in plain:
            if all(
                self._tried(triton, arch, names, values) == self._tried(triton, arch, names, other)
                for triton, arch in self.asked["tried"]
            ):
                return other
        return values

    def _tried(self, triton: str, arch: str, names: list[str], values: tuple[str | None, ...]) -> list[int]:
        key = (triton, arch, values)
        if key not in self.known:
            self.known[key] = self.machine(triton, arch, dict(zip(names, values, strict=True)))
        return self.known[key]

    def all_machines(self) -> list[list[int]]:
        """Return what becomes of the calls on every machine."""
        environ = self.asked["environ"]
        every = list(product(*environ.values()))
        plain = list(product(*[_PLAIN] * len(environ)))
        like = {values: self.alike(values, plain) for values in every}
        found = []
        for triton, arch in product(self.asked["triton"], self.asked["arch"]):
            found += [self._tried(triton, arch, list(environ), like[values]) for values in every]
        return found


def _logits(sources: Mapping[str, Source], present: frozenset[str], asked: Any) -> Any:
    """Tell what becomes of each call on each machine: an index into the outcomes, calls within machines."""
    calls = _Calls(sources, present, asked)
    found = calls.all_machines()
    deciding = _deciding(calls.read - asked["environ"].keys(), calls.machine, asked["tried"])
    return {"outcomes": list(calls.outcomes), "found": found, "deciding": deciding}


def _deciding(names: set[str], machine: Callable[[str, str, Mapping[str, str | None]], Any], tried: Any) -> list[str]:
    """Return which of the variables that were read beside the dimensions make a difference on some machines."""
    others = sorted(name for name in names - _ARCHS if "LOG" not in name)
    found = others[_MOST_OTHERS:]
    for name in others[:_MOST_OTHERS]:
        for triton, arch in tried:
            plain = machine(triton, arch, {})
            if any(machine(triton, arch, {name: value}) != plain for value in ("0", "1")):
                found.append(name)
                break
    return found


@cache
def _handed(page: int, heads: int) -> tuple[Any, ...]:
    """Return what an engine hands: tensors, of which sizes that no page and no head decides are not known."""
    batch, next_n, columns, blocks = map(Anything, ("q.size0", "q.size1", "out.size1", "table.size1"))
    float32, int32 = Dtype("float32", 4), Dtype("int32", 4)
    return (
        Tensor("q", (batch, next_n, heads, 128), Dtype("fp8", 1)),
        Tensor("kv", (Anything("pages"), page, 1, 132), Dtype("uint8", 1)),
        Tensor("weights", (Anything("rows"), heads), float32),
        Tensor("out", (Anything("rows"), columns), float32),
        Tensor("lens", (batch,), int32),
        Tensor("table", (batch, blocks), int32),
        Anything("max_len"),
    )


def _of_any_heads(entry: Any, arch: str, page: int, tiles: bool) -> tuple[Any, ...]:
    outcome = _called(entry, arch, page, 64, tiles=tiles)
    if page in _FEW_PAGES and outcome != _called(entry, arch, page, 32, tiles=tiles):
        return ("unsure", "another number of heads")
    return outcome


def _called(entry: Any, arch: str, page: int, heads: int, *, tiles: bool) -> tuple[Any, ...]:
    Launches.expected = expected_arguments(arch, page, heads)
    error = None
    try:
        entry(*_handed(page, heads), Preshuffle=tiles, KVBlockSize=page)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as raised:  # noqa: BLE001 whatever it raises is the answer
        error = type(raised).__name__
    made, doubt = Launches.taken(), Doubts.taken()
    if doubt:
        return ("unsure", doubt[0])
    if error:
        return ("raises", error)
    if len(made) != 1:
        return ("unsure", f"{len(made)} launches")
    path = made[0].path
    # Whatever the heads are, a name that has them is the same outcome.
    return ("launches", *made[0]._replace(path=path and path.replace(f"_{heads}x", "_64x")))


_ASKED: dict[str, Callable[[Mapping[str, Source], frozenset[str], Any], Any]] = {
    "gate": _gate,
    "types": _types,
    "package": _package,
    "archs": _archs,
    "logits": _logits,
}
