"""Plain torch, any device: what store and gather mean. Slow on purpose, and the oracle of every other kernel."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from nsa_caps.kernels.arguments import (
    check_gather_range,
    check_slot_range,
    fp8_dtype,
    gather_arguments,
    quantise_arguments,
    store_arguments,
)
from nsa_caps.pages import TILE

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = [
    "byte_offsets",
    "decode_scales",
    "encode_scales",
    "gather",
    "quantise",
    "quantise_and_store",
    "round_up_to_power_of_two",
    "store",
]

# Below this a key counts as this large, so that a key of zeros has a scale too (DeepSeek's act_quant).
_SMALLEST_AMAX = 1e-4


def byte_offsets(fmt: PageFormat, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Where each slot's bytes lie in its page.

    Returns:
        int64 `[page_size, head_dim]` for the keys and int64 `[page_size, 4]` for the scales.
    """
    slot = torch.arange(fmt.page_size, device=device)[:, None]
    dim = torch.arange(fmt.head_dim, device=device)
    if fmt.order == "tiles":
        group, row = slot // TILE, slot % TILE
        keys = group * TILE * fmt.head_dim + (dim // TILE) * TILE * TILE + row * TILE + dim % TILE
    else:
        keys = slot * fmt.head_dim + dim
    return keys, fmt.page_size * fmt.head_dim + 4 * slot + torch.arange(4, device=device)


def quantise(keys: Tensor, fmt: PageFormat) -> tuple[Tensor, Tensor]:
    """Scale each key so that its largest element is the dialect's largest, and round to nearest even.

    Elements are multiplied by the scale's reciprocal, as aiter and SGLang's CUDA kernel do; dividing by the scale
    may differ in the last bit. NaN elements become the positive NaN and do not count for the scale.

    Args:
        keys: bf16, fp16 or fp32 `[tokens, head_dim]`.
        fmt: gives the dialect and the scale format.

    Returns:
        fp8 `[tokens, head_dim]` and float32 `[tokens]`; a key's value is their product.
    """
    values = keys.float()
    amax = values.abs().nan_to_num(nan=0.0, posinf=torch.inf).amax(dim=-1).clamp(min=_SMALLEST_AMAX)
    # A tensor, since torch multiplies by the reciprocal when it divides by a Python number on a GPU.
    scales = amax / torch.full_like(amax, fmt.fp8_max)
    if fmt.scale_format != "fp32":
        scales = round_up_to_power_of_two(scales)
    scaled = values * scales.reciprocal()[:, None]
    # e4m3fn has a NaN of either sign and processors differ in which one they make.
    scaled = torch.where(scaled.isnan(), torch.nan, scaled)
    # No element needs clamping: rounding takes back the last bit by which the largest may exceed the dialect's.
    return scaled.to(fp8_dtype(fmt)), scales


def round_up_to_power_of_two(scales: Tensor) -> Tensor:
    """`2**ceil(log2(scale))` of positive normal float32, without the rounding of a logarithm."""
    # Any mantissa bit carries into the exponent, then the mantissa goes.
    return ((scales.view(torch.int32) + 0x7FFFFF) & 0x7F800000).view(torch.float32)


def encode_scales(scales: Tensor, fmt: PageFormat) -> Tensor:
    """The four bytes of each scale as the page holds them; packed ones keep the exponent alone.

    Args:
        scales: float32 `[tokens]`.
        fmt: gives the scale format.

    Returns:
        uint8 `[tokens, 4]`.
    """
    if fmt.scale_format != "ue8m0_packed":
        return scales.contiguous().view(torch.uint8).view(-1, 4)
    exponent = (scales.view(torch.int32) >> 23).to(torch.uint8)
    return exponent[:, None].expand(-1, 4)


def decode_scales(stored: Tensor, fmt: PageFormat) -> Tensor:
    """The scales that `encode_scales` wrote.

    Args:
        stored: uint8 `[tokens, 4]`.
        fmt: gives the scale format.

    Returns:
        float32 `[tokens]`.
    """
    if fmt.scale_format != "ue8m0_packed":
        return stored.contiguous().view(torch.float32).view(-1)
    exponent = stored[:, 0].to(torch.int32)
    # An exponent of 0 is 2**-127, which fp32 holds as a subnormal.
    return torch.where(exponent == 0, 0x00400000, exponent << 23).view(torch.float32)


def store(
    cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, *, fmt: PageFormat, checked: bool = False
) -> None:
    """Write quantised keys into their slots.

    Args:
        cache: what `page_view` takes.
        slots: int64 `[tokens]`: page x page_size + slot in the page; negative ones are skipped. Of two tokens in one
            slot either may win.
        keys: fp8 of the dialect, or uint8, `[tokens, head_dim]`.
        scales: float32 `[tokens]`; powers of two where the scale format keeps the exponent alone.
        fmt: the format to write.
        checked: also refuse slots beyond the cache. This implementation waits for the device in any case.

    Raises:
        KernelArgumentError: an argument does not fit.
    """
    pages = store_arguments(cache, slots, keys, scales, fmt)
    if checked:
        check_slot_range(pages, slots, fmt)
    kept = slots >= 0
    page, slot = slots[kept, None] // fmt.page_size, slots[kept] % fmt.page_size
    key_bytes, scale_bytes = byte_offsets(fmt, cache.device)
    # A cache that was made in inference mode is written in it; torch refuses that elsewhere, and no kernel does.
    with torch.inference_mode() if pages.is_inference() else nullcontext():
        pages[page, key_bytes[slot]] = keys.view(torch.uint8)[kept]
        pages[page, scale_bytes[slot]] = encode_scales(scales, fmt)[kept]


def quantise_and_store(cache: Tensor, slots: Tensor, keys: Tensor, *, fmt: PageFormat, checked: bool = False) -> None:
    """`quantise`, then `store`.

    Args:
        cache: what `page_view` takes.
        slots: int64 `[tokens]`, negative = skip.
        keys: bf16, fp16 or fp32 `[tokens, head_dim]`, each row contiguous.
        fmt: the format to write.
        checked: as in `store`.

    Raises:
        KernelArgumentError: an argument does not fit.
    """
    quantise_arguments(cache, slots, keys, fmt)
    store(cache, slots, *quantise(keys, fmt), fmt=fmt, checked=checked)


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
    """Read the keys of a batch of requests, in order, whole and next to each other.

    Waits for no device unless checked.

    Args:
        cache: what `page_view` takes.
        page_table: int32 `[batch, max_pages]`: the page that holds each request's tokens P*i to P*i + P - 1.
        cu_seq_lens: int32 `[batch + 1]`: request r's rows are `cu_seq_lens[r]` to `cu_seq_lens[r + 1]`; it begins
            with 0 and never falls.
        total_tokens: rows to write at most; known on the host, so that nothing must be asked of the device.
        out: `(keys, scales)` of at least that many rows. Rows beyond `cu_seq_lens[-1]` are left as they are, which
            is uninitialised where `out` is not given.
        fmt: the format to read.
        checked: also refuse lengths beyond the page table and pages beyond the cache; waits for the device.

    Returns:
        fp8 keys of the dialect (or as in `out`) `[total_tokens, head_dim]` and float32 scales `[total_tokens]`.

    Raises:
        KernelArgumentError: an argument does not fit.
    """
    pages, (keys, scales) = gather_arguments(cache, page_table, cu_seq_lens, total_tokens, out, fmt)
    if checked:
        check_gather_range(pages, page_table, cu_seq_lens, fmt)
    if total_tokens == 0:
        return keys, scales
    token = torch.arange(total_tokens, dtype=torch.int32, device=cache.device)
    # The last request whose rows begin at or before the token; empty requests before it begin there too.
    request = torch.searchsorted(cu_seq_lens[:-1], token, right=True) - 1
    exists = token < cu_seq_lens[-1]
    position = torch.where(exists, token - cu_seq_lens[request], 0)
    page = torch.where(exists, page_table[request, position // fmt.page_size], 0)[:, None].long()
    slot = position % fmt.page_size
    key_bytes, scale_bytes = byte_offsets(fmt, cache.device)
    found_keys = pages[page, key_bytes[slot]]
    found_scales = decode_scales(pages[page, scale_bytes[slot]], fmt)
    key_rows, scale_rows = keys.view(torch.uint8)[:total_tokens], scales[:total_tokens]
    key_rows.copy_(torch.where(exists[:, None], found_keys, key_rows))
    scale_rows.copy_(torch.where(exists, found_scales, scale_rows))
    return keys, scales
