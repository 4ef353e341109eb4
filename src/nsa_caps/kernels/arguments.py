"""What every kernel asks of its arguments, told before any launch.

All of it reads shapes, dtypes and strides only and waits for no device, except what a name or docstring calls checked.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from nsa_caps.kernels.errors import KernelArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeGuard

    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = [
    "MAX_TOKENS",
    "KernelArgumentError",
    "check_gather_range",
    "check_logits_range",
    "check_slot_range",
    "describe",
    "fp8_dtype",
    "gather_arguments",
    "is_told_at_once",
    "page_view",
    "quantise_arguments",
    "store_arguments",
]

_FP8_DTYPES = {"e4m3fn": torch.float8_e4m3fn, "e4m3fnuz": torch.float8_e4m3fnuz}
# Kernels count rows in 32 bits, and the last block of them must not wrap around.
MAX_TOKENS = 2**31 - 2**16
_FLOAT_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def fp8_dtype(fmt: PageFormat) -> torch.dtype:
    """The torch dtype for the format's fp8 dialect."""
    return _FP8_DTYPES[fmt.dialect]


def page_view(cache: Tensor, fmt: PageFormat) -> Tensor:
    """An engine's cache tensor as pages of bytes, sharing its memory.

    Args:
        cache: `[pages, P * row_stride]`, `[pages, P, row_stride]` or `[pages, P, 1, row_stride]`, of uint8 or of
            the dialect's fp8 dtype. Pages may lie apart; the bytes of one page may not.
        fmt: the format of the pages.

    Returns:
        uint8 `[pages, page_bytes]`.

    Raises:
        KernelArgumentError: the tensor is none of these.
    """
    page, row = fmt.page_size, fmt.row_stride
    if _holds_pages(cache, fmt):
        # Views cost the host a microsecond each.
        pages = cache if cache.dtype == torch.uint8 else cache.view(torch.uint8)
        return pages if pages.dim() == 2 else pages.view(pages.shape[0], page * row)
    raise KernelArgumentError(
        "cache",
        describe(cache),
        f"uint8 or {_name(fp8_dtype(fmt))} [pages, {page * row}], [pages, {page}, {row}] or [pages, {page}, 1, {row}] "
        f"for pages of {page} tokens of {row} bytes, each page contiguous and at a multiple of 4 bytes",
    )


def gather_arguments(
    cache: Tensor,
    page_table: Tensor,
    cu_seq_lens: Tensor,
    total_tokens: int,
    out: Sequence[Tensor] | None,
    fmt: PageFormat,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Check a gather's arguments and make its outputs, if none were given.

    Returns:
        the cache as uint8 `[pages, page_bytes]`, and `(keys, scales)` to write to.

    Raises:
        KernelArgumentError: an argument does not fit.
    """
    pages = page_view(cache, fmt)
    device = cache.device
    _check_one_scale(fmt)
    if type(total_tokens) is not int or not 0 <= total_tokens <= MAX_TOKENS:
        raise KernelArgumentError(
            "total_tokens", repr(total_tokens), f"a whole number from 0 to {MAX_TOKENS}, known on the host (no tensor)"
        )
    if not (_fits(page_table, (torch.int32,), 2, device, contiguous=False) and _rows_contiguous(page_table)):
        raise _unfit("page_table", page_table, "int32 [batch, max_pages], each row contiguous", device)
    batch, max_pages = page_table.shape
    if not (_fits(cu_seq_lens, (torch.int32,), 1, device) and cu_seq_lens.shape[0] == batch + 1):
        raise _unfit("cu_seq_lens", cu_seq_lens, f"int32 [batch + 1] = [{batch + 1}], contiguous", device)
    if total_tokens and not (pages.shape[0] and batch and max_pages):
        raise KernelArgumentError(
            "total_tokens",
            f"{total_tokens} with {pages.shape[0]} pages and a page table of shape {[batch, max_pages]}",
            "0 where there is nothing to gather from",
        )
    if total_tokens and is_told_at_once(device):
        check_gather_range(pages, page_table, cu_seq_lens, fmt)
    if out is None:
        keys = torch.empty((total_tokens, fmt.head_dim), dtype=fp8_dtype(fmt), device=device)
        return pages, (keys, torch.empty(total_tokens, dtype=torch.float32, device=device))
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        came = f"{len(out)} tensors" if isinstance(out, (tuple, list)) else describe(out)
        raise KernelArgumentError("out", came, "two: (keys, scales)")
    keys, scales = out
    _check_keys("out[0] (keys)", keys, fmt, device)
    if not _fits(scales, (torch.float32,), 1, device):
        raise _unfit("out[1] (scales)", scales, "float32 [tokens], contiguous", device)
    if min(keys.shape[0], scales.shape[0]) < total_tokens:
        raise KernelArgumentError(
            "out",
            f"{keys.shape[0]} rows of keys and {scales.shape[0]} scales",
            f"at least total_tokens = {total_tokens} of each",
        )
    return pages, (keys, scales)


def store_arguments(cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, fmt: PageFormat) -> Tensor:
    """Check a store's arguments.

    Returns:
        the cache as uint8 `[pages, page_bytes]`.

    Raises:
        KernelArgumentError: an argument does not fit.
    """
    pages = page_view(cache, fmt)
    _check_one_scale(fmt)
    _check_slots(slots, cache.device)
    _check_keys("keys", keys, fmt, cache.device)
    if not _fits(scales, (torch.float32,), 1, cache.device):
        raise _unfit("scales", scales, "float32 [tokens], contiguous", cache.device)
    if not slots.shape[0] == keys.shape[0] == scales.shape[0]:
        raise KernelArgumentError(
            "slots",
            f"{slots.shape[0]} slots, {keys.shape[0]} keys and {scales.shape[0]} scales",
            "one of each a token",
        )
    _check_writable(pages, slots, fmt)
    return pages


def quantise_arguments(cache: Tensor, slots: Tensor, keys: Tensor, fmt: PageFormat) -> Tensor:
    """Check the arguments of a store that quantises.

    Returns:
        the cache as uint8 `[pages, page_bytes]`.

    Raises:
        KernelArgumentError: an argument does not fit.
    """
    pages = page_view(cache, fmt)
    _check_one_scale(fmt)
    _check_slots(slots, cache.device)
    if not (
        _fits(keys, _FLOAT_DTYPES, 2, cache.device, contiguous=False)
        and tuple(keys.shape) == (slots.shape[0], fmt.head_dim)
        and _rows_contiguous(keys)
    ):
        needed = (
            f"bfloat16, float16 or float32 [tokens, head_dim] = {[slots.shape[0], fmt.head_dim]}, each row contiguous"
        )
        raise _unfit("keys", keys, needed, cache.device)
    _check_writable(pages, slots, fmt)
    return pages


def is_told_at_once(device: torch.device) -> bool:
    """Whether what a tensor holds can be looked at without waiting: on a CPU, and outside of torch.compile.

    What lies beyond the cache is then refused in any case, and not only where `checked` asks for it.
    """
    return device.type == "cpu" and not torch.compiler.is_compiling()


def check_gather_range(
    pages: Tensor, page_table: Tensor, cu_seq_lens: Tensor, fmt: PageFormat, argument: str = "cu_seq_lens"
) -> None:
    """Checked mode: that the lengths fit the page table, and the used part of the table the cache.

    Waits for the device, so it cannot be captured in a graph. `argument` is what the caller calls its lengths.

    Raises:
        KernelArgumentError: naming the first request or entry that is out of range.
    """
    bounds = cu_seq_lens.tolist()
    capacity = page_table.shape[1] * fmt.page_size
    if bounds[0] != 0:
        raise KernelArgumentError(argument, f"{bounds[0]} as its first entry", "0")
    for request, (start, end) in enumerate(pairwise(bounds)):
        if not 0 <= end - start <= capacity:
            raise KernelArgumentError(
                argument,
                f"a length of {end - start} for request {request}",
                f"lengths of 0 to {capacity}, which {page_table.shape[1]} pages of {fmt.page_size} hold",
            )
    _check_used_pages(pages, page_table, cu_seq_lens[1:] - cu_seq_lens[:-1], fmt)


def check_logits_range(pages: Tensor, page_table: Tensor, context_lens: Tensor, columns: int, fmt: PageFormat) -> None:
    """Checked mode: that the pages of every token that is scored lie in the cache. Waits for the device.

    Raises:
        KernelArgumentError: naming the first entry that does not.
    """
    _check_used_pages(pages, page_table, context_lens.clamp(max=columns), fmt)


def _check_used_pages(pages: Tensor, page_table: Tensor, lengths: Tensor, fmt: PageFormat) -> None:
    columns = torch.arange(page_table.shape[1], device=page_table.device)
    used = columns * fmt.page_size < lengths[:, None]
    bad = (used & ((page_table < 0) | (page_table >= pages.shape[0]))).nonzero()
    if bad.shape[0]:
        request, column = bad[0].tolist()
        raise KernelArgumentError(
            "page_table",
            f"page {int(page_table[request, column])} at [{request}, {column}], which its length uses",
            f"pages of 0 to {pages.shape[0] - 1}",
        )


def check_slot_range(pages: Tensor, slots: Tensor, fmt: PageFormat) -> None:
    """Checked mode: that no slot lies beyond the cache. Waits for the device.

    Raises:
        KernelArgumentError: naming the first slot that does.
    """
    size = pages.shape[0] * fmt.page_size
    bad = (slots >= size).nonzero()
    if bad.shape[0]:
        token = int(bad[0])
        raise KernelArgumentError(
            "slots", f"slot {int(slots[token])} for token {token}", f"slots below {size}, or negative ones to skip"
        )


def _check_one_scale(fmt: PageFormat) -> None:
    if fmt.scales_per_token != 1:
        raise KernelArgumentError(
            "fmt", f"{fmt.scales_per_token} scales a token", "a quant block as wide as the head: one scale a token"
        )


def _check_writable(pages: Tensor, slots: Tensor, fmt: PageFormat) -> None:
    if pages.shape[0] > 1 and pages.stride(0) < pages.shape[1]:
        raise KernelArgumentError(
            "cache", f"pages {pages.stride(0)} bytes apart", f"pages that do not overlap, {pages.shape[1]} bytes each"
        )
    if is_told_at_once(pages.device):
        check_slot_range(pages, slots, fmt)


def _check_slots(slots: Tensor, device: torch.device) -> None:
    if not _fits(slots, (torch.int64,), 1, device):
        raise _unfit("slots", slots, "int64 [tokens], contiguous", device)


def _check_keys(name: str, keys: Tensor, fmt: PageFormat, device: torch.device) -> None:
    dtypes = (torch.uint8, fp8_dtype(fmt))
    if not (_fits(keys, dtypes, 2, device) and keys.shape[1] == fmt.head_dim):
        needed = f"{' or '.join(map(_name, dtypes))} [tokens, {fmt.head_dim}], contiguous"
        raise _unfit(name, keys, needed, device)


def _holds_pages(cache: object, fmt: PageFormat) -> bool:
    if not _is_plain(cache) or cache.dtype not in (torch.uint8, fp8_dtype(fmt)):
        return False
    page, row = fmt.page_size, fmt.row_stride
    shape, steps = cache.shape, cache.stride()
    if len(shape) == 2:
        fits = shape[1] == page * row
    else:
        # Rows follow each other; the step of an axis of one is never taken.
        fits = tuple(shape[1:]) in ((page, row), (page, 1, row)) and (page == 1 or steps[1] == row)
    if not (fits and steps[-1] == 1 and steps[0] % 4 == 0):
        return False
    # torch.compile cannot trace an offset, and what was compiled is not asked.
    return torch.compiler.is_compiling() or cache.storage_offset() % 4 == 0


def _fits(
    tensor: object, dtypes: tuple[torch.dtype, ...], dims: int, device: torch.device, *, contiguous: bool = True
) -> bool:
    return (
        _is_plain(tensor)
        and tensor.dtype in dtypes
        and tensor.dim() == dims
        and tensor.device == device
        and (not contiguous or tensor.is_contiguous())
    )


def _is_plain(tensor: object) -> TypeGuard[Tensor]:
    """Whether this is a tensor whose numbers lie somewhere: sparse, nested and meta tensors have no place to read."""
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.layout == torch.strided
        and not tensor.is_nested
        # What traces shapes with them asks nothing else.
        and (tensor.device.type != "meta" or torch.compiler.is_compiling())
    )


def _rows_contiguous(matrix: Tensor) -> bool:
    return matrix.stride(1) == 1 or matrix.shape[1] <= 1


def _unfit(name: str, tensor: object, needed: str, device: torch.device) -> KernelArgumentError:
    return KernelArgumentError(name, describe(tensor), f"{needed}, on {device}, where the cache is")


def describe(tensor: object) -> str:
    """What came in place of a tensor that fits."""
    if not isinstance(tensor, torch.Tensor):
        return type(tensor).__qualname__
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"a {'nested' if tensor.is_nested else 'sparse'} tensor of {_name(tensor.dtype)}"
    text = f"{_name(tensor.dtype)} {list(tensor.shape)} on {tensor.device}"
    if not tensor.is_contiguous() or tensor.storage_offset():
        text += f", strides {list(tensor.stride())}, storage offset {tensor.storage_offset()}"
    return text


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
