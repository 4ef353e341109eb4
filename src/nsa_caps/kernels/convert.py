"""Whole pages from one format into another of the same page size; plain torch, any device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nsa_caps.kernels.checks import KernelArgumentError, fp8_dtype, page_view
from nsa_caps.kernels.reference import byte_offsets, decode_scales, encode_scales, round_up_to_power_of_two

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["convert"]


def convert(cache: Tensor, source: PageFormat, target: PageFormat) -> Tensor:
    """Pages of one format as pages of another.

    Order, row stride, and the two forms of a power-of-two scale convert exactly. Into ``e4m3fnuz`` every finite key
    does, since its codes are worth half as much and the scale is doubled; out of it, a token with an element of +-240
    has to keep its scale, and elements that are odd multiples of 2**-10 are then rounded to even. fp32 scales into a
    power-of-two form rescale and round the keys. NaN stays NaN; ``e4m3fnuz`` has no negative zero.

    Args:
        cache: what ``page_view`` takes, in the source format.
        source: the format of the cache.
        target: the format to make, of the same page size, head dim and quant block.

    Returns:
        uint8 ``[pages, target.page_bytes]``, newly allocated; padding is 0.

    Raises:
        KernelArgumentError: the cache is not of the source format, or the formats hold other amounts of tokens.
    """
    pages = page_view(cache, source)
    for field in ("page_size", "head_dim", "quant_block_size"):
        ours, theirs = getattr(source, field), getattr(target, field)
        if ours != theirs:
            raise KernelArgumentError("target", f"{field} {theirs}", f"the source's {field} of {ours}")
    if source.scales_per_token != 1:
        raise KernelArgumentError("source", f"{source.scales_per_token} scales a token", "one scale a token")
    key_bytes, scale_bytes = byte_offsets(source, cache.device)
    codes = pages[:, key_bytes].view(-1, source.head_dim)
    scales = decode_scales(pages[:, scale_bytes].view(-1, 4), source)
    if source.dialect != target.dialect:
        codes, scales = _to_fnuz(codes, scales) if target.dialect == "e4m3fnuz" else _to_fn(codes, scales)
    if source.scale_format == "fp32" and target.scale_format != "fp32":
        rounded = round_up_to_power_of_two(scales)
        values = codes.view(fp8_dtype(target)).float() * (scales / rounded)[:, None]
        codes, scales = values.to(fp8_dtype(target)).view(torch.uint8), rounded
    key_bytes, scale_bytes = byte_offsets(target, cache.device)
    result = pages.new_zeros((pages.shape[0], target.page_bytes))
    result[:, key_bytes] = codes.view(-1, *key_bytes.shape)
    result[:, scale_bytes] = encode_scales(scales, target).reshape(-1, *scale_bytes.shape)
    return result


def _to_fnuz(codes: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    nan = (codes & 0x7F) == 0x7F
    kept = torch.where(codes == 0x80, 0, codes)
    return torch.where(nan, 0x80, kept), scales * 2


def _to_fn(codes: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    # 240 has the bits of e4m3fn's NaN; the same token at its own scale can hold it.
    too_large = ((codes & 0x7F) == 0x7F).any(dim=1)
    nan = codes == 0x80
    same_bits = torch.where(nan, 0x7F, codes)
    same_scale = codes.view(torch.float8_e4m3fnuz).float().to(torch.float8_e4m3fn).view(torch.uint8)
    return torch.where(too_large[:, None], same_scale, same_bits), torch.where(too_large, scales, scales / 2)
