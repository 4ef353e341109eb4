"""A running vLLM whose sparse indexer is on one layout's kernels: what is replaced, told name by name, and put back.

Read in 0.30.0 and 0.33.0.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nsa_caps.engines.replacing import InstallError, Replacement, find, need, replace_all, undo_all
from nsa_caps.engines.vllm.decided import indexer_layout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any

    from nsa_caps.layout.layout import IndexerLayout

__all__ = ["install", "uninstall"]

_log = logging.getLogger("nsa_caps.engines.vllm")

_INDEXER = "vllm.model_executor.layers.sparse_attn_indexer"
_BACKEND = "vllm.v1.attention.backends.mla.indexer"

# One installation at most.
_installed: list[tuple[Replacement, ...]] = []


def install(
    layout: IndexerLayout | None = None, *, modules: Mapping[str, ModuleType] | None = None
) -> tuple[Replacement, ...]:
    """Put a layout's kernels into a running vLLM; call it in every process, before the model is built.

    Replaces what `SparseAttnIndexer` calls for store, gather, paged and ragged scores on CUDA, lets its ROCm side take
    the same way, answers the kernel block sizes of the layout, and lets vLLM's own checks for DeepGEMM stand aside. An
    earlier `install` is undone first.

    Args:
        layout: None: `indexer_layout(kernels=True)`.
        modules: the loaded modules; None: `sys.modules`, into which vLLM's are imported.

    Returns:
        What was replaced; print it.

    Raises:
        NoUsableLayoutError: vLLM can run nothing here, with our kernels neither.
        InstallError: there is no vLLM with this indexer, or it lacks a name; nothing is replaced then.
    """
    layout = indexer_layout(kernels=True) if layout is None else layout
    earlier = uninstall()
    try:
        replaced = replace_all(_find_all(layout, modules))
    except BaseException:
        if earlier:
            _installed.append(undo_all(earlier))
        raise
    _installed.append(replaced)
    better = [each for each in layout.decision.better_rows() if each.out_of_reach is None]
    why = f"; not {better[0].row}: {better[0].reasons[0]}" if better else ""
    _log.warning("nsa_caps: %s by nsa_caps' kernels, blocks of %d%s", layout.row, layout.page_size, why)
    return replaced


def uninstall() -> tuple[Replacement, ...]:
    """Put back everything that `install` replaced, and return what that was."""
    return undo_all(_installed.pop()) if _installed else ()


def _find_all(layout: IndexerLayout, modules: Mapping[str, ModuleType] | None) -> list[Replacement]:
    from nsa_caps.engines.vllm.calls import Calls, CustomOps  # noqa: PLC0415 needs torch

    indexer, backend = _module(_INDEXER, modules), _module(_BACKEND, modules)
    layer: Any = need(indexer, "SparseAttnIndexer")
    sizes_of: Any = need(backend, "DeepseekV32IndexerBackend")
    calls = Calls(layout)
    sizes = _sizes(layout)
    _check_scale_form(layout, indexer)
    found = [
        _replacing(indexer, "ops", CustomOps(layout, need(indexer, "ops"))),
        _replacing(indexer, "fp8_fp4_mqa_logits", calls.fp8_fp4_mqa_logits),
        _replacing(indexer, "fp8_fp4_paged_mqa_logits", calls.fp8_fp4_paged_mqa_logits),
        _replacing(indexer, "has_deep_gemm", _yes),
        _replacing(backend, "get_paged_mqa_logits_metadata", calls.get_paged_mqa_logits_metadata),
        _replacing(layer, "forward_hip", need(layer, "forward_cuda")),
        _replacing(sizes_of, "get_supported_kernel_block_sizes", staticmethod(lambda *_, **__: list(sizes))),
    ]
    if "has_deep_gemm" in vars(backend):
        # The schedule is built where there is DeepGEMM; ours needs none.
        found.append(_replacing(backend, "has_deep_gemm", _no))
    return found


def _sizes(layout: IndexerLayout) -> list[int]:
    """Return the block sizes at which this layout's row runs, its own first: one layout has one."""
    return [layout.page_size]


def _check_scale_form(layout: IndexerLayout, indexer: ModuleType) -> None:
    """Refuse where vLLM's fused writers put packed scales into the pages (0.33.0 on sm_10x).

    Raises:
        InstallError: they do, and this layout reads fp32 scales.
    """
    packed = vars(indexer).get("mqa_logits_use_mx_scales")
    archs = layout.decision.caps.archs or ()
    if packed is not None and any(arch.startswith("sm_10") for arch in archs) and layout.format.scale_format == "fp32":
        raise InstallError(
            f"vLLM packs four UE8M0 bytes where {layout.row} has an fp32 scale on {', '.join(archs)}: DeepGEMM runs"
            " there, and nothing needs to be replaced"
        )


def _module(name: str, modules: Mapping[str, ModuleType] | None) -> ModuleType:
    found = find((name,), modules)
    if found is None:
        raise InstallError(f"no vLLM with {name} is here: it is in 0.30.0 and later")
    return found


def _replacing(owner: Any, name: str, after: object) -> Replacement:
    return Replacement(owner, name, need(owner, name), after)


def _yes() -> bool:
    return True


def _no() -> bool:
    return False
