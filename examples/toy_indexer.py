"""A toy indexer as an engine would write one: all that depends on the page layout is asked of one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps import IndexerLayout
    from nsa_caps.testing import PagedBatch

DIALECTS = {"e4m3fn": torch.float8_e4m3fn, "e4m3fnuz": torch.float8_e4m3fnuz}


def fused_store(cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, *, preshuffle: bool) -> None:
    """Write keys as the engine's own fused kernel does: it knows the pages itself, and must be told their order."""
    page_size, dim = cache.shape[1], keys.shape[1]
    page, slot, column = slots[:, None] // page_size, slots[:, None] % page_size, torch.arange(dim)
    place = slot * dim + column
    if preshuffle:
        place = slot // 16 * 16 * dim + column // 16 * 256 + slot % 16 * 16 + column % 16
    pages = cache.view(cache.shape[0], -1)
    pages[page, place] = keys.view(torch.uint8)
    pages[page, page_size * dim + 4 * slot + torch.arange(4)] = scales.view(torch.uint8).view(-1, 4)


class ToyIndexer:
    """One layer's indexer: a cache of keys in pages, and the tokens that score highest in it."""

    def __init__(self, layout: IndexerLayout, num_pages: int) -> None:
        self.layout = layout
        self.fp8 = DIALECTS[layout.format.dialect]
        self.cache = self.allocate(num_pages)

    def allocate(self, num_pages: int) -> Tensor:
        """Allocate the cache in the shape in which engines hold it."""
        pages = self.layout.format
        return torch.zeros(num_pages, pages.page_size, pages.row_stride, dtype=torch.uint8)

    def prefill(self, batch: PagedBatch, keys: Tensor) -> None:
        """Quantise and write the keys of whole prompts, bf16 `[tokens, 128]`, by the engine's own kernel."""
        scales = keys.float().abs().amax(dim=1).clamp(min=1e-4) / self.layout.format.fp8_max
        values = (keys.float() / scales[:, None]).to(self.fp8)
        fused_store(self.cache, batch.slots(), values, scales, preshuffle=self.layout.preshuffle)

    def decode(self, slots: Tensor, keys: Tensor) -> None:
        """Quantise and write the keys of one new token a request, by the layout's kernel."""
        self.layout.quantise_and_store(self.cache, slots, keys)

    def page_table(self, batch: PagedBatch) -> Tensor:
        """Return the page table in the layout's page size."""
        return self.layout.page_table(batch)

    def keys(self, batch: PagedBatch) -> Tensor:
        """Read all keys back, float32 `[tokens, 128]`, as the scores of a chunked prefill need them."""
        ends = batch.cu_seq_lens()
        keys, scales = self.layout.gather(self.cache, self.page_table(batch), ends, total_tokens=int(ends[-1]))
        return keys.float() * scales[:, None]

    def top(self, batch: PagedBatch, q: Tensor, weights: Tensor, count: int) -> Tensor:
        """Return the positions that score highest for each request's query, `[batch, count]`."""
        table, longest = self.page_table(batch), max(batch.context_lens)
        scores = self.layout.logits(q.to(self.fp8), self.cache, weights, batch.lengths(), table, longest)
        return scores.topk(count, dim=1).indices
