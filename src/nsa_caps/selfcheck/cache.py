"""What the self-check writes: known tokens, and shuffled pages of a cache to write them to."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, TypeAlias

import torch

from nsa_caps.kernels import reference
from nsa_caps.kernels.arguments import fp8_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["LIMITS", "Batch", "Tokens", "exact_tokens", "float_keys", "known_tokens", "make_batch"]

# uint8 [tokens, head_dim] and float32 [tokens].
Tokens: TypeAlias = "tuple[Tensor, Tensor]"

# The offsets that signed and unsigned 32-bit numbers cannot hold, in bytes.
LIMITS = (2**31, 2**32)


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests whose tokens lie in shuffled pages of a cache, of which only some pages are looked at.

    No request uses the first or the last page, so that whoever is off by one stays within the cache.

    Attributes:
        fmt: the format of the pages.
        pages: pages of the cache.
        page_table: int32 `[batch, columns]`; entries beyond a request's length name a page of none.
        cu_seq_lens: int32 `[batch + 1]`.
        slots: int64 `[tokens]`.
        seen: int64 `[seen]`, ascending: the pages that requests use, those beside them, and those where 32-bit
            offsets would end up. All pages of a small cache.
        blank: uint8 `[seen, page_bytes]`: what those pages hold at first, random.
    """

    fmt: PageFormat
    pages: int
    page_table: Tensor
    cu_seq_lens: Tensor
    slots: Tensor
    seen: Tensor
    blank: Tensor

    @property
    def tokens(self) -> int:
        """Tokens of all requests."""
        return self.slots.shape[0]

    def cache(self, seen: Tensor) -> Tensor:
        """Return a cache with this in the pages that are looked at, uint8 `[pages, page_bytes]`."""
        cache = torch.empty((self.pages, self.fmt.page_bytes), dtype=torch.uint8, device=self.blank.device)
        cache[self.seen] = seen
        return cache

    def filled(self, tokens: Tokens) -> Batch:
        """Return this with pages that hold these tokens at first, one for each slot of a seen page."""
        blank = self.blank.clone()
        reference.store(blank, torch.arange(tokens[0].shape[0], device=blank.device), *tokens, fmt=self.fmt)
        return replace(self, blank=blank)

    def write(self, tokens: Tokens, fmt: PageFormat, shift: int = 0, onto: Tensor | None = None) -> Tensor:
        """Return what the seen pages hold once the reference has written these tokens, each `shift` pages further."""
        size = fmt.page_size
        slots = torch.searchsorted(self.seen, self.slots // size + shift) * size + self.slots % size
        written = (self.blank if onto is None else onto).clone()
        reference.store(written, slots, *tokens, fmt=fmt)
        return written

    def read(self, seen: Tensor, fmt: PageFormat, shift: int = 0, roll: int = 0) -> Tokens:
        """Return what the reference reads of the seen pages, by a page table that is shifted or rolled."""
        table = self.seen_table(shift, roll)
        keys, scales = reference.gather(seen, table, self.cu_seq_lens, total_tokens=self.tokens, fmt=fmt)
        return keys.view(torch.uint8), scales

    def seen_table(self, shift: int = 0, roll: int = 0) -> Tensor:
        """Return the page table counted in seen pages, after adding to its entries and rolling its columns."""
        return torch.searchsorted(self.seen, (self.page_table.roll(roll, dims=1) + shift).long()).int()

    def offsets(self, *, seen: bool = False) -> Tensor:
        """Return where each token's bytes lie in the cache, or in the seen pages, int64 `[tokens, head_dim + 4]`."""
        page, slot = self.slots // self.fmt.page_size, self.slots % self.fmt.page_size
        if seen:
            page = torch.searchsorted(self.seen, page)
        within = torch.cat(reference.byte_offsets(self.fmt, self.slots.device), dim=1)
        return page[:, None] * self.fmt.page_bytes + within[slot]


def make_batch(
    lengths: Sequence[int], fmt: PageFormat, device: torch.device, generator: torch.Generator, *, beyond: bool
) -> Batch:
    """Lay out requests of these lengths, in a small cache or in one that reaches beyond 4 GiB.

    Args:
        lengths: tokens of each request.
        fmt: the format of the pages.
        device: where.
        generator: of the pages and their bytes.
        beyond: take pages below, between and above the limits of 32-bit offsets in turn.
    """
    size = fmt.page_bytes
    counts = [-(-length // fmt.page_size) for length in lengths]
    used = sum(counts)
    pages = used + used // 4 + 8 if not beyond else LIMITS[-1] // size + used + 64
    edges = [1, *((limit // size + 1 for limit in LIMITS) if beyond else ()), pages - 1]
    zones = [range(*edge) for edge in pairwise(edges)]
    # Pages are drawn without a list of all of them, which are 32 million in a large cache of pages of one token.
    dice = random.Random(int(torch.randint(2**62, (), generator=generator)))  # noqa: S311 nothing here is secret
    taken = [page for zone in zones for page in dice.sample(zone, used // len(zones) + 1)]
    dice.shuffle(taken)
    unused = taken.pop()
    # One column more than any request needs, and one page that none uses.
    table = torch.full((len(lengths), max(counts) + 1), unused, dtype=torch.int32)
    slots = [torch.empty(0, dtype=torch.int64)]
    for request, (length, begin) in enumerate(zip(lengths, accumulate([0, *counts]), strict=False)):
        table[request, : counts[request]] = torch.tensor(taken[begin : begin + counts[request]])
        position = torch.arange(length)
        slots.append(table[request, position // fmt.page_size].long() * fmt.page_size + position % fmt.page_size)
    if beyond:
        # A page cut off at a limit begins within another page, and ends in the next.
        cut = [page * size % limit // size for page in taken for limit in LIMITS]
        around = {page + step for page in (*taken, unused) for step in (-1, 0, 1)}
        seen = torch.tensor(sorted(around | {page + step for page in cut for step in (0, 1)}))
    else:
        seen = torch.arange(pages)
    blank = torch.randint(0, 256, (len(seen), size), dtype=torch.uint8, generator=generator)
    return Batch(
        fmt,
        pages,
        table.to(device),
        torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device),
        torch.cat(slots).to(device),
        seen.to(device),
        blank.to(device),
    )


def known_tokens(count: int, fmt: PageFormat, device: torch.device, generator: torch.Generator) -> Tokens:
    """Random bytes, all 256 codes among them, and scales of random magnitude that the scale format can hold."""
    keys = torch.randint(0, 256, (count, fmt.head_dim), dtype=torch.uint8, generator=generator)
    keys.view(-1)[:256] = torch.arange(256)
    scales = torch.exp2(torch.randint(-12, 5, (count,), generator=generator).float())
    if fmt.scale_format == "fp32":
        scales *= 1 + torch.rand(count, generator=generator)
    return keys.to(device), scales.to(device)


def float_keys(count: int, fmt: PageFormat, device: torch.device, generator: torch.Generator) -> Tensor:
    """bf16 keys that every right quantisation turns into the same bytes, whatever it does to a last bit.

    They are fp8 numbers times a scale of four significant bits, the largest fp8 number among them: no quotient is
    rounded, and no product comes near the middle of two fp8 numbers unless it lies exactly there.
    """
    codes = torch.randint(1, 0x7F, (count, fmt.head_dim), dtype=torch.uint8, generator=generator)
    sign = torch.randint(0, 2, codes.shape, generator=generator) * 2 - 1
    values = codes.view(fp8_dtype(fmt)).float() * sign
    values[torch.arange(count), torch.randint(0, fmt.head_dim, (count,), generator=generator)] = fmt.fp8_max
    scales = torch.exp2(torch.randint(-4, 5, (count,), generator=generator).float())
    scales *= 1 + torch.randint(0, 8, (count,), generator=generator) / 8
    return (values * scales[:, None]).to(torch.bfloat16).to(device)


def exact_tokens(count: int, fmt: PageFormat, device: torch.device, generator: torch.Generator) -> Tokens:
    """Keys of small whole numbers and scales of few bits, whose scores are exact in whatever order they are summed."""
    values = torch.randint(-4, 5, (count, fmt.head_dim), generator=generator).float()
    scales = torch.exp2(torch.randint(-2, 3, (count,), generator=generator).float())
    if fmt.scale_format == "fp32":
        scales *= 1 + torch.randint(0, 8, (count,), generator=generator) / 8
    return values.to(fp8_dtype(fmt)).view(torch.uint8).to(device), scales.to(device)
