"""vLLM's real store and its fallback's reading, on a CPU; needs `--wheels`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import triton
from triton import language as tl

from nsa_caps.engines import vllm
from nsa_caps.kernels import reference, reference_logits
from nsa_caps.pages import PageFormat
from tests.downstream.wheels import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from tests.downstream.wheels import Wheel

OPS = "vllm.v1.attention.ops.rocm_aiter_mla_sparse"
PAGES = 8


def real_ops(wheel: Wheel, folder: Path) -> Any:
    """Return vLLM's module of ROCm kernels, executed beside this process's own torch and Triton."""
    platform = SimpleNamespace(is_rocm=lambda: False, fp8_dtype=lambda: torch.float8_e4m3fn)
    given: dict[str, dict[str, object]] = {
        "vllm.platforms": {"current_platform": platform},
        "vllm.triton_utils": {"tl": tl, "triton": triton},
        "vllm.utils.math_utils": {"cdiv": lambda number, size: -(-number // size)},
    }
    return Sandbox(wheel, folder, {OPS}, given).load(OPS)


def exact_keys(tokens: int) -> torch.Tensor:
    """Return keys that fp8 holds as they are, at a scale of 1: Triton's interpreter rounds unlike any GPU."""
    codes = torch.randint(0, 0x7F, (tokens, 128), dtype=torch.uint8) | (torch.randint(0, 2, (tokens, 128)) << 7)
    codes[:, 5] = 0x7E
    return codes.to(torch.uint8).view(torch.float8_e4m3fn).to(torch.bfloat16)


@pytest.mark.parametrize("block_size", [1, *vllm.BLOCK_SIZES["aiter-preshuffle"]])
def test_the_real_store_writes_what_the_shim_says(vllms: list[Wheel], tmp_path: Path, block_size: int) -> None:
    """Tiles into every block above 1, flat keys into blocks of 1: byte for byte what our store writes."""
    fmt = PageFormat(page_size=block_size, order="flat" if block_size == 1 else "tiles", scale_format="ue8m0")
    tokens = 3 * block_size
    keys = exact_keys(tokens)
    slots = torch.randperm(PAGES * block_size)[:tokens]
    for wheel in vllms:
        ops = real_ops(wheel, tmp_path)
        theirs = torch.zeros((PAGES, block_size, 132), dtype=torch.uint8)
        ops.indexer_k_quant_and_cache_triton(keys, theirs, slots, 128, "ue8m0")
        ours = torch.zeros((PAGES, fmt.page_bytes), dtype=torch.uint8)
        reference.quantise_and_store(ours, slots, keys, fmt=fmt)
        assert torch.equal(theirs.view(PAGES, -1), ours), f"{wheel}"


@pytest.mark.parametrize(("block_size", "right"), [(1, True), (64, False)])
def test_the_fallback_reads_flat_keys(vllms: list[Wheel], tmp_path: Path, block_size: int, *, right: bool) -> None:
    """Without aiter vLLM scores with plain torch, which reads what its store wrote only in blocks of one token."""
    fmt = PageFormat(page_size=block_size, scale_format="ue8m0")
    tokens = PAGES * block_size
    q = torch.randn(1, 1, 32, 128).to(torch.float8_e4m3fn)
    weights, lens = torch.rand(1, 32), torch.tensor([tokens], dtype=torch.int32)
    table = torch.randperm(PAGES, dtype=torch.int32)[None]
    slots = (table[0].long()[:, None] * block_size + torch.arange(block_size)).flatten()
    keys = exact_keys(tokens)
    flat = torch.zeros((PAGES, fmt.page_bytes), dtype=torch.uint8)
    reference.quantise_and_store(flat, slots, keys, fmt=fmt)
    expected = reference_logits.logits(q, flat, weights, lens, table, tokens, fmt=fmt)
    for wheel in vllms:
        ops = real_ops(wheel, tmp_path)
        cache = torch.zeros((PAGES, block_size, 132), dtype=torch.uint8)
        ops.indexer_k_quant_and_cache_triton(keys, cache, slots, 128, "ue8m0")
        found = ops.fp8_paged_mqa_logits_torch(q, cache[:, :, None], weights, lens, table, tokens)
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3) is right, f"{wheel}"
