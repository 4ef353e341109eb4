"""Plain torch, any device: what the indexer's logits mean. Slow on purpose, and the oracle of the other kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nsa_caps.kernels.arguments import fp8_dtype
from nsa_caps.kernels.logits_arguments import logits_arguments
from nsa_caps.kernels.reference import byte_offsets, decode_scales

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["logits"]


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
) -> Tensor:
    """Score every cached token of every request: ``sum_h weights[h] * relu(q[h] . key[t]) * scale[t]``.

    A request's length counts its tokens up to and including the last of its ``next_n`` queries, so that query ``j``
    sees the tokens below ``context_len - next_n + 1 + j``: the mask of DeepGEMM's test reference
    (``tests/test_attention.py``, ``q_offsets = arange(context_len - next_n, context_len)``) and of aiter's kernel
    (``_deepgemm_fp8_paged_mqa_logits``, ``<= context_length - next_n + pid_next_n``).

    Args:
        q: fp8 of the format's dialect ``[batch, next_n, heads, head_dim]``, contiguous.
        cache: what ``page_view`` takes.
        weights: float32 ``[batch * next_n, heads]``, contiguous.
        context_lens: int32 ``[batch]``.
        page_table: int32 ``[batch, max_pages]``, each row contiguous; entries beyond a request's length are not used.
        max_model_len: scores a row. A longer context is cut off there, and at the end of the page table.
        fmt: the format of the cache.
        out: float32 ``[batch * next_n, max_model_len]`` to write all of; each row contiguous.

    Returns:
        ``out``, or a new tensor of its shape: ``-inf`` wherever a query sees no token.

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
    scores = torch.where(position < limit[..., None], scores, -torch.inf).view(batch * next_n, -1)
    out[:, :tokens] = scores[:, :tokens]
    out[:, tokens:] = -torch.inf
    return out
