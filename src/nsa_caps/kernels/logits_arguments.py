"""What every logits kernel asks of its arguments, told before any launch. Waits for no device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nsa_caps.base.serial import shortened
from nsa_caps.kernels.arguments import (
    MAX_TOKENS,
    KernelArgumentError,
    check_logits_range,
    describe,
    fp8_dtype,
    is_told_at_once,
    page_view,
)

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["logits_arguments", "ragged_arguments"]


def logits_arguments(
    q: Tensor,
    cache: Tensor,
    weights: Tensor,
    context_lens: Tensor,
    page_table: Tensor,
    max_model_len: int,
    out: Tensor | None,
    fmt: PageFormat,
) -> tuple[Tensor, Tensor]:
    """Check the arguments of `logits` and make its output, if none was given.

    Returns:
        the cache as uint8 `[pages, page_bytes]`, and the tensor to write to.

    Raises:
        KernelArgumentError: an argument does not fit.
    """
    pages = page_view(cache, fmt)
    device = cache.device
    _check_one_scale(fmt)
    if type(max_model_len) is not int or not 0 <= max_model_len <= MAX_TOKENS:
        raise KernelArgumentError(
            "max_model_len", shortened(max_model_len), f"a whole number from 0 to {MAX_TOKENS} (no tensor)"
        )
    _check("q", q, fp8_dtype(fmt), ("batch", "next_n", "heads", fmt.head_dim), device)
    batch, next_n, heads, _ = q.shape
    if not next_n:
        raise KernelArgumentError("q", "next_n 0", "at least one query a request")
    _check("weights", weights, torch.float32, (batch * next_n, heads), device)
    _check("context_lens", context_lens, torch.int32, (batch,), device)
    _check("page_table", page_table, torch.int32, (batch, "max_pages"), device, rows=True)
    # Before an engine has made its cache there are no pages, and nothing is scored.
    if pages.shape[0] and is_told_at_once(device):
        check_logits_range(pages, page_table, context_lens, max_model_len, fmt)
    if out is None:
        return pages, torch.empty((batch * next_n, max_model_len), dtype=torch.float32, device=device)
    _check("out", out, torch.float32, (batch * next_n, max_model_len), device, rows=True)
    _check_rows_apart("out", out)
    return pages, out


def ragged_arguments(
    q: Tensor,
    keys: Tensor,
    scales: Tensor,
    weights: Tensor,
    starts: Tensor,
    ends: Tensor,
    out: Tensor | None,
    fmt: PageFormat,
) -> Tensor:
    """Check the arguments of `ragged_logits` and make its output, if none was given.

    Returns:
        the tensor to write to.

    Raises:
        KernelArgumentError: an argument does not fit.
    """
    device = q.device
    _check_one_scale(fmt)
    _check("q", q, fp8_dtype(fmt), ("tokens", "heads", fmt.head_dim), device)
    tokens, heads, _ = q.shape
    _check("keys", keys, torch.uint8 if keys.dtype == torch.uint8 else fp8_dtype(fmt), ("total", fmt.head_dim), device)
    total = keys.shape[0]
    if total > MAX_TOKENS:
        raise KernelArgumentError("keys", f"{total} keys", f"at most {MAX_TOKENS}")
    _check("scales", scales, torch.float32, (total,), device)
    _check("weights", weights, torch.float32, (tokens, heads), device)
    _check("starts", starts, torch.int32, (tokens,), device)
    _check("ends", ends, torch.int32, (tokens,), device)
    if out is None:
        return torch.empty((tokens, total), dtype=torch.float32, device=device)
    _check("out", out, torch.float32, (tokens, total), device, rows=True)
    _check_rows_apart("out", out)
    return out


def _check_one_scale(fmt: PageFormat) -> None:
    if fmt.scales_per_token != 1:
        raise KernelArgumentError(
            "fmt", f"{fmt.scales_per_token} scales a token", "one: a score is scaled once, after the sum over the heads"
        )


def _check_rows_apart(name: str, matrix: Tensor) -> None:
    """Of rows that overlap, whichever is written last would stand in both."""
    if matrix.shape[0] > 1 and matrix.stride(0) < matrix.shape[1]:
        raise KernelArgumentError(
            name, f"rows {matrix.stride(0)} apart", f"rows that do not overlap, {matrix.shape[1]} each"
        )


def _check(
    name: str,
    tensor: object,
    dtype: torch.dtype,
    shape: tuple[int | str, ...],
    device: torch.device,
    *,
    rows: bool = False,
) -> None:
    """A name in `shape` stands for any size. `rows`: only each row need be contiguous, in a matrix."""
    sizes = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else ()
    if (
        isinstance(tensor, torch.Tensor)
        and tensor.dtype == dtype
        and len(sizes) == len(shape)
        and all(type(need) is str or need == size for need, size in zip(shape, sizes, strict=True))
        and tensor.device == device
        and (tensor.is_contiguous() or (rows and (tensor.stride(1) == 1 or sizes[1] <= 1)))
    ):
        return
    needed = f"{dtype} [{', '.join(map(str, shape))}] on {device}, where the cache is, "
    raise KernelArgumentError(name, describe(tensor), needed + ("each row contiguous" if rows else "contiguous"))
