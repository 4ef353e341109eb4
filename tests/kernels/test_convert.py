"""Pages of one format turned into another: same values, whichever way they are written down."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, get_args

import pytest
import torch

from nsa_caps.kernels import reference
from nsa_caps.kernels.checks import KernelArgumentError, fp8_dtype
from nsa_caps.kernels.convert import convert
from nsa_caps.pages import Dialect, Order, PageFormat, ScaleFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.kernels.conftest import Batch

    MakeBatch = Callable[[Sequence[int], int], Batch]

FORMATS = [
    PageFormat(page_size=16, order=order, dialect=dialect, scale_format=scale_format, row_stride=row_stride)
    for order in get_args(Order)
    for dialect in get_args(Dialect)
    for scale_format in get_args(ScaleFormat)
    for row_stride in (132, 144)
]


def is_exact(source: PageFormat, target: PageFormat) -> bool:
    """Whether the docstring promises the same values bit for bit."""
    scales_round = source.scale_format == "fp32" and target.scale_format != "fp32"
    return not scales_round and not (source.dialect == "e4m3fnuz" and target.dialect == "e4m3fn")


def read(cache: torch.Tensor, batch: Batch, fmt: PageFormat) -> tuple[torch.Tensor, torch.Tensor]:
    """The keys of a cache and their values in float64, where products of fp8 and fp32 are exact."""
    keys, scales = reference.gather(cache, batch.page_table, batch.cu_seq_lens, total_tokens=batch.tokens, fmt=fmt)
    return keys, keys.double() * scales.double()[:, None]


@pytest.mark.parametrize("source", FORMATS, ids=str)
def test_values_survive_every_conversion(source: PageFormat, make_batch: MakeBatch) -> None:
    """Exactly where promised; elsewhere to half a step of fp8: 1/16 of the element, or of the smallest subnormals."""
    batch = make_batch([30, 5], 16)
    cache = torch.zeros((batch.pages, source.page_bytes), dtype=torch.uint8, device=batch.slots.device)
    reference.quantise_and_store(cache, batch.slots, torch.randn((35, 128), device=cache.device), fmt=source)
    _, before = read(cache, batch, source)
    # Half of 2**-9 at the new scale, which may be twice the old one, and half of it again at the old scale.
    smallest = before.abs().amax(dim=1, keepdim=True) / 240 * 2**-8
    for target in FORMATS:
        _, after = read(convert(cache, source, target), batch, target)
        if is_exact(source, target):
            assert torch.equal(before, after), target
        else:
            assert bool(((after - before).abs() <= before.abs() / 16 + smallest).all()), target


def test_there_and_back_is_where_it_began() -> None:
    """Every code of e4m3fn but its NaNs and negative zero, through e4m3fnuz and tiles and back."""
    source = PageFormat(page_size=16)
    target = PageFormat(page_size=16, order="tiles", dialect="e4m3fnuz", row_stride=144)
    codes = torch.tensor([code for code in range(256) if code not in (0x7F, 0x80, 0xFF)] * 9, dtype=torch.uint8)
    cache = torch.zeros((1, source.page_bytes), dtype=torch.uint8)
    reference.store(cache, torch.arange(16), codes[: 16 * 128].view(16, 128), torch.rand(16), fmt=source)
    assert torch.equal(convert(convert(cache, source, target), target, source), cache)


@pytest.mark.parametrize(("source_dialect", "target_dialect"), [*itertools.permutations(get_args(Dialect))])
def test_nan_and_zero_keep_their_meaning(source_dialect: Dialect, target_dialect: Dialect) -> None:
    """The dialects write NaN in each other's finite or zero codes."""
    source, target = (PageFormat(page_size=1, dialect=dialect) for dialect in (source_dialect, target_dialect))
    keys = torch.ones((2, 128))
    keys[:, :4] = torch.tensor([torch.nan, 0.0, -0.0, 2.0**-9])
    # The bits of 240 are those of the other dialect's NaN, so that a token with one takes another way.
    keys[1, 4:6] = torch.tensor([240.0, -240.0])
    keys = keys.to(fp8_dtype(source))
    cache = torch.zeros((2, 132), dtype=torch.uint8)
    reference.store(cache, torch.arange(2), keys, torch.ones(2), fmt=source)
    table, bounds = torch.tensor([[0, 1]], dtype=torch.int32), torch.tensor([0, 2], dtype=torch.int32)
    found, scales = reference.gather(convert(cache, source, target), table, bounds, total_tokens=2, fmt=target)
    assert torch.allclose(found.float() * scales[:, None], keys.float(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"page_size": 32}, "page_size"), ({"head_dim": 256, "quant_block_size": 256}, "head_dim")],
)
def test_formats_of_other_sizes_are_refused(changes: dict[str, int], named: str) -> None:
    """A page is converted whole, so both formats hold the same tokens of the same keys."""
    source = PageFormat(page_size=16)
    target = PageFormat(**({"page_size": 16} | changes))  # type: ignore[arg-type]
    with pytest.raises(KernelArgumentError, match=f"^target: got {named} "):
        convert(torch.zeros((1, source.page_bytes), dtype=torch.uint8), source, target)


def test_several_scales_a_token_are_refused() -> None:
    """No kernel reads or writes them."""
    fmt = PageFormat(page_size=16, quant_block_size=64)
    with pytest.raises(KernelArgumentError, match=r"^source: got 2 scales a token"):
        convert(torch.zeros((1, fmt.page_bytes), dtype=torch.uint8), fmt, fmt)
