"""AMD's aiter behind this library's signatures. Importing this module imports aiter, which needs a ROCm GPU.

aiter is asked for symbols, never for its version. It has no store of keys that are quantised already: `store` is the
portable kernel, which writes the same bytes.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

import torch

from nsa_caps.kernels.arguments import (
    KernelArgumentError,
    check_gather_range,
    check_slot_range,
    fp8_dtype,
    gather_arguments,
    quantise_arguments,
)
from nsa_caps.kernels.logits_arguments import logits_arguments, ragged_arguments
from nsa_caps.kernels.portable.store_gather import store

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["gather", "logits", "quantise_and_store", "ragged_logits", "store"]

# The most scores that a step of the logits kernel writes (its ChunkK). Its preshuffle form writes a whole page where
# the context ends within one, without asking whether the row is that long.
_CHUNK = 256
# Its kernel for gathered keys addresses 2 GiB of scores.
_MOST_SCORES = (2**31 - 1) // 4


def _triton_module(name: str) -> ModuleType:
    # Moved by aiter 4c2a3025.
    new, old = f"aiter.ops.triton.attention.{name}", f"aiter.ops.triton.{name}"
    try:
        return importlib.import_module(new)
    except ModuleNotFoundError as error:
        # A module that is there and fails to import another one is the cause to tell.
        if not f"{new}.".startswith(f"{error.name}."):
            raise
        return importlib.import_module(old)


_cache_ops = importlib.import_module("aiter.ops.cache")
_gather = _cache_ops.cp_gather_indexer_k_quant_cache
_quantise_and_store = _cache_ops.indexer_k_quant_and_cache
_logits = _triton_module("pa_mqa_logits").deepgemm_fp8_paged_mqa_logits


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
    """Read the keys of a batch of requests with `cp_gather_indexer_k_quant_cache`; waits for none unless checked.

    Unlike the other gathers, this one may not be asked for more than `cu_seq_lens[-1]` tokens: it looks rows beyond
    that up for whichever request its shared memory happens to name. A page table whose rows lie apart is copied first,
    since the kernel takes the width of the table for the step from row to row.

    Raises:
        KernelArgumentError: an argument does not fit, or aiter has no such format.
    """
    _check_format(fmt)
    pages, (keys, scales) = gather_arguments(cache, page_table, cu_seq_lens, total_tokens, out, fmt)
    if checked:
        check_gather_range(pages, page_table, cu_seq_lens, fmt)
        if total_tokens > cu_seq_lens[-1]:
            raise KernelArgumentError("total_tokens", str(total_tokens), f"at most cu_seq_lens[-1] = {cu_seq_lens[-1]}")
    if total_tokens:
        _gather(
            _tokens(pages, fmt),
            keys[:total_tokens].view(fp8_dtype(fmt)),
            scales[:total_tokens, None],
            page_table.contiguous(),
            cu_seq_lens,
            **_order(fmt),
        )
    return keys, scales


def quantise_and_store(cache: Tensor, slots: Tensor, keys: Tensor, *, fmt: PageFormat, checked: bool = False) -> None:
    """Quantise keys and write them into their slots with `indexer_k_quant_and_cache`.

    The bytes are those of `reference.quantise_and_store`, up to what aiter's compiler makes of a division and a
    logarithm. Keys whose rows lie apart are copied first.

    Raises:
        KernelArgumentError: an argument does not fit, aiter has no such format, or pages lie apart, which this kernel
            does not know of.
    """
    _check_format(fmt)
    pages = quantise_arguments(cache, slots, keys, fmt)
    if not pages.is_contiguous():
        raise KernelArgumentError(
            "cache", f"pages {pages.stride(0)} bytes apart", f"pages next to each other, {fmt.page_bytes} bytes apart"
        )
    if checked:
        check_slot_range(pages, slots, fmt)
    if slots.shape[0]:
        scale_format = "ue8m0" if fmt.scale_format == "ue8m0" else ""
        _quantise_and_store(
            keys.contiguous(), _tokens(pages, fmt), slots, fmt.quant_block_size, scale_format, **_order(fmt)
        )


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
    """Score every token of every context with `deepgemm_fp8_paged_mqa_logits`; waits for no device.

    Args:
        q: as `reference_logits.logits` takes it, and all that follows.
        cache: what `page_view` takes.
        weights: float32 `[batch * next_n, heads]`.
        context_lens: int32 `[batch]`, none above `max_model_len` or what the page table holds.
        page_table: int32 `[batch, max_pages]`; copied first where its rows lie apart.
        max_model_len: scores a row.
        fmt: the format of the cache.
        out: float32 `[batch * next_n, max_model_len]`. Where `max_model_len` is no multiple of 256 it is filled by
            a copy: the kernel writes beyond a row's end.
        clean: write `-inf` outside the context; else what is there may be left, or be anything.
        options: more of aiter's arguments, such as `ChunkK` or `WavePerEU`. `Preshuffle` and `KVBlockSize`
            follow from the format and may be named too.

    Returns:
        float32 `[batch * next_n, max_model_len]`; rows may lie apart.

    Raises:
        KernelArgumentError: an argument does not fit, aiter has no such format, or an option contradicts it.
    """
    _check_format(fmt)
    pages, scores = logits_arguments(q, cache, weights, context_lens, page_table, max_model_len, out, fmt)
    for name, value in {"Preshuffle": fmt.order == "tiles", "KVBlockSize": fmt.page_size}.items():
        if options.setdefault(name, value) != value:
            raise KernelArgumentError(name, repr(options[name]), f"{value!r}, as the format of the cache has it")
    if max_model_len % _CHUNK:
        scores = scores.new_empty((scores.shape[0], -(-max_model_len // _CHUNK) * _CHUNK))
    if clean:
        scores.fill_(-torch.inf)
    if scores.numel():
        # Triton launches on the current device, whatever device the tensors are on.
        with torch.cuda.device_of(q):  # type: ignore[no-untyped-call]  # torch has no types for it
            _logits(
                q,
                _tokens(pages, fmt)[:, :, None],
                weights,
                scores,
                context_lens,
                page_table.contiguous(),
                max_model_len,
                **options,
            )
    found = scores[:, :max_model_len]
    return found if out is None else out if scores is out else out.copy_(found)


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
    """Score gathered keys with aiter's `fp8_mqa_logits`, as many queries at a time as it can; waits for no device.

    Args:
        q: as `reference_logits.ragged_logits` takes it, and all that follows.
        keys: fp8 or uint8 `[total, head_dim]`.
        scales: float32 `[total]`.
        weights: float32 `[tokens, heads]`.
        starts: int32 `[tokens]`, none below 0.
        ends: int32 `[tokens]`, none above `total`.
        fmt: the format that the keys were gathered from.
        clean: write `-inf` where a token does not see a key; else those scores may be anything. aiter before #3226
            always writes them.
        out: float32 `[tokens, total]`; filled by a copy, since aiter allocates its own.

    Returns:
        float32 `[tokens, total]`; rows may lie apart.

    Raises:
        KernelArgumentError: an argument does not fit, or aiter has no such format.
    """
    _check_format(fmt)
    ragged_arguments(q, keys, scales, weights, starts, ends, out, fmt)
    kernel = _triton_module("fp8_mqa_logits").fp8_mqa_logits
    options = {"clean_logits": clean} if "clean_logits" in inspect.signature(kernel).parameters else {}
    tokens, total = q.shape[0], keys.shape[0]
    most = max(1, _MOST_SCORES // (-(-max(total, 1) // _CHUNK) * _CHUNK))
    if tokens > most and out is None:
        out = torch.empty((tokens, total), dtype=torch.float32, device=q.device)
    # Triton launches on the current device, whatever device the tensors are on.
    with torch.cuda.device_of(q):  # type: ignore[no-untyped-call]  # torch has no types for it
        for first in range(0, tokens, most):
            rows = slice(first, first + most)
            scores: Tensor = kernel(
                q[rows], keys.view(fp8_dtype(fmt)), scales, weights[rows], starts[rows], ends[rows], **options
            )
            if out is None:
                return scores
            out[rows] = scores
    return torch.empty((tokens, total), dtype=torch.float32, device=q.device) if out is None else out


def _tokens(pages: Tensor, fmt: PageFormat) -> Tensor:
    # The shape and dtype in which engines hand aiter their pages.
    return pages.view(fp8_dtype(fmt)).view(-1, fmt.page_size, fmt.row_stride)


def _order(fmt: PageFormat) -> dict[str, bool]:
    # Both cache kernels have the argument since a6bb4993 (aiter#2879); flat pages are what those without it mean.
    return {"preshuffle": True} if fmt.order == "tiles" else {}


def _check_format(fmt: PageFormat) -> None:
    if fmt.scale_format == "ue8m0_packed":
        raise KernelArgumentError("fmt", "scale_format 'ue8m0_packed'", "'fp32' or 'ue8m0': aiter's scales are fp32")
    if fmt.head_dim != 128 or fmt.quant_block_size != 128:
        raise KernelArgumentError(
            "fmt",
            f"a head dim of {fmt.head_dim} in blocks of {fmt.quant_block_size}",
            "128 in one block: aiter's store has 8 threads of 16 elements a scale",
        )
