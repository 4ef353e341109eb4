"""The Triton kernels against the reference, byte for byte: in the interpreter, or on the GPU if there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsa_caps.archs import Dialect
from nsa_caps.kernels import reference
from nsa_caps.kernels.portable import store_gather as portable
from nsa_caps.pages import Order, PageFormat, ScaleFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.kernels.conftest import Batch

    MakeBatch = Callable[[Sequence[int], int], Batch]

FORMATS = [
    PageFormat(page_size=page_size, order=order, dialect=dialect, scale_format=scale_format)
    for page_size in (1, 16, 32, 64, 128, 256)
    for order in get_args(Order)
    for dialect in get_args(Dialect)
    for scale_format in get_args(ScaleFormat)
    if order == "flat" or page_size % 16 == 0
]
UNUSUAL_FORMATS = [
    PageFormat(page_size=48, order="tiles"),
    PageFormat(page_size=3),
    PageFormat(page_size=2, head_dim=64, quant_block_size=64),
    PageFormat(page_size=16, order="tiles", row_stride=144, dialect="e4m3fnuz"),
    PageFormat(page_size=1, row_stride=144, scale_format="ue8m0_packed"),
]


def poison(tokens: int, fmt: PageFormat, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs that hold what no gather leaves by chance."""
    keys = torch.full((tokens, fmt.head_dim), 0xA5, dtype=torch.uint8, device=device)
    return keys, torch.full((tokens,), -123.0, device=device)


def bits(tensors: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and scales as integers, so that NaN equals itself."""
    return tensors[0].view(torch.uint8), tensors[1].view(torch.int32)


def assert_same_bytes(fmt: PageFormat, batch: Batch) -> None:
    """Both implementations write the same cache, and read the same rows out of it, from fresh random keys."""
    device = batch.slots.device
    values = torch.randn((batch.tokens, fmt.head_dim), device=device).to(torch.bfloat16)
    values *= 10.0 ** torch.randint(-6, 6, (batch.tokens, 1), device=device)
    slots = torch.where(torch.rand(batch.tokens, device=device) < 0.2, -1, batch.slots)
    expected = batch.cache(fmt)

    found = expected.clone()
    portable.quantise_and_store(found, slots, values, fmt=fmt)
    reference.quantise_and_store(expected, slots, values, fmt=fmt)
    assert torch.equal(found, expected)

    keys, scales = reference.quantise(values, fmt)
    portable.store(found, batch.slots, keys, scales, fmt=fmt)
    reference.store(expected, batch.slots, keys, scales, fmt=fmt)
    assert torch.equal(found, expected)

    arguments = (expected, batch.page_table, batch.cu_seq_lens)
    for total_tokens in {batch.tokens // 2, batch.tokens, batch.tokens + 5}:
        outs = [poison(batch.tokens + 9, fmt, device) for _ in range(2)]
        portable.gather(*arguments, total_tokens=total_tokens, out=outs[0], fmt=fmt)
        reference.gather(*arguments, total_tokens=total_tokens, out=outs[1], fmt=fmt)
        written = min(total_tokens, batch.tokens)
        assert torch.equal(outs[0][0][:written], keys.view(torch.uint8)[:written])
        assert all(map(torch.equal, bits(outs[0]), bits(outs[1])))


@pytest.mark.parametrize(
    "fmt",
    [*(pytest.param(fmt, marks=pytest.mark.slow) if fmt.page_size > 64 else fmt for fmt in FORMATS), *UNUSUAL_FORMATS],
    ids=str,
)
def test_every_format_stores_and_gathers_as_the_reference_does(fmt: PageFormat, make_batch: MakeBatch) -> None:
    """Over requests of no token, one, a page, a page and a part, with skipped slots and rows beyond the last."""
    assert_same_bytes(fmt, make_batch([0, 1, 33, 0, fmt.page_size, fmt.page_size + 7, 0], fmt.page_size))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=9),
    fmt=st.sampled_from([fmt for fmt in FORMATS if fmt.page_size <= 64]),
)
def test_any_ragged_batch_is_gathered_as_the_reference_does(
    lengths: list[int], fmt: PageFormat, make_batch: MakeBatch
) -> None:
    """Batches of one to nine requests, with empty ones anywhere."""
    assert_same_bytes(fmt, make_batch(lengths, fmt.page_size))


# The interpreter is numpy, which warns of what a GPU does silently: infinity times its scale's reciprocal, 0.
@pytest.mark.filterwarnings("ignore:invalid value encountered in multiply:RuntimeWarning")
@pytest.mark.parametrize("dialect", get_args(Dialect))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_bit_pattern_is_quantised_as_the_reference_does(
    dialect: Dialect, dtype: torch.dtype, device: str
) -> None:
    """All 65,536 patterns of bf16 and fp16, and as many random ones of fp32: NaN, infinity, zeros, subnormals."""
    fmt = PageFormat(page_size=64, dialect=dialect)
    patterns = torch.randperm(65536, device=device)
    if dtype == torch.float32:
        keys = (patterns * 65536 + torch.randint(0, 65536, (65536,), device=device)).to(torch.int32).view(dtype)
    else:
        keys = patterns.to(torch.int16).view(dtype)
    keys = keys.view(-1, 128)
    slots = torch.arange(keys.shape[0], device=device)
    caches = [torch.zeros((8, fmt.page_bytes), dtype=torch.uint8, device=device) for _ in range(2)]
    portable.quantise_and_store(caches[0], slots, keys, fmt=fmt)
    reference.quantise_and_store(caches[1], slots, keys, fmt=fmt)
    assert torch.equal(*caches)


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_rounding_agrees_over_the_whole_range(dialect: Dialect, device: str) -> None:
    """Keys whose scale is 1, so that each element is rounded as it is: 65,536 of all sizes that fp8 tells apart."""
    fmt = PageFormat(page_size=64, dialect=dialect)
    keys = (
        (torch.rand((512, 128), device=device) * 2 - 1)
        * fmt.fp8_max
        * 2.0 ** -torch.randint(0, 20, (512, 128), device=device)
    )
    keys[:, 0] = fmt.fp8_max
    slots = torch.arange(512, device=device)
    caches = [torch.zeros((8, fmt.page_bytes), dtype=torch.uint8, device=device) for _ in range(2)]
    portable.quantise_and_store(caches[0], slots, keys, fmt=fmt)
    reference.quantise_and_store(caches[1], slots, keys, fmt=fmt)
    assert torch.equal(*caches)


def test_every_packed_scale_is_read_as_the_reference_does(device: str) -> None:
    """All 256 exponents, of which quantised keys use a few dozen."""
    fmt = PageFormat(page_size=256, scale_format="ue8m0_packed")
    cache = torch.zeros((1, fmt.page_bytes), dtype=torch.uint8, device=device)
    cache[0, 256 * 128 :] = torch.arange(256, device=device).repeat_interleave(4).to(torch.uint8)
    table = torch.zeros((1, 1), dtype=torch.int32, device=device)
    bounds = torch.tensor([0, 256], dtype=torch.int32, device=device)
    found = portable.gather(cache, table, bounds, total_tokens=256, fmt=fmt)
    expected = reference.gather(cache, table, bounds, total_tokens=256, fmt=fmt)
    assert all(map(torch.equal, bits(found), bits(expected)))


def test_strided_arguments_are_read_in_place(make_batch: MakeBatch) -> None:
    """Pages that lie apart, a page table cut out of a wider one, and keys cut out of a wider projection."""
    fmt = PageFormat(page_size=16, order="tiles")
    batch = make_batch([20, 40], 16)
    device = batch.slots.device
    wide = torch.randint(0, 256, (batch.pages, fmt.page_bytes + 12), dtype=torch.uint8, device=device)
    apart, together = wide[:, : fmt.page_bytes], batch.cache(fmt)
    projection = torch.randn((batch.tokens, 203), device=device).to(torch.bfloat16)
    keys = projection[:, 7:135]
    outside = wide[:, fmt.page_bytes :].clone()
    portable.quantise_and_store(apart, batch.slots, keys, fmt=fmt)
    reference.quantise_and_store(together, batch.slots, keys.contiguous(), fmt=fmt)
    assert torch.equal(wide[:, fmt.page_bytes :], outside)
    table = torch.zeros((2, 50), dtype=torch.int32, device=device)
    table[:, 3 : 3 + batch.page_table.shape[1]] = batch.page_table
    cut = table[:, 3 : 3 + batch.page_table.shape[1]]
    found = portable.gather(apart, cut, batch.cu_seq_lens, total_tokens=60, fmt=fmt)
    expected = reference.gather(together, batch.page_table, batch.cu_seq_lens, total_tokens=60, fmt=fmt)
    assert all(map(torch.equal, bits(found), bits(expected)))


@pytest.mark.parametrize("page_size", [1, 64])
def test_pages_beyond_eight_gib_are_reached(page_size: int, device: str, tmp_path: Path) -> None:
    """The last pages of 9 GiB, where 32 bits count neither bytes nor words: they would wrap around (aiter#4774)."""
    fmt = PageFormat(page_size=page_size)
    pages = 9 * 2**30 // fmt.page_bytes
    if device == "cpu":
        # A sparse file: only the pages that are written take memory.
        path, size = str(tmp_path / "cache"), pages * fmt.page_bytes
        cache = torch.from_file(path, shared=True, size=size, dtype=torch.uint8).view(pages, fmt.page_bytes)
    else:
        cache = torch.empty((pages, fmt.page_bytes), dtype=torch.uint8, device=device)
    table = torch.arange(pages - 1, pages - 4, -1, dtype=torch.int32, device=device)[None]
    tokens = 3 * page_size
    slots = (table[0].long()[:, None] * page_size + torch.arange(page_size, device=device)).flatten()
    keys = torch.randint(0, 127, (tokens, 128), dtype=torch.uint8, device=device)
    scales = torch.rand(tokens, device=device)
    bounds = torch.tensor([0, tokens], dtype=torch.int32, device=device)
    portable.store(cache, slots, keys, scales, fmt=fmt)
    found = portable.gather(cache, table, bounds, total_tokens=tokens, fmt=fmt)
    # The same pages read out of a cache of three, where no offset is large.
    last, small = cache[-3:].clone(), torch.tensor([[2, 1, 0]], dtype=torch.int32, device=device)
    for rows in (found, reference.gather(last, small, bounds, total_tokens=tokens, fmt=fmt)):
        assert torch.equal(rows[0].view(torch.uint8), keys)
        assert torch.equal(rows[1], scales)


def test_rows_beyond_eight_gib_of_output_are_written(device: str) -> None:
    """The last of 67 million rows, where 32 bits do not count the words of the output."""
    if device != "cuda":
        pytest.skip("67 million rows take the interpreter hours, and this machine has no GPU")
    fmt = PageFormat(page_size=64, order="tiles")
    cache = torch.randint(0, 256, (1, fmt.page_bytes), dtype=torch.uint8, device=device)
    tokens = 2**26 + 64
    table = torch.zeros((1, tokens // 64), dtype=torch.int32, device=device)
    bounds = torch.tensor([0, tokens], dtype=torch.int32, device=device)
    out = poison(tokens, fmt, cache.device)
    portable.gather(cache, table, bounds, total_tokens=tokens, out=out, fmt=fmt)
    expected = reference.gather(cache, table, bounds, total_tokens=64, fmt=fmt)
    for rows in (slice(0, 64), slice(tokens - 64, tokens)):
        assert all(map(torch.equal, bits((out[0][rows], out[1][rows])), bits(expected)))


def test_a_gather_can_be_captured_in_a_graph(make_batch: MakeBatch, device: str) -> None:
    """One capture serves later contents of the same tensors."""
    if device != "cuda":
        pytest.skip("a graph needs a GPU, and this machine has none")
    fmt = PageFormat(page_size=64, order="tiles")
    batch = make_batch([100, 0, 300], 64)
    cache, out = batch.cache(fmt), poison(500, fmt, batch.slots.device)
    arguments = (cache, batch.page_table, batch.cu_seq_lens)
    portable.gather(*arguments, total_tokens=500, out=out, fmt=fmt)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        portable.gather(*arguments, total_tokens=500, out=out, fmt=fmt)
    cache.random_(0, 256)
    batch.page_table.copy_(batch.page_table.flip(0))
    batch.cu_seq_lens.copy_(torch.tensor([0, 300, 300, 400], dtype=torch.int32))
    expected = poison(500, fmt, batch.slots.device)
    for tensor, fresh in zip(out, expected, strict=True):
        tensor.copy_(fresh)
    graph.replay()
    reference.gather(*arguments, total_tokens=500, out=expected, fmt=fmt)
    assert all(map(torch.equal, bits(out), bits(expected)))


def test_without_a_gpu_the_error_names_the_ways_on() -> None:
    """A CPU tensor outside the interpreter is refused before Triton looks for a driver."""
    script = (
        "import torch\n"
        "from nsa_caps.kernels.portable import store_gather as portable\n"
        "from nsa_caps.pages import PageFormat\n"
        "fmt = PageFormat(page_size=1)\n"
        "none = torch.zeros((1, 1), dtype=torch.int32)\n"
        "portable.gather(torch.zeros((1, 132), dtype=torch.uint8), none, torch.zeros(2, dtype=torch.int32),\n"
        "                total_tokens=1, fmt=fmt)\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cache: got a tensor on the CPU; need one on a GPU" in done.stderr
