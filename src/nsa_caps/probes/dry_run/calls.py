"""The calls of the logits function, machine by machine, and what becomes of each."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.dry_run.importing import apart, deciding, doubt_error, imported
from nsa_caps.probes.dry_run.stand_ins import Anything, Doubts, Dtype, Tensor
from nsa_caps.probes.dry_run.triton_stand_in import Launches, expected_arguments
from nsa_caps.probes.dry_run.world import Environ, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.dry_run.world import Source

__all__ = ["logits"]

_FEW_PAGES = (1, 64)
_PLAIN = (None, "1")


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
        apart(world, self.asked["module"])
        module, error = imported(world, self.asked["module"])
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


def logits(sources: Mapping[str, Source], present: frozenset[str], asked: Any) -> Any:
    """Tell what becomes of each call on each machine: an index into the outcomes, calls within machines."""
    calls = _Calls(sources, present, asked)
    found = calls.all_machines()
    others = deciding(calls.read - asked["environ"].keys(), calls.machine, asked["tried"])
    return {"outcomes": list(calls.outcomes), "found": found, "deciding": others}


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
        doubt_error(raised)
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
