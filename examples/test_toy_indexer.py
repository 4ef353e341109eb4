"""The toy indexer over every layout, on a laptop; and mistakes in its wiring, each of which is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from nsa_caps import NsaCapsError, probe, select_indexer_layout
from nsa_caps.page_table import from_token_table
from nsa_caps.testing import PagedBatch, every_layout, layout_id
from toy_indexer import ToyIndexer, fused_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from nsa_caps import Host, IndexerLayout

# More tokens than are chosen: of fewer every one is, whatever the scores.
LENGTHS, COUNT, HEADS = (300, 40, 130), 8, 32


def run(kind: type[ToyIndexer], layout: IndexerLayout) -> None:
    """Run an indexer on keys of which each request's query is like `COUNT`, and see that exactly these are found."""
    random = torch.Generator().manual_seed(0)
    batch = PagedBatch.shuffled(layout.page_size, LENGTHS)
    query = torch.randn(len(LENGTHS), 128, generator=random)
    keys = [torch.randn(length, 128, generator=random) * 0.3 for length in LENGTHS]
    wanted = [torch.randperm(length, generator=random)[:COUNT] for length in LENGTHS]
    for request, positions in enumerate(wanted):
        keys[request][positions] += query[request]
    flat = torch.cat(keys).bfloat16()

    indexer = kind(layout, batch.num_pages)
    indexer.prefill(batch, flat)
    last = batch.cu_seq_lens()[1:].long() - 1
    indexer.decode(batch.slots()[last], flat[last])
    # An fp8 key is within 1/16 of what was stored.
    torch.testing.assert_close(indexer.keys(batch), flat.float(), rtol=1 / 16, atol=0.02)
    q = query[:, None, None].expand(-1, 1, HEADS, -1).contiguous()
    found = indexer.top(batch, q, torch.ones(len(LENGTHS), HEADS), COUNT)
    assert [set(row.tolist()) for row in found] == [set(positions.tolist()) for positions in wanted]


def test_the_indexer_finds_its_tokens(indexer_layout: IndexerLayout) -> None:
    """The tokens that are like the query are found under every layout that a machine may hand out."""
    run(ToyIndexer, indexer_layout)


@pytest.mark.nsa_matrix(name=["mi300x_rocm700", "mi355x", "h200", "cpu_only"], triton=["3.4.0", "3.6.0"])
def test_start_up(nsa_matrix: Host) -> None:
    """Whatever is installed there is a layout, and the cache has its pages."""
    layout = select_indexer_layout(probe(nsa_matrix))
    assert ToyIndexer(layout, num_pages=2).cache.nbytes == 2 * layout.format.page_bytes


# --- Mistakes that a review passes over


class TableOf64(ToyIndexer):
    """Its page table is always one of 64 tokens a page."""

    def page_table(self, batch: PagedBatch) -> Tensor:
        """Cut the table of tokens into pages of 64."""
        return from_token_table(batch.get_page_table_1(), 64)


class FlagNotPassed(ToyIndexer):
    """Its own kernel is not told the order of the keys in a page."""

    def prefill(self, batch: PagedBatch, keys: Tensor) -> None:
        """Write flat pages."""
        scales = keys.float().abs().amax(dim=1).clamp(min=1e-4) / self.layout.format.fp8_max
        values = (keys.float() / scales[:, None]).to(self.fp8)
        fused_store(self.cache, batch.slots(), values, scales, preshuffle=False)


class PagesOf64(ToyIndexer):
    """Its cache has pages of 64 tokens, whatever the layout says."""

    def allocate(self, num_pages: int) -> Tensor:
        """Allocate as many bytes, in pages of 64."""
        return torch.zeros(-(-num_pages * self.layout.page_size // 64), 64, 132, dtype=torch.uint8)


class OneDialect(ToyIndexer):
    """Its keys are e4m3fn, also on an MI300X."""

    def __init__(self, layout: IndexerLayout, num_pages: int) -> None:
        super().__init__(layout, num_pages)
        self.fp8 = torch.float8_e4m3fn


MISTAKES: dict[type[ToyIndexer], Callable[[IndexerLayout], bool]] = {
    TableOf64: lambda layout: layout.page_size != 64,
    FlagNotPassed: lambda layout: layout.preshuffle,
    PagesOf64: lambda layout: layout.page_size != 64,
    OneDialect: lambda layout: layout.format.dialect != "e4m3fn",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found_where_it_matters(mistake: type[ToyIndexer]) -> None:
    """Each mistake fails under exactly those layouts that it is one under: the others would have hidden it."""
    layouts = every_layout(("aiter-preshuffle", "aiter-flat", "aiter-token", "deepgemm"), page_sizes=(None, 16))
    failing = set()
    for layout in layouts:
        try:
            run(mistake, layout)
        except (AssertionError, NsaCapsError):
            failing.add(layout_id(layout))
    assert failing == {layout_id(layout) for layout in layouts if MISTAKES[mistake](layout)}
