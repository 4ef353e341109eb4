"""Rows with one fault each, made of the reference's kernels: what the self-check must name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from nsa_caps.kernels import reference, reference_logits
from nsa_caps.selfcheck.records import RowKernels

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from nsa_caps.pages import PageFormat

    Change = Callable[[PageFormat], PageFormat]


def planted(**kernels: Callable[..., Any] | None) -> RowKernels:
    """The reference's row with some kernels replaced; without logits unless some are given."""
    right: dict[str, Any] = {
        "store": reference.store,
        "gather": reference.gather,
        "quantise_and_store": reference.quantise_and_store,
    }
    return RowKernels("planted", **{**right, **kernels})


def with_field(**values: Any) -> Change:
    """A change of a format's fields."""
    return lambda fmt: replace(fmt, **values)


def other_order(fmt: PageFormat) -> PageFormat:
    """Tiles for flat and flat for tiles."""
    return replace(fmt, order="flat" if fmt.order == "tiles" else "tiles")


def other_dialect(fmt: PageFormat) -> PageFormat:
    """One fp8 dialect for the other."""
    return replace(fmt, dialect="e4m3fn" if fmt.dialect == "e4m3fnuz" else "e4m3fnuz")


@dataclass(frozen=True)
class Writer:
    """A store with a fault: what it makes of the format and the tokens, and how many pages too far it writes."""

    fmt: Change = lambda fmt: fmt
    keys: Callable[[Tensor], Tensor] = lambda keys: keys
    scales: Callable[[Tensor], Tensor] = lambda scales: scales
    shift: int = 0

    def __call__(self, cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, *, fmt: PageFormat) -> None:
        """Store."""
        slots = torch.where(slots < 0, slots, slots + self.shift * fmt.page_size)
        reference.store(cache, slots, self.keys(keys.view(torch.uint8)), self.scales(scales), fmt=self.fmt(fmt))


@dataclass(frozen=True)
class Quantiser:
    """A store that quantises for another format."""

    fmt: Change

    def __call__(self, cache: Tensor, slots: Tensor, keys: Tensor, *, fmt: PageFormat) -> None:
        """Quantise and store."""
        reference.quantise_and_store(cache, slots, keys, fmt=self.fmt(fmt))


@dataclass(frozen=True)
class RoundingQuantiser:
    """A store whose scales are off in the last place, as where a division is done by multiplying."""

    ulps: int

    def __call__(self, cache: Tensor, slots: Tensor, keys: Tensor, *, fmt: PageFormat) -> None:
        """Quantise and store."""
        codes, scales = reference.quantise(keys, fmt)
        reference.store(cache, slots, codes, (scales.view(torch.int32) + self.ulps).view(torch.float32), fmt=fmt)


@dataclass(frozen=True)
class Reader:
    """A gather with a fault: what it makes of the format, the page table, and the outputs in place."""

    fmt: Change = lambda fmt: fmt
    table: Callable[[Tensor], Tensor] = lambda table: table
    keys: Callable[[Tensor], object] = lambda _: None
    scales: Callable[[Tensor], object] = lambda _: None

    def __call__(
        self,
        cache: Tensor,
        page_table: Tensor,
        cu_seq_lens: Tensor,
        *,
        total_tokens: int,
        out: tuple[Tensor, Tensor],
        fmt: PageFormat,
    ) -> tuple[Tensor, Tensor]:
        """Gather."""
        keys = out[0].view(torch.uint8)
        table = self.table(page_table)
        reference.gather(cache, table, cu_seq_lens, total_tokens=total_tokens, out=(keys, out[1]), fmt=self.fmt(fmt))
        self.keys(keys)
        self.scales(out[1])
        return out


@dataclass(frozen=True)
class CutOff:
    """Offsets that are cut off at a modulus, as 32 bits cut them off at 2**32: each byte's, or each page's alone."""

    modulus: int
    page_alone: bool = False

    def offsets(self, slots: Tensor, fmt: PageFormat) -> Tensor:
        """Where this takes each token's bytes to lie, int64 [tokens, head_dim + 4]."""
        right = byte_offsets(slots, fmt)
        if not self.page_alone:
            return right % self.modulus
        start = (slots // fmt.page_size * fmt.page_bytes)[:, None]
        return start % self.modulus + right - start

    def store(self, cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, *, fmt: PageFormat) -> None:
        """Store."""
        kept = slots >= 0
        values = torch.cat((keys.view(torch.uint8)[kept], scales[kept].view(torch.uint8).view(-1, 4)), dim=1)
        cache.view(-1)[self.offsets(slots[kept], fmt)] = values

    def gather(self, cache: Tensor, page_table: Tensor, cu_seq_lens: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        """Gather."""
        return self._read(
            cache, self.offsets(slots_of(page_table, cu_seq_lens, options["fmt"]), options["fmt"]), options
        )

    def gather_zeros(
        self, cache: Tensor, page_table: Tensor, cu_seq_lens: Tensor, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Gather zeros for all that lies beyond."""
        offsets = byte_offsets(slots_of(page_table, cu_seq_lens, options["fmt"]), options["fmt"])
        return self._read(torch.where(torch.arange(cache.numel()) < self.modulus, cache.view(-1), 0), offsets, options)

    def _read(self, cache: Tensor, offsets: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        keys, scales = options["out"]
        values = cache.view(-1)[offsets]
        keys.view(torch.uint8)[: len(values)] = values[:, :-4]
        scales[: len(values)] = values[:, -4:].contiguous().view(torch.float32).view(-1)
        return keys, scales


def byte_offsets(slots: Tensor, fmt: PageFormat) -> Tensor:
    """Where each token's bytes lie in the cache, by `PageFormat`'s own arithmetic, int64 [tokens, head_dim + 4]."""
    dims, scale = range(fmt.head_dim), range(4)
    within = torch.tensor([
        [fmt.key_offset(slot, dim) for dim in dims] + [fmt.scale_offset(slot) + byte for byte in scale]
        for slot in range(fmt.page_size)
    ])  # fmt: skip
    return (slots // fmt.page_size * fmt.page_bytes)[:, None] + within[slots % fmt.page_size]


def slots_of(page_table: Tensor, cu_seq_lens: Tensor, fmt: PageFormat) -> Tensor:
    """The slot of every token of every request, one request after the other."""
    slots = []
    for request, length in enumerate(cu_seq_lens.diff().tolist()):
        for position in range(length):
            page, slot = divmod(position, fmt.page_size)
            slots.append(int(page_table[request, page]) * fmt.page_size + slot)
    return torch.tensor(slots)


@dataclass(frozen=True)
class Scorer:
    """Logits with a fault: what they make of the format and the page table, and of the scores in place."""

    fmt: Change = lambda fmt: fmt
    table: Callable[[Tensor], Tensor] = lambda table: table
    scores: Callable[[Tensor, int], object] = lambda *_: None

    def __call__(
        self,
        q: Tensor,
        cache: Tensor,
        weights: Tensor,
        context_lens: Tensor,
        page_table: Tensor,
        max_model_len: int,
        *,
        fmt: PageFormat,
        out: Tensor | None,
        clean: bool,
    ) -> Tensor:
        """Score."""
        fmt, table = self.fmt(fmt), self.table(page_table)
        found = reference_logits.logits(
            q, cache, weights, context_lens, table, max_model_len, fmt=fmt, out=out, clean=clean
        )
        self.scores(found, q.shape[1])
        return found
