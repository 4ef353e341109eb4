"""Store and gather in Triton: CUDA and ROCm, flat and tiled pages, both fp8 dialects.

The same kernels run on the CPU in Triton's interpreter, if ``TRITON_INTERPRET=1`` is set before this module is
imported.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
import triton

from nsa_caps.kernels.arguments import (
    KernelArgumentError,
    check_gather_range,
    check_slot_range,
    gather_arguments,
    quantise_arguments,
    store_arguments,
)
from nsa_caps.kernels.portable.store_gather_kernels import gather_kernel, quantise_kernel, store_kernel

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["gather", "quantise_and_store", "store"]

# Tokens a program, with four warps. On an H200 at (64, 131072) and pages of 64, a gather of 32 tokens reaches 0.97 of a
# copy's bandwidth, of 64 tokens 0.96, of 8 tokens 0.81. A store into tiles takes 588 us with two warps, 604 with four.
_BLOCK = 32
_STORE_WARPS = 2


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
    """Read the keys of a batch of requests, as ``reference.gather`` says; one launch, no wait, graph-capturable.

    Raises:
        KernelArgumentError: an argument does not fit, or there is no GPU to run on.
    """
    pages, (keys, scales) = gather_arguments(cache, page_table, cu_seq_lens, total_tokens, out, fmt)
    _check_can_run(pages, fmt)
    if checked:
        check_gather_range(pages, page_table, cu_seq_lens, fmt)
    batch = page_table.shape[0]
    if total_tokens:
        with _current_device(pages):
            gather_kernel[(triton.cdiv(total_tokens, _BLOCK),)](
                pages,
                page_table,
                cu_seq_lens,
                _bytes(keys),
                scales,
                total_tokens,
                batch,
                (batch - 1).bit_length(),
                page_table.stride(0),
                page_table.shape[1],
                SEARCH=batch > 1,
                **_format_arguments(pages, fmt),
            )
    return keys, scales


def store(
    cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, *, fmt: PageFormat, checked: bool = False
) -> None:
    """Write quantised keys into their slots, as ``reference.store`` says; no wait, graph-capturable unless checked.

    Raises:
        KernelArgumentError: an argument does not fit, or there is no GPU to run on.
    """
    pages = store_arguments(cache, slots, keys, scales, fmt)
    _check_can_run(pages, fmt)
    if checked:
        check_slot_range(pages, slots, fmt)
    tokens = slots.shape[0]
    if tokens:
        with _current_device(pages):
            store_kernel[(triton.cdiv(tokens, _BLOCK),)](
                pages, slots, _bytes(keys), scales, tokens, num_warps=_STORE_WARPS, **_format_arguments(pages, fmt)
            )


def quantise_and_store(cache: Tensor, slots: Tensor, keys: Tensor, *, fmt: PageFormat, checked: bool = False) -> None:
    """``reference.quantise_and_store`` in one launch, byte for byte; no wait, graph-capturable unless checked.

    Raises:
        KernelArgumentError: an argument does not fit, or there is no GPU to run on.
    """
    pages = quantise_arguments(cache, slots, keys, fmt)
    _check_can_run(pages, fmt)
    if checked:
        check_slot_range(pages, slots, fmt)
    tokens = slots.shape[0]
    key_align = 16 // keys.element_size() if keys.stride(0) * keys.element_size() % 16 == 0 else 1
    if tokens:
        with _current_device(pages):
            quantise_kernel[(triton.cdiv(tokens, _BLOCK),)](
                pages,
                slots,
                keys,
                tokens,
                keys.stride(0) // key_align,
                ROUND=fmt.scale_format != "fp32",
                FNUZ=fmt.dialect == "e4m3fnuz",
                HARDWARE=fmt.dialect == "e4m3fn" and _converts_to_e4m3fn(pages.device),
                KEY_ALIGN=key_align,
                # A product and a sum fused into one rounding would change the last bit of a key.
                enable_fp_fusion=False,
                **_format_arguments(pages, fmt),
            )


def _format_arguments(pages: Tensor, fmt: PageFormat) -> dict[str, Any]:
    # Pages that all begin at a multiple of 16 bytes are read 16 bytes at a time; the compiler must be told.
    align = 4 if pages.stride(0) % 16 == 0 else 1
    return {
        "page_stride": pages.stride(0) // (4 * align),
        "PAGE_SIZE": fmt.page_size,
        "WORDS": fmt.head_dim // 4,
        "TILES": fmt.order == "tiles",
        "PACKED": fmt.scale_format == "ue8m0_packed",
        "ALIGN": align,
        "BLOCK": _BLOCK,
    }


def _bytes(keys: Tensor) -> Tensor:
    # A view costs a microsecond of the 5 that a launch takes at best.
    return keys if keys.dtype == torch.uint8 else keys.view(torch.uint8)


@functools.cache
def _converts_to_e4m3fn(device: torch.device) -> bool:
    # The instruction came with sm_89. On an H200 it takes 0.79 ms for what integers take 1.14 ms for.
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 9)


def _check_can_run(pages: Tensor, fmt: PageFormat) -> None:
    if pages.is_cpu and isinstance(gather_kernel, triton.JITFunction):
        raise KernelArgumentError(
            "cache",
            "a tensor on the CPU",
            "one on a GPU (or the reference kernels, or TRITON_INTERPRET=1 before Triton is imported)",
        )
    if fmt.head_dim & (fmt.head_dim - 1):
        raise KernelArgumentError("fmt", f"a head dim of {fmt.head_dim}", "a power of two, as Triton's vectors have")


def _current_device(pages: Tensor) -> AbstractContextManager[Any]:
    # Triton launches on the current device, whatever device the tensors are on.
    if pages.is_cpu:
        return nullcontext()
    context: AbstractContextManager[Any] = torch.get_device_module(pages.device).device_of(pages)
    return context
