"""Kernels that stand in for those of aiter's rows: `stand_in`, with what aiter's own refuse or would get wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps.kernels.arguments import KernelArgumentError, page_view
from nsa_caps.testing import fake_kernels
from nsa_caps.testing.fake_kernels import ragged_logits, store

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["gather", "logits", "quantise_and_store", "ragged_logits", "store"]


def quantise_and_store(cache: Tensor, slots: Tensor, keys: Tensor, *, fmt: PageFormat, checked: bool = True) -> None:
    """`fake_kernels.quantise_and_store` of pages that lie next to each other: aiter's kernel knows of no others.

    Raises:
        KernelArgumentError: an argument does not fit, or pages lie apart.
    """
    if not page_view(cache, fmt).is_contiguous():
        raise KernelArgumentError("cache", "pages that lie apart", "pages next to each other")
    fake_kernels.quantise_and_store(cache, slots, keys, fmt=fmt, checked=checked)


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
    """`fake_kernels.gather` of no more rows than there are: aiter's kernel looks others up by uninitialised memory.

    Raises:
        KernelArgumentError: an argument does not fit, or `total_tokens` is above `cu_seq_lens[-1]`.
    """
    if total_tokens > int(cu_seq_lens[-1]):
        raise KernelArgumentError("total_tokens", str(total_tokens), f"at most cu_seq_lens[-1] = {cu_seq_lens[-1]}")
    return fake_kernels.gather(
        cache, page_table, cu_seq_lens, total_tokens=total_tokens, out=out, fmt=fmt, checked=checked
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
    **options: Any,
) -> Tensor:
    """`fake_kernels.logits`, told `Preshuffle` and `KVBlockSize` as aiter's kernel has to be.

    Raises:
        KernelArgumentError: an argument does not fit, or an option is not what the cache's format has.
    """
    needed = {"Preshuffle": fmt.order == "tiles", "KVBlockSize": fmt.page_size}
    if options != needed:
        raise KernelArgumentError("options", repr(options), f"{needed!r}, as the format of the cache has it")
    return fake_kernels.logits(
        q, cache, weights, context_lens, page_table, max_model_len, fmt=fmt, out=out, clean=clean
    )
