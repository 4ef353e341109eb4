"""What vLLM is told: its kernel block sizes, and how the keys of each lie. Nothing of vLLM is imported."""

from __future__ import annotations

import os
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from nsa_caps.capabilities.engines import ENGINE_TABLE
from nsa_caps.capabilities.own_path import own_path
from nsa_caps.layout.layout import NoUsableLayoutError, select_indexer_layout
from nsa_caps.policy.decision import decide
from nsa_caps.policy.engine import decide_for_engine, engine_rows, with_engine
from nsa_caps.policy.request import Request, RequestError
from nsa_caps.probes.deep_gemm import bundled_deep_gemm
from nsa_caps.probes.probe import probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.layout.layout import IndexerLayout
    from nsa_caps.probes.host import Host

__all__ = [
    "BLOCK_SIZES",
    "bundled_deep_gemm",
    "get_supported_kernel_block_sizes",
    "indexer_layout",
    "layouts",
    "preferred_kernel_block_size",
    "probe_machine",
    "rows",
]

_TABLE = ENGINE_TABLE["vllm"].rows or ()

BLOCK_SIZES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {row.row: row.page_sizes for row in _TABLE if not row.kernels}
)
"""The rows that vLLM can run as it is and the kernel block sizes of each, best first; read in 0.33.0, see `rows`."""


def probe_machine(host: Host | None = None) -> Capabilities:
    """Return `nsa_caps.probe` with vLLM's switches and its own DeepGEMM."""
    return probe(host, engine="vllm")


@cache
def _this_machine() -> Capabilities:
    return probe_machine()


# A child may see other GPUs than its parent.
if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_this_machine.cache_clear)


def rows(caps: Capabilities, *, kernels: bool = False) -> tuple[str, ...]:
    """Return the rows that vLLM can run on a machine, best first.

    On ROCm its store writes tiles into every block above 1 and flat keys into blocks of 1, so that `aiter-flat` and
    `portable` need this library's kernels in it. Without aiter it goes on on gfx950 and gfx11 alone, and on gfx11 it
    takes no aiter. There it scores with plain torch, which reads flat keys: `reference`, in blocks of 1 only, as larger
    ones hold tiles all the same (vllm#52109 is of that kind). Elsewhere there is DeepGEMM.

    Args:
        caps: the machine, from `probe_machine`.
        kernels: with this library's kernels in it.
    """
    return tuple(row.row for row in engine_rows(caps, kernels=kernels) or ())


def layouts(caps: Capabilities | None = None, *, heads: int = 64, kernels: bool = False) -> dict[int, IndexerLayout]:
    """Return the layout of every kernel block size that works, best first; nothing where none does.

    Args:
        caps: the machine, from `probe_machine`; None: this one, asked once.
        heads: the model's `index_n_heads`.
        kernels: as in `rows`.
    """
    caps = with_engine(_this_machine() if caps is None else caps)
    found: dict[int, IndexerLayout] = {}
    for row in engine_rows(caps, kernels=kernels) or ():
        for size in row.page_sizes:
            request = Request(heads=heads, page_size=size, rows=(row.row,))
            if size not in found and decide(caps, request).chosen is not None:
                found[size] = select_indexer_layout(caps, request)
    return found


def indexer_layout(
    caps: Capabilities | None = None, *, heads: int = 64, page_size: int | None = None, kernels: bool = False
) -> IndexerLayout:
    """Return the best layout that vLLM can run.

    Args:
        caps: as in `layouts`.
        heads: as in `layouts`.
        page_size: kernel block size, where the user gave one.
        kernels: as in `rows`.

    Raises:
        NoUsableLayoutError: vLLM can run nothing here; it carries every reason.
    """
    caps = _this_machine() if caps is None else caps
    decision = decide_for_engine(caps, Request(heads=heads, page_size=page_size), kernels=kernels)
    if decision.chosen is None:
        raise NoUsableLayoutError(decision)
    return select_indexer_layout(caps, decision.request)


def get_supported_kernel_block_sizes(caps: Capabilities | None = None, *, heads: int = 64) -> list[int]:
    """Return what the indexer's backend may answer under this name on ROCm and CUDA, best first.

    Args:
        caps: as in `layouts`.
        heads: as in `layouts`.

    Raises:
        NoUsableLayoutError: vLLM can run nothing here; it carries every reason.
    """
    caps = _this_machine() if caps is None else caps
    own = own_path(caps)
    if own is not None:
        return [own.page_size]
    sizes = list(layouts(caps, heads=heads))
    if not sizes:
        raise NoUsableLayoutError(decide_for_engine(caps, Request(heads=heads)))
    return sizes


def preferred_kernel_block_size(
    manager_block_size: int | None = None, caps: Capabilities | None = None, *, heads: int = 64
) -> int:
    """Return the best kernel block size, of those that divide vLLM's `--block-size` where that is given.

    Args:
        manager_block_size: tokens a block of the KV-cache manager.
        caps: as in `layouts`.
        heads: as in `layouts`.

    Raises:
        NoUsableLayoutError: vLLM can run nothing here.
        RequestError: no size that works divides the manager's (vllm#48286).
    """
    sizes = get_supported_kernel_block_sizes(caps, heads=heads)
    for size in sizes:
        if manager_block_size is None or manager_block_size % size == 0:
            return size
    known = " or ".join(map(str, sizes))
    raise RequestError(
        f"--block-size is {manager_block_size}, needs a multiple of {known}: give --block-size {sizes[0]}"
    )
