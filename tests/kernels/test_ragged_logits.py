"""Prefill: what the portable kernel scores, against the reference, and the reference against a sum written out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from nsa_caps.kernels import reference_logits
from nsa_caps.kernels.arguments import fp8_dtype
from nsa_caps.kernels.errors import KernelArgumentError
from nsa_caps.kernels.portable.ragged_logits import ragged_logits
from nsa_caps.pages import PageFormat

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = (PageFormat(page_size=64), PageFormat(page_size=64, dialect="e4m3fnuz"))


def prompt(fmt: PageFormat, tokens: int, total: int, heads: int, device: str) -> tuple[Tensor, ...]:
    """Whole numbers, whose every score is exact; some queries see nothing, and some all keys."""
    generator = torch.Generator().manual_seed(tokens + total + heads)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-3, 4, shape, generator=generator).float()

    ends = torch.randint(0, total + 1, (tokens,), generator=generator)
    starts = (torch.rand(tokens, generator=generator) * (ends + 1)).long()
    starts[0], ends[0], ends[-1] = 0, total, starts[-1]
    q, keys = whole(tokens, heads, fmt.head_dim).to(fp8_dtype(fmt)), whole(total, fmt.head_dim).to(fp8_dtype(fmt))
    scales = 2.0 ** torch.randint(-3, 4, (total,), generator=generator)
    parts = (q, keys, scales, whole(tokens, heads), starts.to(torch.int32), ends.to(torch.int32))
    return tuple(part.to(device) for part in parts)


@pytest.mark.parametrize("fmt", FORMATS, ids=["e4m3fn", "e4m3fnuz"])
def test_the_reference_is_the_sum_as_written(fmt: PageFormat) -> None:
    """`sum_h w[h] * relu(q[h] . k[t]) * scale[t]`, key by key; -inf where a query sees no key."""
    q, keys, scales, weights, starts, ends = prompt(fmt, 3, 7, 16, "cpu")
    found = reference_logits.ragged_logits(q, keys, scales, weights, starts, ends, fmt=fmt)
    for token in range(3):
        for key in range(7):
            products = [float((q[token, head].float() * keys[key].float()).sum()) for head in range(16)]
            score = sum(float(weights[token, head]) * max(0.0, products[head]) for head in range(16)) * scales[key]
            seen = starts[token] <= key < ends[token]
            assert found[token, key] == (score if seen else -torch.inf)


@pytest.mark.parametrize("fmt", FORMATS, ids=["e4m3fn", "e4m3fnuz"])
@pytest.mark.parametrize("heads", [16, 32, 64])
@pytest.mark.parametrize(("tokens", "total"), [(5, 70), (1, 64), (9, 200)])
def test_the_portable_kernel_is_the_reference(
    fmt: PageFormat, heads: int, tokens: int, total: int, device: str
) -> None:
    """Bit for bit; without `clean` what no query sees is left as it was."""
    call = prompt(fmt, tokens, total, heads, device)
    expected = reference_logits.ragged_logits(*call, fmt=fmt)
    assert torch.equal(ragged_logits(*call, fmt=fmt), expected)
    out = torch.full_like(expected, 7.0)
    found = ragged_logits(*call, fmt=fmt, clean=False, out=out)
    assert found.data_ptr() == out.data_ptr()
    assert torch.equal(found, expected.masked_fill(expected == -torch.inf, 7.0))


@pytest.mark.parametrize("fmt", FORMATS, ids=["e4m3fn", "e4m3fnuz"])
def test_keys_that_begin_at_any_byte_are_read(fmt: PageFormat, device: str) -> None:
    """Keys are read as words of four bytes only where they are words."""
    q, keys, *rest = prompt(fmt, 5, 70, 32, device)
    room = torch.zeros(keys.numel() + 1, dtype=torch.uint8, device=device)
    room[1:] = keys.view(torch.uint8).flatten()
    shifted = room[1:].view(keys.shape)
    assert torch.equal(ragged_logits(q, shifted, *rest, fmt=fmt), ragged_logits(q, keys, *rest, fmt=fmt))


def test_no_queries_and_no_keys_are_no_scores(device: str) -> None:
    """An idle rank asks for nothing and gets it."""
    fmt = FORMATS[0]
    q, keys, scales, weights, starts, ends = prompt(fmt, 2, 8, 32, device)
    nothing = ragged_logits(q[:0], keys, scales, weights[:0], starts[:0], ends[:0], fmt=fmt)
    assert nothing.shape == (0, 8)
    assert ragged_logits(q, keys[:0], scales[:0], weights, starts, ends, fmt=fmt).shape == (2, 0)


@pytest.mark.parametrize("score", [ragged_logits, reference_logits.ragged_logits], ids=["portable", "reference"])
def test_rows_that_overlap_are_refused(score: object, device: str) -> None:
    """Of two rows in one place the one that is written last would stand in both."""
    call = prompt(FORMATS[0], 3, 8, 32, device)
    out = torch.empty(8, device=device).expand(3, 8)
    with pytest.raises(KernelArgumentError, match=r"^out: "):
        score(*call, fmt=FORMATS[0], out=out)  # type: ignore[operator] # one of two functions
