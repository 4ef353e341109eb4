"""Kernels that stand in for a row's own on a machine without its GPU: plain torch, the same bytes, and stricter.

What a kernel on a GPU would do with a page, a slot or a length beyond its tensor is undefined; here it is refused, so
that a test of an engine's wiring fails at the mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nsa_caps.kernels import reference, reference_logits
from nsa_caps.kernels.arguments import KernelArgumentError, check_gather_range
from nsa_caps.kernels.logits_arguments import logits_arguments, ragged_arguments

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["gather", "logits", "quantise_and_store", "ragged_logits", "store"]


def store(cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, *, fmt: PageFormat, checked: bool = True) -> None:
    """`reference.store`, always checked."""
    del checked
    reference.store(cache, slots, keys, scales, fmt=fmt, checked=True)


def quantise_and_store(cache: Tensor, slots: Tensor, keys: Tensor, *, fmt: PageFormat, checked: bool = True) -> None:
    """`reference.quantise_and_store`, always checked."""
    del checked
    reference.quantise_and_store(cache, slots, keys, fmt=fmt, checked=True)


def gather(
    cache: Tensor,
    page_table: Tensor,
    cu_seq_lens: Tensor,
    *,
    total_tokens: int,
    out: tuple[Tensor, Tensor] | None = None,
    fmt: PageFormat,
    checked: bool = True,
) -> tuple[Tensor, Tensor]:
    """`reference.gather`, always checked."""
    del checked
    return reference.gather(
        cache, page_table, cu_seq_lens, total_tokens=total_tokens, out=out, fmt=fmt, checked=True
    )  # fmt: skip


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
    """`reference_logits.logits` of contexts that lie whole in the row, the page table and the cache.

    Raises:
        KernelArgumentError: an argument does not fit, or a context is longer than there is room for.
    """
    pages, out = logits_arguments(q, cache, weights, context_lens, page_table, max_model_len, out, fmt)
    longest = max(context_lens.tolist(), default=0)
    if longest > max_model_len:
        raise KernelArgumentError("context_lens", f"a length of {longest}", f"at most max_model_len = {max_model_len}")
    ends = torch.nn.functional.pad(context_lens.cumsum(0, dtype=torch.int32), (1, 0))
    check_gather_range(pages, page_table, ends, fmt, "context_lens")
    return reference_logits.logits(
        q, cache, weights, context_lens, page_table, max_model_len, fmt=fmt, out=out, clean=clean
    )


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
    """`reference_logits.ragged_logits` of tokens that see only keys that there are.

    Raises:
        KernelArgumentError: an argument does not fit, or a start or an end lies outside the keys.
    """
    out = ragged_arguments(q, keys, scales, weights, starts, ends, out, fmt)
    for name, bounds in (("starts", starts.tolist()), ("ends", ends.tolist())):
        wrong = next((bound for bound in bounds if not 0 <= bound <= keys.shape[0]), None)
        if wrong is not None:
            raise KernelArgumentError(name, str(wrong), f"0 to {keys.shape[0]}, the keys that there are")
    return reference_logits.ragged_logits(q, keys, scales, weights, starts, ends, fmt=fmt, clean=clean, out=out)
