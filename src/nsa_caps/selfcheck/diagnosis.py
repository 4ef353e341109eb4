"""Which mismatch explains what a row did: each is tried on the same bytes, and named if it predicts all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import torch

from nsa_caps.kernels import reference
from nsa_caps.kernels.arguments import fp8_dtype
from nsa_caps.pages import TILE, ScaleFormat
from nsa_caps.selfcheck.cache import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from nsa_caps.pages import PageFormat
    from nsa_caps.selfcheck.cache import Batch, Tokens
    from nsa_caps.selfcheck.records import Cause

__all__ = ["UNEXPLAINED", "Explanation", "beyond_limit", "differing", "explain_reader", "explain_writer", "hypotheses"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A mismatch that predicts what was found, in words."""

    cause: Cause
    text: str


UNEXPLAINED = Explanation(
    "unexplained", "no other order, dialect, scale form or page, and no cut-off offset, gives this"
)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A way to read or write pages other than the one that was asked for.

    Attributes:
        explanation: what a row that does so does.
        fmt: the format that it follows.
        shift: what it adds to the numbers of pages.
        roll: by how many columns its page table is rolled.
        scales: what it makes of scales.
    """

    explanation: Explanation
    fmt: PageFormat
    shift: int = 0
    roll: int = 0
    scales: Callable[[Tensor], Tensor] | None = None

    def apply(self, tokens: Tokens) -> Tokens:
        """Return tokens with their scales as this has them."""
        return tokens if self.scales is None else (tokens[0], self.scales(tokens[1]))


def hypotheses(fmt: PageFormat) -> Iterator[Hypothesis]:
    """Every way to misread or miswrite pages of a format that the reference can take itself."""
    if fmt.order == "tiles":
        yield Hypothesis(Explanation("order", "flat, where tiles are asked for"), replace(fmt, order="flat"))
    elif fmt.page_size % TILE == 0 and fmt.head_dim % TILE == 0:
        yield Hypothesis(Explanation("order", "16x16 tiles, where flat is asked for"), replace(fmt, order="tiles"))
    for form in get_args(ScaleFormat):
        if form != fmt.scale_format:
            text = f"{form}, where {fmt.scale_format} is asked for"
            rounded = reference.round_up_to_power_of_two if form == "ue8m0" else None
            yield Hypothesis(Explanation("scale-form", text), replace(fmt, scale_format=form), scales=rounded)
    yield Hypothesis(Explanation("scale-form", "their exponent alone is kept"), fmt, scales=_exponent_alone)
    for step, way in ((1, "higher"), (-1, "lower")):
        yield Hypothesis(Explanation("page-off-by-one", f"the page of the next {way} number"), fmt, shift=step)
    for step, way in ((1, "before"), (-1, "after")):
        text = f"the page in the column {way} that of the token"
        yield Hypothesis(Explanation("page-off-by-one", text), fmt, roll=step)
    other = _other_dialect(fmt)
    yield Hypothesis(Explanation("dialect", f"keys are quantised for {other.dialect}, not {fmt.dialect}"), other)


def differing(expected: Tokens, found: Tokens, ulps: int) -> tuple[Tensor, Tensor]:
    """Return which bytes of keys differ, bool `[tokens, head_dim]`, and which scales, bool `[tokens]`.

    Args:
        expected: the right tokens.
        found: the row's.
        ulps: by how many units in the last place a scale may be off.
    """
    bits = [scales.view(torch.int32).long() for scales in (expected[1], found[1])]
    return expected[0] != found[0], (bits[0] - bits[1]).abs() > ulps


def explain_writer(
    batch: Batch, cache: Tensor, tokens: Callable[[PageFormat], Tokens], expected: Tokens, found: Tokens, ulps: int
) -> Explanation:
    """Explain a wrong store.

    Args:
        batch: where the tokens were to go.
        cache: what the row made of the cache.
        tokens: what is to be written in a format; only keys that are quantised on the way depend on it.
        expected: what the reference reads after a right store.
        found: what it reads of `cache`.
        ulps: as for `differing`.
    """
    for each in hypotheses(batch.fmt):
        written = batch.write(each.apply(tokens(each.fmt)), each.fmt, each.shift)
        if _agree(batch.read(written, batch.fmt), found, expected, ulps):
            return each.explanation
    return (
        _dialect_by_value(batch.fmt, expected, found)
        or _cut_off_writer(batch, cache, expected, found)
        or beyond_limit(_starts(batch), _any_part(differing(expected, found, ulps)))
        or UNEXPLAINED
    )


def explain_reader(batch: Batch, cache: Tensor, expected: Tokens, found: Tokens) -> Explanation:
    """Explain a wrong gather.

    Args:
        batch: where the tokens lie.
        cache: the cache that was read, which is right.
        expected: the tokens.
        found: what the row read.
    """
    seen = cache[batch.seen]
    for each in hypotheses(batch.fmt):
        if _agree(each.apply(batch.read(seen, each.fmt, each.shift, each.roll)), found, expected, 0):
            return each.explanation
    return (
        _dialect_by_value(batch.fmt, expected, found)
        or _cut_off_reader(batch, cache, expected, found)
        or beyond_limit(_starts(batch), _any_part(differing(expected, found, 0)))
        or UNEXPLAINED
    )


def beyond_limit(starts: Tensor, wrong: Tensor) -> Explanation | None:
    """Return an explanation where everything wrong lies beyond what 32-bit offsets reach.

    Args:
        starts: where the tokens' pages begin, in bytes.
        wrong: which of the tokens are wrong.
    """
    for limit in LIMITS:
        beyond = starts >= limit
        # Some of what is read by chance may be right.
        if not (wrong & ~beyond).any() and 2 * wrong.sum() > beyond.sum():
            return Explanation("offset-overflow", f"all that is wrong lies beyond the cache's first {limit:,} bytes")
    return None


def _agree(predicted: Tokens, found: Tokens, expected: Tokens, ulps: int) -> bool:
    # Keys or scales that are right ask for no explanation: offsets of one may be cut off and not of the other.
    pairs = zip(differing(expected, found, ulps), differing(predicted, found, ulps), strict=True)
    return all(not wrong.any() or not unexplained.any() for wrong, unexplained in pairs)


def _any_part(parts: tuple[Tensor, Tensor]) -> Tensor:
    return parts[0].any(dim=1) | parts[1]


def _exponent_alone(scales: Tensor) -> Tensor:
    return (scales.view(torch.int32) & 0x7F800000).view(torch.float32)


def _other_dialect(fmt: PageFormat) -> PageFormat:
    return replace(fmt, dialect="e4m3fn" if fmt.dialect == "e4m3fnuz" else "e4m3fnuz")


def _dialect_by_value(fmt: PageFormat, expected: Tokens, found: Tokens) -> Explanation | None:
    # The codes of NaN differ, and a negative zero is one of them: those have no value to compare.
    other = _other_dialect(fmt)
    right = _values(fmt, expected)
    for speaks, factor, text in (
        (other, 1.0, f"keys are {other.dialect}, in which they are worth what is right in {fmt.dialect}"),
        (fmt, 2.0, "every value is exactly twice the right one"),
        (fmt, 0.5, "every value is exactly half the right one"),
    ):
        values = _values(speaks, found)
        finite = values.isfinite() & right.isfinite()
        if finite.any() and torch.equal(values[finite], right[finite] * factor):
            return Explanation("dialect", text)
    return None


def _values(fmt: PageFormat, tokens: Tokens) -> Tensor:
    return tokens[0].view(fp8_dtype(fmt)).double() * tokens[1].double()[:, None]


def _starts(batch: Batch) -> Tensor:
    return batch.slots // batch.fmt.page_size * batch.fmt.page_bytes


def _powers(batch: Batch) -> list[int]:
    # Offsets are cut off at 2**31 or 2**32, or where a kernel counts in words or pages, at another power of two.
    size = batch.pages * batch.fmt.page_bytes
    return [1 << bits for bits in range((2 * batch.fmt.page_bytes).bit_length(), size.bit_length()) if 1 << bits < size]


def _sides(batch: Batch, limit: int) -> tuple[Tensor, Tensor]:
    # Tokens in pages beyond a limit, and those in pages that lie across a multiple of it: their bytes are cut off or
    # not, as the kernel cuts off the page's offset or each byte's.
    starts = _starts(batch)
    return starts >= limit, starts // limit != (starts + batch.fmt.page_bytes - 1) // limit


def _cut_off_reader(batch: Batch, cache: Tensor, expected: Tokens, found: Tokens) -> Explanation | None:
    flat, offsets, dim = cache.view(-1), batch.offsets(), batch.fmt.head_dim
    wrong = _any_part(differing(expected, found, 0))
    for limit in _powers(batch):
        beyond, across = _sides(batch, limit)
        if not _all_wrong(wrong, beyond & ~across):
            continue
        remains = flat[offsets % limit]
        for read, text in (
            (remains, "at what remains of their offset"),
            (torch.where(offsets < limit, remains, 0), "as zero"),
        ):
            predicted = (read[:, :dim], reference.decode_scales(read[:, dim:], batch.fmt))
            if _agree(_only(predicted, ~across), _only(found, ~across), _only(expected, ~across), 0):
                return Explanation("offset-overflow", f"bytes beyond the cache's first {limit:,} are read {text}")
    return None


def _cut_off_writer(batch: Batch, cache: Tensor, expected: Tokens, found: Tokens) -> Explanation | None:
    dim = batch.fmt.head_dim
    wrong_keys, wrong_scales = differing(expected, found, 0)
    # Offsets of scales may be counted in words, and so be right where those of keys are cut off.
    columns = slice(0 if wrong_keys.any() else dim, dim + 4 if wrong_scales.any() else dim)
    offsets = batch.offsets()[:, columns]
    right = torch.cat((expected[0], reference.encode_scales(expected[1], batch.fmt)), dim=1)[:, columns]
    was = batch.blank.view(-1)[batch.offsets(seen=True)[:, columns]]
    now = cache.view(-1)[offsets]
    starts = _starts(batch)[:, None]
    for limit in _powers(batch):
        beyond, across = _sides(batch, limit)
        sure, below = beyond & ~across, ~beyond & ~across
        if not _all_wrong(wrong_keys.any(dim=1) | wrong_scales, sure):
            continue
        landed = offsets[sure] % limit
        perhaps = torch.cat((offsets % limit, starts % limit + offsets - starts))[across.repeat(2)]
        hit = torch.isin(offsets, torch.cat((landed, perhaps)))
        # A byte on which something else lands, too, may hold either.
        _, which, times = landed.unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]  # torch has no types for it
        alone = (times[which] == 1) & ~torch.isin(landed, torch.cat((perhaps, offsets[~sure])))
        if (
            alone.any()
            and torch.equal(cache.view(-1)[landed[alone]], right[sure][alone])
            and torch.equal(now[sure][~hit[sure]], was[sure][~hit[sure]])
            and torch.equal(now[below][~hit[below]], right[below][~hit[below]])
        ):
            text = f"bytes beyond the cache's first {limit:,} are written at what remains of their offset"
            return Explanation("offset-overflow", text)
    return None


def _all_wrong(wrong: Tensor, beyond: Tensor) -> bool:
    # Nothing that is cut off is right by chance; tells most limits apart without a look at the cache.
    return bool(beyond.any() and wrong[beyond].all())


def _only(tokens: Tokens, which: Tensor) -> Tokens:
    return tokens[0][which], tokens[1][which]
