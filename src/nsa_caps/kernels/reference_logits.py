"""Plain torch, any device: what the indexer's logits mean. Slow on purpose, and the oracle of the other kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nsa_caps.kernels.arguments import fp8_dtype
from nsa_caps.kernels.logits_arguments import logits_arguments, ragged_arguments
from nsa_caps.kernels.reference import byte_offsets, decode_scales

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["logits", "ragged_logits"]


def logits(
    q: Tensor,
    cache: Tensor,
    weights: Tensor,
    context_lens: Tensor,
    page_table: Tensor,
    max_model_len: int,
    *,
    fmt: PageFormat,
    out: Tensor | None = None,
    clean: bool = True,
) -> Tensor:
    """Score every cached token of every request: `sum_h weights[h] * relu(q[h] . key[t]) * scale[t]`.

    A request's length counts its tokens up to and including the last of its `next_n` queries, so that query `j`
    sees the tokens below `context_len - next_n + 1 + j`: the mask of DeepGEMM's test reference
    (`tests/test_attention.py`, `q_offsets = arange(context_len - next_n, context_len)`) and of aiter's kernel
    (`_deepgemm_fp8_paged_mqa_logits`, `<= context_length - next_n + pid_next_n`).

    Args:
        q: fp8 of the format's dialect `[batch, next_n, heads, head_dim]`, contiguous.
        cache: what `page_view` takes.
        weights: float32 `[batch * next_n, heads]`, contiguous.
        context_lens: int32 `[batch]`.
        page_table: int32 `[batch, max_pages]`, each row contiguous; entries beyond a request's length are not used.
        max_model_len: scores a row. A longer context is cut off there, and at the end of the page table.
        fmt: the format of the cache.
        out: float32 `[batch * next_n, max_model_len]` to write to; each row contiguous.
        clean: write `-inf` wherever a query sees no token; else nothing is written there.

    Returns:
        `out`, or a new tensor of its shape.

    Raises:
        KernelArgumentError: an argument does not fit.
    """
    pages, out = logits_arguments(q, cache, weights, context_lens, page_table, max_model_len, out, fmt)
    batch, next_n, heads, dim = q.shape
    # An idle rank has no requests, and before the cache is made there are no pages.
    if not (batch and pages.shape[0] and page_table.shape[1]):
        return out.fill_(-torch.inf)
    table = page_table[:, : -(-max_model_len // fmt.page_size)]
    tokens = min(table.shape[1] * fmt.page_size, max_model_len)
    position = torch.arange(table.shape[1] * fmt.page_size, device=q.device)

    held = position[:: fmt.page_size] < context_lens[:, None]
    found = pages[torch.where(held, table, 0).long()]
    key_bytes, scale_bytes = byte_offsets(fmt, q.device)
    keys = found[..., key_bytes].view(fp8_dtype(fmt)).float().view(batch, -1, dim)
    scales = decode_scales(found[..., scale_bytes].view(-1, 4), fmt).view(batch, 1, -1)

    dots = torch.matmul(q.float().view(batch, next_n * heads, dim), keys.transpose(1, 2))
    dots = dots.relu_().view(batch * next_n, heads, -1)
    scores = torch.matmul(weights[:, None], dots).view(batch, next_n, -1) * scales
    limit = context_lens[:, None] - next_n + 1 + torch.arange(next_n, device=q.device)
    seen = (position < limit[..., None]).view(batch * next_n, -1)[:, :tokens]
    scores = scores.view(batch * next_n, -1)[:, :tokens]
    out[:, :tokens] = torch.where(seen, scores, -torch.inf if clean else out[:, :tokens])
    if clean:
        out[:, tokens:] = -torch.inf
    return out


def ragged_logits(
    q: Tensor,
    keys: Tensor,
    scales: Tensor,
    weights: Tensor,
    starts: Tensor,
    ends: Tensor,
    *,
    fmt: PageFormat,
    clean: bool = True,
    out: Tensor | None = None,
) -> Tensor:
    """Score gathered keys, for prefill: `sum_h weights[t, h] * relu(q[t, h] . keys[k]) * scales[k]`.

    Args:
        q: fp8 of the format's dialect `[tokens, heads, head_dim]`, contiguous, and all that follows.
        keys: fp8 of the dialect, or uint8, `[total, head_dim]`, as `gather` gives them.
        scales: float32 `[total]`, as `gather` gives them.
        weights: float32 `[tokens, heads]`.
        starts: int32 `[tokens]`.
        ends: int32 `[tokens]`: token `t` sees the keys `starts[t]` to `ends[t]`, of those that there are.
        fmt: the format that the keys were gathered from.
        clean: write `-inf` where a token does not see a key; else nothing is written there.
        out: float32 `[tokens, total]` to write to; each row contiguous.

    Returns:
        `out`, or a new tensor of its shape.

    Raises:
        KernelArgumentError: an argument does not fit.
    """
    out = ragged_arguments(q, keys, scales, weights, starts, ends, out, fmt)
    columns = keys.view(fp8_dtype(fmt)).float().t()
    scores = torch.zeros_like(out)
    # A head at a time: all at once would be heads times as much as the output.
    for head in range(q.shape[1]):
        scores += torch.matmul(q[:, head].float(), columns).relu_() * weights[:, head, None]
    position = torch.arange(keys.shape[0], device=q.device)
    seen = (position >= starts[:, None]) & (position < ends[:, None])
    return out.copy_(torch.where(seen, scores * scales, -torch.inf if clean else out))
