"""Where the kernel tests run, and the batches that they run on."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nsa_caps.pages import PageFormat

# Read when a kernel is decorated, so it is set before any module of kernels is imported.
if not torch.cuda.is_available():
    if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
        message = "Triton was imported before the kernel tests could ask for its interpreter"
        raise RuntimeError(message)
    os.environ["TRITON_INTERPRET"] = "1"


@dataclass(frozen=True)
class Batch:
    """Requests in shuffled pages, and where each of their tokens lies.

    Attributes:
        page_table: int32 `[batch, max_pages]`; entries beyond a request's length name no page of the cache.
        cu_seq_lens: int32 `[batch + 1]`.
        slots: int64 `[tokens]`.
        pages: pages that a cache for them has.
    """

    page_table: torch.Tensor
    cu_seq_lens: torch.Tensor
    slots: torch.Tensor
    pages: int

    @property
    def tokens(self) -> int:
        """Tokens of all requests."""
        return len(self.slots)

    def cache(self, fmt: PageFormat) -> torch.Tensor:
        """A cache of random bytes, so that what is not written or read wrongly shows."""
        shape = (self.pages, fmt.page_bytes)
        return torch.randint(0, 256, shape, dtype=torch.uint8, device=self.slots.device)


@pytest.fixture(scope="session")
def device() -> str:
    """The GPU if there is one; else the CPU, and Triton's interpreter."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session")
def make_batch(device: str) -> Callable[[Sequence[int], int], Batch]:
    """Lay out requests of these lengths in pages of this size."""

    def make(lengths: Sequence[int], page_size: int) -> Batch:
        counts = [-(-length // page_size) for length in lengths]
        pages = sum(counts) + 3
        order = torch.randperm(pages)
        table = torch.full((len(lengths), max([*counts, 1])), pages + 1_000_000, dtype=torch.int32)
        slots: list[int] = []
        for request, (count, begin) in enumerate(zip(counts, accumulate([0, *counts]), strict=False)):
            table[request, :count] = order[begin : begin + count]
            for position in range(lengths[request]):
                page = int(table[request, position // page_size])
                slots.append(page * page_size + position % page_size)
        return Batch(
            table.to(device),
            torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device),
            torch.tensor(slots, dtype=torch.int64, device=device),
            pages,
        )

    return make
