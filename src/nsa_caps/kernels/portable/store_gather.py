"""Store and gather in Triton: CUDA and ROCm, flat and tiled pages, both fp8 dialects.

The same kernels run on the CPU in Triton's interpreter, if `TRITON_INTERPRET=1` is set before this module is
imported.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
import triton

from nsa_caps.kernels.arguments import (
    check_gather_range,
    check_slot_range,
    fp8_dtype,
    gather_arguments,
    is_told_at_once,
    quantise_arguments,
    store_arguments,
)
from nsa_caps.kernels.portable.launch import (
    Launch,
    Plans,
    check_can_run,
    check_head_dim,
    signature,
)
from nsa_caps.kernels.portable.store_gather_kernels import gather_kernel, quantise_kernel, store_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["gather", "quantise_and_store", "store"]

# Tokens a program, with four warps. On an H200 at (64, 131072) and pages of 64, a gather of 32 tokens reaches 0.97 of a
# copy's bandwidth, of 64 tokens 0.96, of 8 tokens 0.81. A store into tiles takes 588 us with two warps, 604 with four.
_BLOCK = 32
_STORE_WARPS = 2

# Launches for calls that look alike: of arguments that were checked, on tensors that differ in their data only.
_GATHERS: Plans[Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], object]] = Plans()
_STORES: Plans[Callable[[Tensor, Tensor, Tensor, Tensor], object]] = Plans()
_QUANTISERS: Plans[Callable[[Tensor, Tensor, Tensor], object]] = Plans()


def gather(
    cache: Tensor,
    page_table: Tensor,
    cu_seq_lens: Tensor,
    *,
    total_tokens: int,
    out: tuple[Tensor, Tensor] | None = None,
    fmt: PageFormat,
    checked: bool = False,
) -> tuple[Tensor, Tensor]:
    """Read the keys of a batch of requests, as `reference.gather` says; one launch, no wait, graph-capturable.

    Raises:
        KernelArgumentError: an argument does not fit, or there is no GPU to run on.
    """
    given = out if isinstance(out, (tuple, list)) else (out,)
    key = (signature(cache, page_table, cu_seq_lens, *given), total_tokens, fmt)
    run = _GATHERS.get(key)
    if run is None or checked or is_told_at_once(cache.device):
        pages, (keys, scales) = gather_arguments(cache, page_table, cu_seq_lens, total_tokens, out, fmt)
        check_can_run(gather_kernel, cache, "cache")
        check_head_dim(fmt, 1)
        if checked:
            check_gather_range(pages, page_table, cu_seq_lens, fmt)
        run = _GATHERS.keep(key, _plan_gather(pages, page_table, total_tokens, fmt))
    elif out is None:
        keys = torch.empty((total_tokens, fmt.head_dim), dtype=fp8_dtype(fmt), device=cache.device)
        scales = torch.empty(total_tokens, dtype=torch.float32, device=cache.device)
    else:
        keys, scales = out
    run(cache, page_table, cu_seq_lens, keys, scales)
    return keys, scales


def _plan_gather(
    pages: Tensor, page_table: Tensor, total_tokens: int, fmt: PageFormat
) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], object]:
    if not total_tokens:
        return _nothing
    batch, max_pages = page_table.shape
    page_stride, constants = _format_arguments(pages, fmt)
    scalars = (total_tokens, batch, (batch - 1).bit_length(), page_table.stride(0), max_pages, page_stride)
    grid = (triton.cdiv(total_tokens, _BLOCK),)
    return Launch(gather_kernel, grid, scalars, {"SEARCH": batch > 1, **constants}, pages.device)


def store(
    cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, *, fmt: PageFormat, checked: bool = False
) -> None:
    """Write quantised keys into their slots, as `reference.store` says; no wait, graph-capturable unless checked.

    Raises:
        KernelArgumentError: an argument does not fit, or there is no GPU to run on.
    """
    key = (signature(cache, slots, keys, scales), fmt)
    run = _STORES.get(key)
    if run is None or checked or is_told_at_once(cache.device):
        pages = store_arguments(cache, slots, keys, scales, fmt)
        check_can_run(store_kernel, cache, "cache")
        check_head_dim(fmt, 1)
        if checked:
            check_slot_range(pages, slots, fmt)
        run = _STORES.keep(key, _plan_store(pages, slots, fmt))
    run(cache, slots, keys, scales)


def _plan_store(pages: Tensor, slots: Tensor, fmt: PageFormat) -> Callable[[Tensor, Tensor, Tensor, Tensor], object]:
    tokens = slots.shape[0]
    if not tokens:
        return _nothing
    page_stride, constants = _format_arguments(pages, fmt)
    grid = (triton.cdiv(tokens, _BLOCK),)
    return Launch(store_kernel, grid, (tokens, page_stride), {"num_warps": _STORE_WARPS, **constants}, pages.device)


def quantise_and_store(cache: Tensor, slots: Tensor, keys: Tensor, *, fmt: PageFormat, checked: bool = False) -> None:
    """`reference.quantise_and_store` in one launch, byte for byte; no wait, graph-capturable unless checked.

    Raises:
        KernelArgumentError: an argument does not fit, or there is no GPU to run on.
    """
    key = (signature(cache, slots, keys), fmt)
    run = _QUANTISERS.get(key)
    if run is None or checked or is_told_at_once(cache.device):
        pages = quantise_arguments(cache, slots, keys, fmt)
        check_can_run(quantise_kernel, cache, "cache")
        check_head_dim(fmt, 1)
        if checked:
            check_slot_range(pages, slots, fmt)
        run = _QUANTISERS.keep(key, _plan_quantise(pages, slots, keys, fmt))
    run(cache, slots, keys)


def _plan_quantise(
    pages: Tensor, slots: Tensor, keys: Tensor, fmt: PageFormat
) -> Callable[[Tensor, Tensor, Tensor], object]:
    tokens = slots.shape[0]
    if not tokens:
        return _nothing
    device = pages.device
    page_stride, of_format = _format_arguments(pages, fmt)
    key_align = 16 // keys.element_size() if keys.stride(0) * keys.element_size() % 16 == 0 else 1
    constants = {
        "ROUND": fmt.scale_format != "fp32",
        "FNUZ": fmt.dialect == "e4m3fnuz",
        "HARDWARE": fmt.dialect == "e4m3fn" and _converts_to_e4m3fn(device),
        "KEY_ALIGN": key_align,
        # A product and a sum fused into one rounding would change the last bit of a key.
        "enable_fp_fusion": False,
        **of_format,
    }
    scalars = (tokens, keys.stride(0) // key_align, page_stride)
    return Launch(quantise_kernel, (triton.cdiv(tokens, _BLOCK),), scalars, constants, device)


def _format_arguments(pages: Tensor, fmt: PageFormat) -> tuple[int, dict[str, Any]]:
    # Pages that all begin at a multiple of 16 bytes are read 16 bytes at a time; the compiler must be told.
    align = 4 if pages.stride(0) % 16 == 0 else 1
    return pages.stride(0) // (4 * align), {
        "PAGE_SIZE": fmt.page_size,
        "WORDS": fmt.head_dim // 4,
        "TILES": fmt.order == "tiles",
        "PACKED": fmt.scale_format == "ue8m0_packed",
        "ALIGN": align,
        "BLOCK": _BLOCK,
    }


@functools.cache
def _converts_to_e4m3fn(device: torch.device) -> bool:
    # The instruction came with sm_89. On an H200 it takes 0.79 ms for what integers take 1.14 ms for.
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 9)


def _nothing(*_tensors: Tensor) -> None:
    pass
