"""Batches for the logits kernels, and their scores from the definition in float64, token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from nsa_caps.kernels.arguments import fp8_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsa_caps.pages import PageFormat


@dataclass(frozen=True)
class Case:
    """The arguments of a logits kernel, and what it must give.

    Attributes:
        arguments: q, cache, weights, context_lens, page_table, max_model_len.
        expected: float64 `[batch * next_n, max_model_len]`.
    """

    fmt: PageFormat
    arguments: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]
    expected: torch.Tensor

    def poisoned(self) -> torch.Tensor:
        """An output in which every score that is not written shows."""
        return torch.full(self.expected.shape, torch.nan, dtype=torch.float32, device=self.arguments[0].device)


def make_case(
    fmt: PageFormat, lengths: Sequence[int], width: int, *, heads: int = 32, next_n: int = 1, device: str = "cpu"
) -> Case:
    """Random requests in shuffled pages; what no length uses is garbage, NaN among it."""
    columns = -(-width // fmt.page_size)
    pages = len(lengths) * columns + 2
    keys = torch.randn(pages, fmt.page_size, fmt.head_dim).to(fp8_dtype(fmt))
    scales = 2.0 ** torch.randint(-4, 3, (pages, fmt.page_size)).float()
    if fmt.scale_format == "fp32":
        scales *= 1 + torch.rand_like(scales)
    table = torch.randperm(pages)[: len(lengths) * columns].view(len(lengths), columns)
    q = torch.randn(len(lengths), next_n, heads, fmt.head_dim).to(fp8_dtype(fmt))
    weights = torch.randn(len(lengths) * next_n, heads)

    expected = torch.full((len(lengths) * next_n, width), -torch.inf, dtype=torch.float64)
    used = torch.zeros(pages, fmt.page_size, dtype=torch.bool)
    for request, length in enumerate(lengths):
        for token in range(min(length, width)):
            page, slot = int(table[request, token // fmt.page_size]), token % fmt.page_size
            used[page, slot] = True
            for query in range(next_n):
                if token <= length - next_n + query:
                    row = request * next_n + query
                    dots = q[request, query].double() @ keys[page, slot].double()
                    expected[row, token] = weights[row].double() @ dots.clamp(min=0) * scales[page, slot].double()

    cache = torch.randint(0, 256, (pages, fmt.page_bytes), dtype=torch.uint8)
    for page, slot in used.nonzero().tolist():
        places = [fmt.key_offset(slot, dim) for dim in range(fmt.head_dim)]
        cache[page, places] = keys[page, slot].view(torch.uint8)
        stored = scales[page, slot].view(1).view(torch.uint8)
        if fmt.scale_format == "ue8m0_packed":
            stored = (scales[page, slot].log2() + 127).to(torch.uint8).expand(4)
        offset = fmt.scale_offset(slot)
        cache[page, offset : offset + 4] = stored
    for request, length in enumerate(lengths):
        table[request, -(-min(length, width) // fmt.page_size) :] = 2**31 - 1
    context_lens = torch.tensor(lengths, dtype=torch.int32)
    tensors = (q, cache, weights, context_lens, table.to(torch.int32))
    moved = tuple(tensor.to(device) for tensor in tensors)
    return Case(fmt, (*moved, width), expected)  # type: ignore[arg-type] # five tensors and a number


def assert_scores(case: Case, found: torch.Tensor, tolerance: float = 1e-5) -> None:
    """`-inf` exactly where expected, and the rest within rounding of it."""
    found = found.double().cpu()
    seen = case.expected > -torch.inf
    assert torch.equal(found == -torch.inf, ~seen)
    largest = case.expected[seen].abs().max() if seen.any() else 0.0
    error = (found[seen] - case.expected[seen]).abs()
    assert bool((error <= tolerance * largest).all()), float((error / largest).max())
