"""DeepGEMM's logits behind this library's signature, for NVIDIA GPUs. Importing this module imports deep_gemm.

DeepGEMM is asked for symbols, never for its version. It has neither a store nor a gather: these are the portable
kernels, on the flat pages that it reads.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch

from nsa_caps.kernels.arguments import KernelArgumentError, fp8_dtype
from nsa_caps.kernels.errors import MissingKernelError
from nsa_caps.kernels.logits_arguments import logits_arguments, ragged_arguments
from nsa_caps.kernels.portable.store_gather import gather, quantise_and_store, store

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["gather", "logits", "quantise_and_store", "ragged_logits", "schedule", "store"]

_deep_gemm = importlib.import_module("deep_gemm")
# Older releases have the first alone. DeepGEMM's own __init__ passes over an extension without attention kernels.
_plain = getattr(_deep_gemm, "fp8_paged_mqa_logits", None)
_with_scale = getattr(_deep_gemm, "fp8_fp4_paged_mqa_logits", None)
if _plain is None and _with_scale is None:
    raise ImportError(
        f"deep_gemm at {_deep_gemm.__file__} has neither fp8_paged_mqa_logits nor fp8_fp4_paged_mqa_logits; "
        "need a build of DeepGEMM with its attention kernels",
        name="deep_gemm",
    )
_ragged = getattr(_deep_gemm, "fp8_mqa_logits", None)
_ragged_with_scale = getattr(_deep_gemm, "fp8_fp4_mqa_logits", None)
_get_metadata = _deep_gemm.get_paged_mqa_logits_metadata
_get_num_sms = _deep_gemm.get_num_sms


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
    schedule_meta: Tensor | None = None,
) -> Tensor:
    """Score every token of every context with DeepGEMM's paged kernel; waits for no device.

    Args:
        q: as `reference_logits.logits` takes it, and all that follows.
        cache: what `page_view` takes.
        weights: float32 `[batch * next_n, heads]`.
        context_lens: int32 `[batch]`, none above `max_model_len` or what the page table holds.
        page_table: int32 `[batch, max_pages]`.
        max_model_len: scores a row.
        fmt: the format of the cache.
        out: float32 `[batch * next_n, max_model_len]`; filled by a copy, since DeepGEMM allocates its own.
        clean: write `-inf` outside the context. Without it those scores stay as `out` has them, or are not
            initialised without `out`, which costs nothing where top-k is told the lengths.
        schedule_meta: what `schedule(context_lens, next_n, fmt)` gave for these lengths; it is the same for all
            layers of a step, and otherwise made here.

    Returns:
        float32 `[batch * next_n, max_model_len]`; rows may lie apart.

    Raises:
        KernelArgumentError: an argument does not fit, or DeepGEMM has no such format. Amounts of heads and queries
            that it has no kernel for raise an error of its own.
    """
    _check_format(fmt)
    pages, _ = logits_arguments(q, cache, weights, context_lens, page_table, max_model_len, out, fmt)
    batch, next_n = q.shape[:2]
    limits = _limits(context_lens, next_n)
    if schedule_meta is None:
        schedule_meta = schedule(context_lens, next_n, fmt)
    tokens = pages.view(-1, fmt.page_size, 1, fmt.row_stride)
    arguments = (tokens, weights, limits, page_table, schedule_meta, max_model_len)
    # DeepGEMM launches on the current device, whatever device the tensors are on.
    with torch.cuda.device_of(q):  # type: ignore[no-untyped-call]  # torch has no types for it
        scores: Tensor = _plain(q, *arguments) if _plain else _with_scale((q, None), *arguments)  # type: ignore[misc]
    if out is None and not clean:
        return scores
    # DeepGEMM's own argument of this name is refused with a length per query.
    position = torch.arange(max_model_len, dtype=torch.int32, device=q.device)
    outside = position >= limits.view(batch * next_n, 1)
    if out is None:
        return scores.masked_fill_(outside, -torch.inf)
    return out.copy_(torch.where(outside, -torch.inf if clean else out, scores))


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
    """Score gathered keys with DeepGEMM's `fp8_mqa_logits`; waits for no device.

    Args:
        q: as `reference_logits.ragged_logits` takes it, and all that follows.
        keys: fp8 or uint8 `[total, head_dim]`.
        scales: float32 `[total]`.
        weights: float32 `[tokens, heads]`.
        starts: int32 `[tokens]`, none below 0.
        ends: int32 `[tokens]`, none above `total`.
        fmt: the format that the keys were gathered from.
        clean: write `-inf` where a token does not see a key; else those scores stay as `out` has them, or are not
            initialised without `out`.
        out: float32 `[tokens, total]`; filled by a copy, since DeepGEMM allocates its own.

    Returns:
        float32 `[tokens, total]`; rows may lie apart.

    Raises:
        KernelArgumentError: an argument does not fit, or DeepGEMM has no such format. Amounts of heads that it has no
            kernel for raise an error of its own.
        MissingKernelError: this build of DeepGEMM has no such kernel.
    """
    _check_format(fmt)
    ragged_arguments(q, keys, scales, weights, starts, ends, out, fmt)
    arguments = ((keys.view(fp8_dtype(fmt)), scales), weights, starts, ends)
    if _ragged is None and _ragged_with_scale is None:
        raise MissingKernelError(f"deep_gemm at {_deep_gemm.__file__} has no fp8_mqa_logits; need a build that has")
    # As in `logits`.
    with torch.cuda.device_of(q):  # type: ignore[no-untyped-call]  # as above
        if _ragged is not None:
            scores: Tensor = _ragged(q, *arguments, clean_logits=clean)
        else:
            scores = _ragged_with_scale((q, None), *arguments, clean_logits=clean)  # type: ignore[misc]
    if out is None or clean:
        return scores if out is None else out.copy_(scores)
    position = torch.arange(keys.shape[0], dtype=torch.int32, device=q.device)
    seen = (position >= starts[:, None]) & (position < ends[:, None])
    return out.copy_(torch.where(seen, scores, out))


def schedule(context_lens: Tensor, next_n: int, fmt: PageFormat) -> Any:
    """Which multiprocessor scores which part of which context: the `schedule_meta` of `logits`.

    Args:
        context_lens: int32 `[batch]`.
        next_n: queries a request.
        fmt: the format of the cache.

    Returns:
        int32 `[multiprocessors + 1, 2]`.
    """
    with torch.cuda.device_of(context_lens):  # type: ignore[no-untyped-call]  # as above
        return _get_metadata(_limits(context_lens, next_n), fmt.page_size, _get_num_sms())


def _limits(context_lens: Tensor, next_n: int) -> Tensor:
    # The length that each query may see, int32 [batch, next_n]; read as unsigned, so none may fall below 0.
    before_last = torch.arange(1 - next_n, 1, dtype=torch.int32, device=context_lens.device)
    return (context_lens[:, None] + before_last).clamp_(min=0)


def _check_format(fmt: PageFormat) -> None:
    row = fmt.head_dim + 4
    for name, needed in (("order", "flat"), ("dialect", "e4m3fn"), ("row_stride", row), ("scales_per_token", 1)):
        if getattr(fmt, name) != needed:
            raise KernelArgumentError("fmt", f"{name} {getattr(fmt, name)!r}", f"{needed!r}, as DeepGEMM reads pages")
    if fmt.scale_format == "ue8m0_packed":
        raise KernelArgumentError("fmt", "scale_format 'ue8m0_packed'", "'fp32' or 'ue8m0': DeepGEMM reads fp32 scales")
