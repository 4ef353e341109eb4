"""A batch of requests in a paged cache, as an engine's attention metadata describes one."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_caps.errors import NsaCapsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["BatchError", "PagedBatch"]

# What stands behind a request's last page: whoever reads it reads beyond every cache.
_STALE = 2**31 - 1


class BatchError(NsaCapsError, ValueError):
    """A batch that no engine would make; the message names the argument and what it needs."""


@dataclass(frozen=True)
class PagedBatch:
    """Requests, their lengths and the pages that hold them, with SGLang's page-table getters.

    Table entries behind a request's last page are `2**31 - 1`, so that whoever reads them is found out.

    Attributes:
        page_size: tokens a page.
        context_lens: each request's length.
        pages: each request's pages in order: as many as its length needs, none twice.
        num_pages: pages in the cache.
    """

    page_size: int
    context_lens: tuple[int, ...]
    pages: tuple[tuple[int, ...], ...]
    num_pages: int

    def __post_init__(self) -> None:
        """Refuse what no engine would make.

        Raises:
            BatchError: a request has another number of pages than its length needs, or a page is not the cache's, or
                held twice.
        """
        needed = [-(-length // self.page_size) for length in self.context_lens]
        if [len(pages) for pages in self.pages] != needed:
            raise BatchError(f"pages has {[len(pages) for pages in self.pages]} pages a request, needs {needed}")
        held = [page for pages in self.pages for page in pages]
        if len(set(held)) != len(held) or not set(held) <= set(range(self.num_pages)):
            raise BatchError(f"pages is {self.pages}, needs pages of 0 to {self.num_pages - 1}, each at most once")

    @classmethod
    def shuffled(cls, page_size: int, context_lens: Sequence[int], *, seed: int = 0) -> PagedBatch:
        """Return a batch whose pages lie in no order in a cache half as large again, as after hours of serving."""
        needed = [-(-length // page_size) for length in context_lens]
        num_pages = sum(needed) * 3 // 2 + 1
        pool = random.Random(seed).sample(range(num_pages), sum(needed))  # noqa: S311 no secret is made of it
        pages = tuple(tuple(pool.pop() for _ in range(count)) for count in needed)
        return cls(page_size, tuple(context_lens), pages, num_pages)

    def lengths(self) -> Tensor:
        """Return `context_lens` as int32 `[batch]`."""
        import torch  # noqa: PLC0415 the rest of this package runs without

        return torch.tensor(self.context_lens, dtype=torch.int32)

    def cu_seq_lens(self) -> Tensor:
        """Return where each request begins among the batch's tokens: int32 `[batch + 1]`."""
        import torch  # noqa: PLC0415 as above

        return torch.nn.functional.pad(self.lengths().cumsum(0, dtype=torch.int32), (1, 0))

    def slots(self) -> Tensor:
        """Return the slot of every token, request by request: int64 `[tokens]`, what a store takes."""
        import torch  # noqa: PLC0415 as above

        table, lengths = self.get_page_table_1(), self.context_lens
        rows = [table[request, :length] for request, length in enumerate(lengths)]
        return torch.cat([torch.empty(0, dtype=torch.int32), *rows]).long()

    def get_page_table_1(self) -> Tensor:
        """Return the slot of each request's tokens: int32 `[batch, longest]`."""
        import torch  # noqa: PLC0415 as above

        width = max(self.context_lens, default=0)
        table = torch.full((len(self.pages), width), _STALE, dtype=torch.int32)
        for request, length in enumerate(self.context_lens):
            position = torch.arange(length)
            pages = torch.tensor(self.pages[request], dtype=torch.int32)
            table[request, :length] = pages[position // self.page_size] * self.page_size + position % self.page_size
        return table

    def get_page_table_64(self) -> Tensor:
        """Return each request's pages of the physical size, whatever that is, as SGLang's getter of this name does."""
        import torch  # noqa: PLC0415 as above

        table = torch.full((len(self.pages), max(map(len, self.pages), default=0)), _STALE, dtype=torch.int32)
        for request, pages in enumerate(self.pages):
            table[request, : len(pages)] = torch.tensor(pages, dtype=torch.int32)
        return table
