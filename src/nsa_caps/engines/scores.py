"""The indexer's scores in the shapes of DeepGEMM and aiter, which the engines call, on one layout. Needs torch."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.layout.layout import IndexerLayout

__all__ = ["hadamard", "paged_scores", "quantise", "ragged_scores"]

# Engines' top-k kernels load four scores at once.
_ALIGNED = 4


def paged_scores(
    layout: IndexerLayout,
    q: Tensor,
    cache: Tensor,
    weights: Tensor,
    context_lens: Tensor,
    page_table: Tensor,
    max_len: int,
    indices: Tensor | None = None,
) -> Tensor:
    """Score paged keys as DeepGEMM's `fp8_paged_mqa_logits` does, scores beyond the contexts left as they are.

    Args:
        layout: whose kernels.
        q: fp8 `[batch, next_n, heads, head_dim]`.
        cache: uint8, the pages in any view.
        weights: `[batch * next_n, heads]`.
        context_lens: int32, the keys that each query sees `[batch, next_n]`; `[batch]` or `[batch, 1]`: that the last
            of each request does, every query before it one less.
        page_table: int32 `[batch, max_pages]`.
        max_len: columns of the result.
        indices: int32 `[batch]`, the row of the page table that each request has; None: its own.

    Returns:
        float32 `[batch * next_n, max_len]`.
    """
    batch, next_n = q.shape[:2]
    if indices is not None:
        page_table = page_table[indices.long()]
    if context_lens.dim() == 2 and context_lens.shape[1] > 1:
        # Each query has a length of its own, which need not be the next one's less one.
        q, context_lens = q.reshape(batch * next_n, 1, *q.shape[2:]), context_lens.reshape(-1)
        page_table = page_table.repeat_interleave(next_n, dim=0)
    lengths, table = context_lens.reshape(-1).int().contiguous(), page_table.int().contiguous()
    return layout.logits(q.contiguous(), cache, weights.float().contiguous(), lengths, table, max_len, clean=False)


def ragged_scores(
    layout: IndexerLayout, q: Tensor, keys: Tensor, scales: Tensor, weights: Tensor, starts: Tensor, ends: Tensor
) -> Tensor:
    """Score gathered keys as DeepGEMM's and aiter's `fp8_mqa_logits` do, the scores outside left as they are.

    Args:
        layout: whose kernels.
        q: fp8 `[tokens, heads, head_dim]`.
        keys: fp8 `[keys, head_dim]`.
        scales: float32 `[keys]`.
        weights: `[tokens, heads]`.
        starts: int32 `[tokens]`: the first key that each query sees.
        ends: int32 `[tokens]`: the one after the last.

    Returns:
        float32 `[tokens, keys]`, its rows a multiple of 16 bytes apart.
    """
    count = keys.shape[0]
    missing = -count % _ALIGNED
    if missing:
        keys = pad(keys.view(torch.uint8), (0, 0, 0, missing)).view(keys.dtype)
        scales = pad(scales, (0, missing))
    found = layout.ragged_logits(
        q.contiguous(), keys.contiguous(), scales.reshape(-1), weights.float().contiguous(), starts, ends, clean=False
    )
    return found[:, :count]


def quantise(x: Tensor, scale_fmt: str | None, dtype: torch.dtype, block: int = 128) -> tuple[Tensor, Tensor]:
    """Quantise by blocks in plain torch, as engines' `act_quant` does; for GPUs that Triton has no such casts for.

    Args:
        x: `[..., dim]`.
        scale_fmt: `ue8m0`: scales are powers of two; None: they are not.
        dtype: the fp8 to round to.
        block: dimensions that share one scale.

    Returns:
        fp8 `[..., dim]` and float32 `[..., dim // block]`.
    """
    blocks = x.float().view(*x.shape[:-1], -1, block)
    largest = torch.finfo(dtype).max
    scales = blocks.abs().amax(-1).clamp_min(1e-4) / largest
    if scale_fmt is not None:
        scales = torch.exp2(torch.ceil(torch.log2(scales)))
    rounded = (blocks / scales.unsqueeze(-1)).clamp(-largest, largest).to(dtype)
    return rounded.flatten(-2), scales


def hadamard(x: Tensor) -> Tensor:
    """Return the orthogonal Hadamard transform of the last dimension, a power of two."""
    rotated: Tensor = x.float() @ _hadamard(x.shape[-1], x.device)
    return rotated.to(x.dtype)


@cache
def _hadamard(size: int, device: torch.device) -> Tensor:
    matrix = torch.ones(1, 1, device=device)
    while matrix.shape[0] < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix.mul_(size**-0.5)
