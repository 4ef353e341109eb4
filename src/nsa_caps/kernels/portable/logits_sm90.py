"""How the Hopper kernel of the portable logits is launched. Importing this module imports Gluon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from nsa_caps.kernels.portable.logits_sm90_kernel import logits_kernel

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["launch"]

# Pages in flight a program, and threads' registers: those that score hold 64 sums and 32 weights each. On an H200, 64 x
# 32,768: 81.1 us with 8 pages, 82.8 us with 16; with 104 registers they spill, 90 us. Only powers of two were run.
STAGES = 8
LOAD_REGISTERS, SCORE_REGISTERS, REGISTERS = 32, 112, 96
# Columns of -inf that a group of warps writes at a time.
FILL = 512
WARPS = 4


def launch(
    q: Tensor,
    pages: Tensor,
    weights: Tensor,
    context_lens: Tensor,
    page_table: Tensor,
    max_model_len: int,
    out: Tensor,
    fmt: PageFormat,
    *,
    programs: int,
    early: bool,
) -> None:
    """Score into ``out``, all arguments being what ``portable_logits.logits`` checked and ``takes`` accepts."""
    batch, next_n, heads, dim = q.shape
    columns, block = next_n * heads, fmt.page_size
    page_bytes = pages.stride(0)
    tiles = fmt.order == "tiles"
    keys = pages.view(torch.float8_e4m3fn)
    if tiles:
        # By 16 dims, then by 16 tokens.
        shape, strides = [len(pages), dim // 16, block // 16, 256], [page_bytes, 256, 16 * dim, 1]
        keys_desc = _descriptor(keys, shape, strides, [1, *shape[1:]], swizzle=0)
    else:
        keys_desc = _descriptor(keys, [len(pages), block, dim], [page_bytes, dim, 1], [1, block, dim], swizzle=128)
    scales = pages[:, block * dim :].view(torch.float32)
    logits_kernel[(programs,)](
        _descriptor(q, [batch * columns, dim], [dim, 1], [columns, dim], swizzle=128),
        _descriptor(weights, [batch, columns], [columns, 1], [1, columns], swizzle=0),
        keys_desc,
        _descriptor(scales, [len(pages), block], [page_bytes // 4, 1], [1, block], swizzle=0),
        context_lens,
        page_table,
        out,
        batch,
        max_model_len,
        min(max_model_len, page_table.shape[1] * block),
        page_table.stride(0),
        out.stride(0),
        ROWS=next_n,
        HEADS=heads,
        DIM=dim,
        BLOCK=block,
        # One a thread at least: sums over fewer differ from thread to thread as the compiler sees it, and spill.
        BATCH=max(32 * WARPS, triton.next_power_of_2(batch)),
        STAGES=STAGES,
        TILES=tiles,
        FILL=FILL,
        LOAD_REGISTERS=LOAD_REGISTERS,
        SCORE_REGISTERS=SCORE_REGISTERS,
        PROGRAMS=programs,
        EARLY=early,
        num_warps=WARPS,
        maxnreg=REGISTERS,
        launch_pdl=early,
    )


def _descriptor(tensor: Tensor, shape: list[int], strides: list[int], block: list[int], *, swizzle: int) -> Any:
    layout = gl.NVMMASharedLayout(swizzle, 8 * tensor.element_size(), len(shape))
    return TensorDescriptor(tensor, shape, strides, block, layout)
