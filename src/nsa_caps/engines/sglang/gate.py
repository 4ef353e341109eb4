"""SGLang's gate, wherever its modules have it: what each of them asks by it, and what they kept of the answer."""

from __future__ import annotations

import importlib
from types import FunctionType
from typing import TYPE_CHECKING, NamedTuple

from nsa_caps.engines.replacing import ABSENT, InstallError, Replacement, namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

    from nsa_caps.layout.layout import IndexerLayout

__all__ = ["GATE", "HOMES", "V4", "Gates", "original_gate", "replace_gates", "restore_gates"]

GATE = "aiter_can_use_preshuffle_paged_mqa"
# What SGLang's modules keep of the gate's answer when they are imported.
_KEPT = "_use_aiter_preshuffle"
_TILE_GATHER = ("aiter.ops.cache", "cp_gather_indexer_k_quant_cache")

HOMES = ("sglang.srt.layers.attention.dsa.utils", "sglang.srt.layers.attention.nsa.utils")
"""The gate's home since 0.5.13, and that of 0.5.12; where later ones still have the second, it re-exports the first."""

V4 = (
    "sglang.srt.layers.attention.dsv4.indexer",
    "sglang.kernels.ops.attention.dsv4.compress",
    "sglang.kernels.ops.kvcache.triton_store_cache",
)
"""DeepSeek-V4's modules, whose pages are of 64 compressed keys whatever V3.2's are: left as they are."""

# By the gate these ask for pages of 64 and their page table; all others, for the order of the keys.
_PAGES = (
    *HOMES,
    "sglang.srt.mem_cache.memory_pool",
    "sglang.srt.layers.attention.dsa.dsa_indexer",
    "sglang.srt.layers.attention.nsa.nsa_indexer",
)


class Gates(NamedTuple):
    """The gate's answers under one layout.

    Attributes:
        original: SGLang's own.
        pages: whether pages hold more than one token.
        tiles: whether their keys lie in tiles.
    """

    original: Callable[[], bool]
    pages: Callable[[], bool]
    tiles: Callable[[], bool]

    @classmethod
    def of(cls, layout: IndexerLayout, original: Callable[[], bool], *, kernels: bool) -> Gates:
        """Return them for a layout; without our kernels SGLang takes tiles and longer pages for one thing."""
        tiles = _constant(layout.preshuffle)
        flat_pages = kernels and layout.page_size > 1 and not layout.preshuffle
        on_rocm = layout.decision.caps.platform == "rocm"
        return cls(original, _constant(True) if flat_pages and on_rocm else tiles, tiles)

    def answer(self, module: str) -> Callable[[], bool]:
        """Return the gate that a module gets."""
        return self.pages if module in _PAGES else self.tiles


def _constant(answer: bool) -> Callable[[], bool]:
    def gate() -> bool:
        return answer

    gate.__name__ = gate.__qualname__ = GATE
    return gate


def original_gate(loaded: Iterable[ModuleType]) -> Callable[[], bool]:
    """Return SGLang's own gate.

    Raises:
        InstallError: there is none.
    """
    for module in loaded:
        if module.__name__ in HOMES and GATE in namespace(module):
            original: Callable[[], bool] = namespace(module)[GATE]
            return original
    raise InstallError(
        f"no SGLang with {GATE} is here: it is in 0.5.12 and later, and was looked for in {' and '.join(HOMES)}"
    )


def replace_gates(loaded: Iterable[ModuleType], gates: Gates) -> list[Replacement]:
    """Return what must be replaced for the gate's answers to stand wherever SGLang's own does.

    Raises:
        InstallError: a module's tiles need a kernel of aiter's that cannot be imported.
    """
    found = []
    for module in loaded:
        if namespace(module).get(GATE) is gates.original and module.__name__ not in V4:
            found += _answer(module, gates.original, gates.answer(module.__name__))
    # Also where an earlier installation put it.
    late = any(namespace(each.owner).get(_TILE_GATHER[1]) is _gather_tiles for each in found)
    if gates.tiles() and (late or any(each.name == _TILE_GATHER[1] for each in found)):
        _import_tile_gather()
    return found


def restore_gates(loaded: Iterable[ModuleType], gates: Gates) -> list[Replacement]:
    """Return what must be replaced in modules that took the gate while ours stood, for SGLang's own to stand there."""
    ours = (gates.pages, gates.tiles)
    return [
        each
        for module in loaded
        if namespace(module).get(GATE) in ours
        for each in _answer(module, namespace(module)[GATE], gates.original)
    ]


def _answer(module: ModuleType, before: Callable[[], bool], after: Callable[[], bool]) -> list[Replacement]:
    found = [Replacement(module, GATE, before, after)]
    names = namespace(module)
    if names.get(_KEPT, after()) is not after():
        found.append(Replacement(module, _KEPT, names[_KEPT], after()))
        # A module that was imported while there were no tiles never imported what gathers them.
        if after() and _TILE_GATHER[1] not in names and _uses(module, _TILE_GATHER[1]):
            found.append(Replacement(module, _TILE_GATHER[1], ABSENT, _gather_tiles))
    return found


def _uses(module: ModuleType, name: str) -> bool:
    """Return whether a function or method that a module defines takes a name from it."""
    defined = [each for each in namespace(module).values() if isinstance(each, (type, FunctionType))]
    own = [each for each in defined if each.__module__ == module.__name__]
    methods = [each for kind in own if isinstance(kind, type) for each in vars(kind).values()]
    functions = [getattr(each, "__func__", each) for each in (*own, *methods)]
    return any(isinstance(each, FunctionType) and name in each.__code__.co_names for each in functions)


def _import_tile_gather() -> Callable[..., Any]:
    module, name = _TILE_GATHER
    try:
        kernel: Callable[..., Any] = getattr(importlib.import_module(module), name)
    # Whatever an import of aiter raises.
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise InstallError(f"SGLang gathers tiles by {module}.{name}, which does not import: {cause}") from error
    return kernel


def _gather_tiles(*arguments: Any, **named: Any) -> Any:
    """Call aiter's gather, imported when it is first needed."""
    return _import_tile_gather()(*arguments, **named)
