"""The last steps of the self-check: whether a row's logits choose the tokens that the reference chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from nsa_caps.kernels import reference_logits
from nsa_caps.kernels.arguments import fp8_dtype
from nsa_caps.selfcheck.diagnosis import UNEXPLAINED, Explanation, beyond_limit, hypotheses
from nsa_caps.selfcheck.records import Mismatch

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat
    from nsa_caps.selfcheck.cache import Batch

__all__ = ["CONTEXTS", "Prompt", "Question"]

# Well beyond the tokens that are chosen: up to 2,048 every token is, whatever its score. The last page of the longest
# reaches beyond a row, so that a kernel that writes whole pages writes into the next request's scores.
CONTEXTS = (4321, 0, 4810, 2049, 1)
_MAX_CONTEXT = 4813
_TOP = 2048
# A score may be off by this part of its row's largest: a kernel that rounds the sum of a dot is not wrong.
_TOLERANCE = 2.0**-12


@dataclass(frozen=True, slots=True)
class Question:
    """Queries over a batch of `CONTEXTS`; every score of it is exact, in whatever order it is summed.

    Attributes:
        batch: where the tokens lie.
        seen: uint8 `[seen, page_bytes]`: what the batch's seen pages rightly hold.
        q: fp8 `[batch, next_n, heads, head_dim]`.
        weights: float32 `[batch * next_n, heads]`.
        context_lens: int32 `[batch]`.
    """

    batch: Batch
    seen: Tensor
    q: Tensor
    weights: Tensor
    context_lens: Tensor

    @classmethod
    def ask(cls, batch: Batch, seen: Tensor, heads: int, next_n: int, generator: torch.Generator) -> Question:
        """Return random queries and weights of small whole numbers."""
        device, shape = seen.device, (len(CONTEXTS), next_n, heads, batch.fmt.head_dim)
        q = torch.randint(-3, 4, shape, generator=generator).float().to(fp8_dtype(batch.fmt))
        weights = torch.randint(-2, 3, (len(CONTEXTS) * next_n, heads), generator=generator).float()
        context_lens = torch.tensor(CONTEXTS, dtype=torch.int32, device=device)
        return cls(batch, seen, q.to(device), weights.to(device), context_lens)

    def arguments(self, cache: Tensor) -> tuple[Tensor | int, ...]:
        """Return what a row's logits are given, with this cache."""
        return self.q, cache, self.weights, self.context_lens, self.batch.page_table, _MAX_CONTEXT

    def expected(self) -> Tensor:
        """Return the right scores, float32 `[batch * next_n, max_model_len]`."""
        return self._score(self.batch.fmt, self.batch.seen_table())

    def mismatch(self, step: str, expected: Tensor, found: Tensor, *, clean: bool) -> Mismatch | None:
        """Return where a row's scores differ first; without `clean` those that no query sees may be anything.

        None means that its top 2,048 are right, too, up to ties.
        """
        if not clean:
            found = torch.where(expected.isfinite(), found, expected)
        wrong = _differing(expected, found)
        if not wrong.any():
            return None
        batch, next_n = self.batch, self.q.shape[1]
        row, position = wrong.nonzero()[0].tolist()
        request, query = divmod(row, next_n)
        page, slot = divmod(position, batch.fmt.page_size)
        why = self._explain(expected, found)
        lost = _lost(expected[row], found[row])
        return Mismatch(
            step=step,
            cause=why.cause,
            explanation=f"{why.text}; {lost:,} of the {_TOP:,} tokens chosen for this query are others",
            wrong=int(wrong.sum()),
            tokens=wrong.numel(),
            part=f"score for query {query}",
            expected=f"{float(expected[row, position]):g}",
            found=f"{float(found[row, position]):g}",
            request=request,
            position=position,
            page=int(batch.page_table[request, page]) if page < batch.page_table.shape[1] else None,
            slot=slot,
        )

    def _score(self, fmt: PageFormat, table: Tensor) -> Tensor:
        return reference_logits.logits(self.q, self.seen, self.weights, self.context_lens, table, _MAX_CONTEXT, fmt=fmt)

    def _explain(self, expected: Tensor, found: Tensor) -> Explanation:
        batch = self.batch
        for each in hypotheses(batch.fmt):
            if each.scales is not None or each.fmt.dialect != batch.fmt.dialect:
                continue
            if not _differing(self._score(each.fmt, batch.seen_table(each.shift, each.roll)), found).any():
                return each.explanation
        for factor in (2.0, 4.0, 0.5, 0.25):
            if not _differing(expected * factor, found).any():
                return Explanation("dialect", f"every score is {factor:g} times the right one")
        column = torch.arange(expected.shape[1], device=expected.device) // batch.fmt.page_size
        pages = batch.page_table.long()[:, column.clamp(max=batch.page_table.shape[1] - 1)]
        starts = pages.repeat_interleave(self.q.shape[1], dim=0) * batch.fmt.page_bytes
        inside = expected.isfinite()
        return beyond_limit(starts[inside], _differing(expected, found)[inside]) or UNEXPLAINED


@dataclass(frozen=True, slots=True)
class Prompt:
    """The last two tokens of each context of a batch, which see what lies before them; every score of it is exact.

    Attributes:
        batch: where the tokens lie.
        request: int64 `[queries]`: whose token each is.
        q: fp8 `[queries, heads, head_dim]`.
        weights: float32 `[queries, heads]`.
        starts: int32 `[queries]`.
        ends: int32 `[queries]`.
    """

    batch: Batch
    request: Tensor
    q: Tensor
    weights: Tensor
    starts: Tensor
    ends: Tensor

    @classmethod
    def ask(cls, batch: Batch, heads: int, generator: torch.Generator) -> Prompt:
        """Return random queries and weights of small whole numbers; a context of one has one token to ask."""
        device = batch.cu_seq_lens.device
        begin, end = batch.cu_seq_lens[:-1], batch.cu_seq_lens[1:]
        request = torch.arange(len(begin), device=device).repeat_interleave(2)
        starts, ends = begin[request], end[request] - torch.tensor([1, 0], device=device).repeat(len(begin))
        shape = (len(request), heads, batch.fmt.head_dim)
        q = torch.randint(-3, 4, shape, generator=generator).float().to(fp8_dtype(batch.fmt))
        weights = torch.randint(-2, 3, shape[:2], generator=generator).float()
        asked = (ends > starts) | (begin == end)[request]
        ends = torch.maximum(starts, ends).to(torch.int32)
        parts = (request, q.to(device), weights.to(device), starts, ends)
        return cls(batch, *(part[asked].contiguous() for part in parts))

    def arguments(self, keys: Tensor, scales: Tensor) -> tuple[Tensor, ...]:
        """Return what a row's ragged logits are given, with these keys."""
        return self.q, keys, scales, self.weights, self.starts, self.ends

    def expected(self, keys: Tensor, scales: Tensor) -> Tensor:
        """Return the right scores, float32 `[queries, tokens]`."""
        return reference_logits.ragged_logits(*self.arguments(keys, scales), fmt=self.batch.fmt)

    def mismatch(self, step: str, expected: Tensor, found: Tensor, *, clean: bool) -> Mismatch | None:
        """Return where a row's scores differ first; without `clean` those that no query sees may be anything."""
        wrong = _differing(expected, found)
        if not clean:
            wrong &= expected.isfinite()
        if not wrong.any():
            return None
        row, column = wrong.nonzero()[0].tolist()
        seen = torch.where(expected[row].isfinite(), found[row], -torch.inf)
        lost = _lost(expected[row], seen) if found.shape[1] >= _TOP else 0
        page, slot = divmod(int(self.batch.slots[column]), self.batch.fmt.page_size)
        owner = int(torch.searchsorted(self.batch.cu_seq_lens, column, right=True)) - 1
        return Mismatch(
            step=step,
            cause="unexplained",
            explanation=f"{UNEXPLAINED.text}; {lost:,} of the {_TOP:,} tokens chosen for this query are others",
            wrong=int(wrong.sum()),
            tokens=wrong.numel(),
            part=f"score for a token of request {int(self.request[row])}",
            expected=f"{float(expected[row, column]):g}",
            found=f"{float(found[row, column]):g}",
            request=owner,
            position=column - int(self.batch.cu_seq_lens[owner]),
            page=page,
            slot=slot,
        )


def _differing(expected: Tensor, found: Tensor) -> Tensor:
    # Nothing but -inf where that is expected, and no NaN anywhere.
    inside = expected.isfinite()
    largest = torch.where(inside, expected, 0.0).abs().amax(dim=1, keepdim=True)
    close = (found - expected).abs() <= largest * _TOLERANCE
    return ~torch.where(inside, close, found == expected)


def _lost(expected: Tensor, found: Tensor) -> int:
    # Of the tokens that have the best scores as found, those that are worse than the worst of the right ones.
    chosen = found.nan_to_num(nan=-torch.inf).topk(_TOP).indices
    return int((expected[chosen] < expected.topk(_TOP).values[-1]).sum())
