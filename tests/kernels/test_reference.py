"""The reference kernels against oracles in plain Python: layout byte by byte, fp8 and scales from their definition."""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
import torch

from nsa_caps.archs import Dialect
from nsa_caps.kernels import reference
from nsa_caps.kernels.arguments import fp8_dtype
from nsa_caps.pages import Order, PageFormat, ScaleFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.kernels.conftest import Batch

    MakeBatch = Callable[[Sequence[int], int], Batch]

PAGES: list[tuple[int, Order]] = [(1, "flat"), (16, "flat"), (16, "tiles"), (64, "flat"), (64, "tiles")]
FORMATS = [
    fmt
    for page_size, order in PAGES
    for fmt in (
        PageFormat(page_size=page_size, order=order),
        PageFormat(page_size=page_size, order=order, dialect="e4m3fnuz", scale_format="ue8m0_packed", row_stride=144),
    )
]


def fp8_values(dialect: Dialect) -> dict[int, float]:
    """Value of every code that is not NaN, from the definition of the dialect."""
    bias = 8 if dialect == "e4m3fnuz" else 7
    nan = {0x80} if dialect == "e4m3fnuz" else {0x7F, 0xFF}
    values = {}
    for code in sorted(set(range(256)) - nan):
        exponent, mantissa = (code >> 3) & 15, code & 7
        size = math.ldexp(8 + mantissa, exponent - bias - 3) if exponent else math.ldexp(mantissa, 1 - bias - 3)
        values[code] = -size if code & 0x80 else size
    return values


def nearest_code(value: float, dialect: Dialect) -> int:
    """The code nearest to a finite value; of two as near, the even one. The oracle of rounding."""
    sizes = {size: code for code, size in fp8_values(dialect).items() if code < 0x80}
    ordered = sorted(sizes)
    above = min(bisect_left(ordered, abs(value)), len(ordered) - 1)
    candidates = [sizes[ordered[above]], sizes[ordered[max(above - 1, 0)]]]
    code = min(candidates, key=lambda code: (abs(fp8_values(dialect)[code] - abs(value)), code & 1))
    signed = math.copysign(1, value) < 0 and not (dialect == "e4m3fnuz" and code == 0)
    return code | 0x80 if signed else code


def interesting_values(dialect: Dialect) -> list[float]:
    """Every fp8 value, every midpoint between two, and their fp32 neighbours."""
    sizes = np.unique(np.abs(np.array(list(fp8_values(dialect).values()), dtype=np.float32)))
    points = np.concatenate([sizes, (sizes[1:] + sizes[:-1]) / 2])
    around = np.concatenate([points, np.nextafter(points, np.float32(0)), np.nextafter(points, np.float32(np.inf))])
    return [float(value) for value in np.concatenate([around, -around]) if abs(value) <= sizes[-1]]


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_keys_round_to_the_nearest_code_and_ties_to_even(dialect: Dialect, device: str) -> None:
    """At a scale of exactly 1, every fp8 value, midpoint and neighbour takes the code that a search finds."""
    fmt = PageFormat(page_size=1, dialect=dialect)
    values = interesting_values(dialect)
    rows = [values[start : start + 127] for start in range(0, len(values), 127)]
    keys = torch.tensor([[fmt.fp8_max, *row, *[0.0] * (127 - len(row))] for row in rows], device=device)
    codes, scales = reference.quantise(keys, fmt)
    assert scales.tolist() == [1.0] * len(rows)
    expected = [[nearest_code(value, dialect) for value in row] for row in keys.tolist()]
    assert codes.view(torch.uint8).tolist() == expected


@pytest.mark.parametrize("dialect", get_args(Dialect))
@pytest.mark.parametrize("scale_format", get_args(ScaleFormat))
def test_scales_follow_the_largest_element(dialect: Dialect, scale_format: ScaleFormat, device: str) -> None:
    """fp32: max(amax, 1e-4) / fp8_max, each step rounded to fp32; ue8m0: the power of two at or above it."""
    fmt = PageFormat(page_size=1, dialect=dialect, scale_format=scale_format)
    amax = [
        0.0,
        1e-5,
        1e-4,
        0.3,
        1.0,
        3.7,
        fmt.fp8_max,
        fmt.fp8_max * 2,
        np.nextafter(np.float32(fmt.fp8_max), 1000),
        3e38,
    ]
    keys = torch.zeros((len(amax), 128), device=device)
    keys[:, 17] = -torch.tensor(np.array(amax, dtype=np.float32), device=device)
    _, scales = reference.quantise(keys, fmt)
    exact = np.maximum(np.array(amax, dtype=np.float32), np.float32(1e-4)) / np.float32(fmt.fp8_max)
    if scale_format != "fp32":
        exact = np.array([2.0 ** math.ceil(math.log2(float(scale))) for scale in exact], dtype=np.float32)
    np.testing.assert_array_equal(scales.cpu().numpy(), exact)


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_a_nan_stays_in_its_element(dialect: Dialect, device: str) -> None:
    """NaN elements become the dialect's NaN and do not count for the scale, so their neighbours stay right."""
    fmt = PageFormat(page_size=1, dialect=dialect)
    keys = torch.full((1, 128), fmt.fp8_max, device=device)
    keys[0, 3] = torch.nan
    codes, scales = reference.quantise(keys, fmt)
    assert scales.tolist() == [1.0]
    assert codes.float().isnan()[0].nonzero().flatten().tolist() == [3]


def scale_bytes(scale: float, fmt: PageFormat) -> bytes:
    """A scale as the page holds it, from struct and frexp."""
    if fmt.scale_format == "ue8m0_packed":
        return bytes([math.frexp(scale)[1] - 1 + 127]) * 4
    return struct.pack("<f", scale)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_stored_bytes_lie_where_the_format_says(fmt: PageFormat, make_batch: MakeBatch) -> None:
    """Byte by byte through `key_offset` and `scale_offset`; skipped slots and all other bytes are untouched."""
    batch = make_batch([1, 0, 2 * fmt.page_size + 1], fmt.page_size)
    keys = torch.randint(0, 256, (batch.tokens, 128), dtype=torch.uint8, device=batch.slots.device)
    scales = 2.0 ** torch.randint(-20, 20, (batch.tokens,), device=batch.slots.device)
    batch.slots[1] = -1
    cache = batch.cache(fmt)
    expected = cache.cpu().numpy().copy()
    for slot, key, scale in zip(batch.slots.tolist(), keys.tolist(), scales.tolist(), strict=True):
        if slot < 0:
            continue
        page, place = divmod(slot, fmt.page_size)
        for dim, code in enumerate(key):
            expected[page, fmt.key_offset(place, dim)] = code
        start = fmt.scale_offset(place)
        expected[page, start : start + 4] = list(scale_bytes(scale, fmt))
    reference.store(cache, batch.slots, keys, scales, fmt=fmt)
    np.testing.assert_array_equal(cache.cpu().numpy(), expected)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_gathered_rows_are_those_stored(fmt: PageFormat, make_batch: MakeBatch) -> None:
    """What went into shuffled pages comes back in order, over requests of no, one, and several partly filled pages."""
    batch = make_batch([0, 3, fmt.page_size, 0, 2 * fmt.page_size + 5, 1, 0], fmt.page_size)
    cache = batch.cache(fmt)
    values = torch.randn((batch.tokens, 128), dtype=torch.bfloat16, device=cache.device)
    reference.quantise_and_store(cache, batch.slots, values, fmt=fmt)
    keys, scales = reference.gather(
        cache, batch.page_table, batch.cu_seq_lens, total_tokens=batch.tokens, fmt=fmt, checked=True
    )
    expected_keys, expected_scales = reference.quantise(values, fmt)
    assert keys.dtype == fp8_dtype(fmt)
    assert torch.equal(keys.view(torch.uint8), expected_keys.view(torch.uint8))
    assert torch.equal(scales, expected_scales)


def test_every_packed_exponent_is_read_as_its_power_of_two(device: str) -> None:
    """All exponents but the last, which e8m0 keeps for NaN and no finite key has."""
    fmt = PageFormat(page_size=1, scale_format="ue8m0_packed")
    stored = torch.arange(255, dtype=torch.uint8, device=device)[:, None].expand(-1, 4)
    expected = [math.ldexp(1.0, exponent - 127) for exponent in range(255)]
    assert reference.decode_scales(stored, fmt).tolist() == expected


@pytest.mark.parametrize("total_tokens", [0, 4, 9])
def test_gathering_needs_no_value_on_the_host(total_tokens: int) -> None:
    """Compiled whole: where a value is asked for on the host, `torch.compile` has to break the graph, and fails."""
    fmt = PageFormat(page_size=16)
    arguments = (
        torch.zeros(7, fmt.page_bytes, dtype=torch.uint8),
        torch.zeros(2, 3, dtype=torch.int32),
        torch.tensor([0, 4, 9], dtype=torch.int32),
    )
    gather = torch.compile(reference.gather, backend="eager", fullgraph=True)
    keys, scales = gather(*arguments, total_tokens=total_tokens, fmt=fmt)
    assert (tuple(keys.shape), tuple(scales.shape)) == ((total_tokens, 128), (total_tokens,))
