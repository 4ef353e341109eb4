"""What engines call of DeepGEMM and aiter, answered by a layout's kernels: here the reference's, on the CPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

import nsa_caps
from nsa_caps.engines.scores import hadamard, paged_scores, quantise, ragged_scores
from nsa_caps.engines.sglang.deep_gemm import AiterCalls, DeepGemmCalls
from nsa_caps.engines.vllm.calls import Calls, CustomOps
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

HEADS, DIM, PAGE = 32, 128, 64
FP8 = torch.float8_e4m3fn


@pytest.fixture
def layout(tmp_path: Path) -> nsa_caps.IndexerLayout:
    """Return the reference's layout."""
    return nsa_caps.select_indexer_layout(nsa_caps.probe(machine(tmp_path, platform="cpu")))


def random(*shape: int, seed: int = 0) -> Tensor:
    """Return random numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def batch(layout: nsa_caps.IndexerLayout) -> SimpleNamespace:
    """Return two requests of 70 and 130 keys in pages that lie in another order, and queries for each."""
    table = torch.tensor([[4, 1, 0], [2, 3, 5]], dtype=torch.int32)
    lengths = torch.tensor([70, 130], dtype=torch.int32)
    cache = torch.zeros((6, layout.format.page_bytes), dtype=torch.uint8)
    keys, scales = quantise(random(200, DIM), "ue8m0", FP8)
    slots = [int(table[0, i // PAGE]) * PAGE + i % PAGE for i in range(70)]
    slots += [int(table[1, i // PAGE]) * PAGE + i % PAGE for i in range(130)]
    layout.store(cache, torch.tensor(slots), keys, scales.reshape(-1))
    q = random(2, 2, HEADS, DIM, seed=1).to(FP8)
    return SimpleNamespace(
        table=table, lengths=lengths, cache=cache, keys=keys, scales=scales.reshape(-1), q=q,
        weights=random(4, HEADS, seed=2),
    )  # fmt: skip


def shown(scores: Tensor, lengths: list[int]) -> list[list[float]]:
    """Return the scores that each query may see; the rest is whatever it was."""
    return [row[:length].tolist() for row, length in zip(scores, lengths, strict=True)]


def test_paged_scores_are_the_layouts(layout: nsa_caps.IndexerLayout, batch: SimpleNamespace) -> None:
    """With a length a request the queries before the last see one key less each; the last is given."""
    found = paged_scores(layout, batch.q, batch.cache, batch.weights, batch.lengths, batch.table, 192)
    right = layout.logits(batch.q, batch.cache, batch.weights, batch.lengths, batch.table, 192)
    assert found.shape == (4, 192)
    assert shown(found, [69, 70, 129, 130]) == shown(right, [69, 70, 129, 130])
    column = paged_scores(layout, batch.q, batch.cache, batch.weights, batch.lengths.view(2, 1), batch.table, 192)
    assert shown(column, [69, 70, 129, 130]) == shown(right, [69, 70, 129, 130])


def test_queries_may_have_lengths_of_their_own(layout: nsa_caps.IndexerLayout, batch: SimpleNamespace) -> None:
    """DeepGEMM's `[batch, next_n]`: each query is scored as a request of its own with the same pages."""
    lengths = torch.tensor([[10, 70], [64, 65]], dtype=torch.int32)
    found = paged_scores(layout, batch.q, batch.cache, batch.weights, lengths, batch.table, 192)
    for index, (request, length) in enumerate([(0, 10), (0, 70), (1, 64), (1, 65)]):
        alone = layout.logits(
            batch.q.view(4, 1, HEADS, DIM)[index : index + 1], batch.cache, batch.weights[index : index + 1],
            torch.tensor([length], dtype=torch.int32), batch.table[request : request + 1], 192,
        )  # fmt: skip
        assert shown(found[index : index + 1], [length]) == shown(alone, [length])


def test_requests_may_name_their_row_of_the_page_table(layout: nsa_caps.IndexerLayout, batch: SimpleNamespace) -> None:
    """As SGLang hands `indices`: the second request first."""
    indices = torch.tensor([1, 0], dtype=torch.int32)
    swapped = paged_scores(
        layout, batch.q.flip(0), batch.cache, batch.weights.view(2, 2, HEADS).flip(0).reshape(4, HEADS),
        batch.lengths.flip(0), batch.table, 192, indices,
    )  # fmt: skip
    right = layout.logits(batch.q, batch.cache, batch.weights, batch.lengths, batch.table, 192)
    assert shown(swapped, [129, 130, 69, 70]) == shown(right[[2, 3, 0, 1]], [129, 130, 69, 70])


@pytest.mark.parametrize("count", [200, 197])
def test_ragged_scores_are_the_layouts(layout: nsa_caps.IndexerLayout, batch: SimpleNamespace, count: int) -> None:
    """Rows lie a multiple of 16 bytes apart, as the engines' top-k loads four scores at once, whatever the count."""
    q, weights = batch.q.view(4, HEADS, DIM), batch.weights
    starts, ends = torch.tensor([0, 0, 3, 70]).int(), torch.tensor([1, 70, 90, count]).int()
    keys, scales = batch.keys[:count], batch.scales[:count]
    found = ragged_scores(layout, q, keys, scales, weights, starts, ends)
    right = layout.ragged_logits(q, keys, scales, weights, starts, ends)
    assert (found.shape, found.stride(0) % 4) == ((4, count), 0)
    for row, good, start, end in zip(found, right, starts.tolist(), ends.tolist(), strict=True):
        assert torch.equal(row[start:end], good[start:end])


@pytest.mark.parametrize("scale_fmt", [None, "ue8m0"])
def test_quantising_is_by_blocks_and_loses_no_more_than_fp8_does(scale_fmt: str | None) -> None:
    """The largest of a block is the largest fp8, or less where scales are powers of two; zeros stay."""
    x = random(5, 256)
    x[0] = 0
    keys, scales = quantise(x, scale_fmt, FP8)
    assert (keys.shape, keys.dtype, scales.shape) == ((5, 256), FP8, (5, 2))
    back = (keys.float().view(5, 2, 128) * scales.unsqueeze(-1)).view(5, 256)
    assert torch.allclose(back, x, rtol=2**-4, atol=float(scales.max()) * 2**-9)
    assert keys[0].float().abs().max() == 0
    powers = torch.log2(scales)
    assert bool((powers == powers.round()).all()) is (scale_fmt == "ue8m0")
    if scale_fmt is None:
        assert keys[1:].float().view(-1, 128).abs().amax(-1).eq(448).all()


def test_hadamard_is_orthogonal_and_its_own_inverse() -> None:
    """Lengths and products stay, and the type of what was given."""
    x = random(3, 128)
    assert torch.allclose(hadamard(hadamard(x)), x, atol=1e-5)
    assert torch.allclose(hadamard(x).norm(dim=-1), x.norm(dim=-1))
    assert torch.allclose(hadamard(torch.eye(2)), torch.tensor([[1.0, 1.0], [1.0, -1.0]]) * 0.5**0.5)
    assert hadamard(x.bfloat16()).dtype == torch.bfloat16


def test_sglangs_calls_of_deepgemm(layout: nsa_caps.IndexerLayout, batch: SimpleNamespace) -> None:
    """Its arguments, in its order; what is not replaced is the real one's."""
    calls = DeepGemmCalls(layout).standing_in_for(SimpleNamespace(fp8_gemm_nt="the real one"))
    assert calls.fp8_gemm_nt == "the real one"
    with pytest.raises(AttributeError):
        DeepGemmCalls(layout).fp8_gemm_nt  # noqa: B018 asking is what is tested
    schedule = calls.get_paged_mqa_logits_metadata(batch.lengths, PAGE, 132)
    assert (schedule.shape, schedule.dtype) == ((133, 2), torch.int32)
    cache = batch.cache.view(6, PAGE, 1, 132)
    found = calls.fp8_paged_mqa_logits(
        batch.q, cache, batch.weights, batch.lengths, batch.table, schedule, 192, clean_logits=False
    )
    right = layout.logits(batch.q, batch.cache, batch.weights, batch.lengths, batch.table, 192)
    assert shown(found, [69, 70, 129, 130]) == shown(right, [69, 70, 129, 130])
    starts, ends = torch.zeros(4, dtype=torch.int32), torch.tensor([1, 50, 100, 200]).int()
    q = batch.q.view(4, HEADS, DIM)
    ragged = calls.fp8_mqa_logits(q, (batch.keys, batch.scales), batch.weights, starts, ends, clean_logits=False)
    good = layout.ragged_logits(q, batch.keys, batch.scales, batch.weights, starts, ends)
    assert shown(ragged, ends.tolist()) == shown(good, ends.tolist())


def test_sglangs_calls_of_aiter(layout: nsa_caps.IndexerLayout, batch: SimpleNamespace) -> None:
    """One query a request, keywords that the layout needs not, and a store that quantises."""
    calls = AiterCalls(layout)
    q = batch.q[:, 1].contiguous()
    found = calls.paged(
        q, batch.cache.view(6, PAGE, 1, 132), batch.weights[:2], batch.lengths, batch.table, 192,
        preshuffle=False, kv_block_size=PAGE,
    )  # fmt: skip
    right = layout.logits(q.unsqueeze(1), batch.cache, batch.weights[:2], batch.lengths, batch.table, 192)
    assert shown(found, [70, 130]) == shown(right, [70, 130])
    starts, ends = torch.zeros(2, dtype=torch.int32), torch.tensor([70, 130]).int()
    ragged = calls.ragged(q, batch.keys, batch.scales, batch.weights[:2], starts, ends, clean_logits=False)
    good = layout.ragged_logits(q, batch.keys, batch.scales, batch.weights[:2], starts, ends)
    assert shown(ragged, [70, 130]) == shown(good, [70, 130])
    own, ours = torch.zeros_like(batch.cache), torch.zeros((6, PAGE, 132), dtype=torch.uint8)
    keys = random(3, DIM, seed=5)
    slots = torch.tensor([0, 70, 300], dtype=torch.int32)
    options: dict[str, Any] = {"preshuffle": False}
    calls.quantise_and_store(keys, ours, slots, DIM, "ue8m0", **options)
    quantised, scales = quantise(keys, "ue8m0", FP8)
    layout.store(own, slots.long(), quantised, scales.reshape(-1))
    assert torch.equal(ours.view(6, -1), own)


def test_vllms_custom_ops(layout: nsa_caps.IndexerLayout) -> None:
    """Its store quantises, its gather fills the tensors that it is handed, and every other op is vLLM's own."""
    ops = CustomOps(layout, SimpleNamespace(rms_norm="vLLM's own"))
    assert ops.rms_norm == "vLLM's own"
    k, pages = random(130, DIM, seed=7), torch.zeros((6, PAGE, 132), dtype=torch.uint8)
    slots = torch.arange(130, dtype=torch.int32)
    slots[5] = -1
    ops.indexer_k_quant_and_cache(k, pages.view(6, -1), slots, DIM, "ue8m0")
    keys, scales = quantise(k, "ue8m0", FP8)
    found, found_scales = torch.zeros((130, DIM), dtype=torch.uint8), torch.zeros((130, 4), dtype=torch.uint8)
    table = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    ops.cp_gather_indexer_k_quant_cache(pages.view(6, -1), found, found_scales, table, torch.tensor([0, 130]))
    kept = slots >= 0
    assert torch.equal(found[kept], keys.view(torch.uint8)[kept])
    assert torch.equal(found_scales.view(torch.float32)[kept], scales[kept])
    assert found[5].max() == 0


def test_vllms_calls_of_deepgemm(layout: nsa_caps.IndexerLayout, batch: SimpleNamespace) -> None:
    """Queries come with a scale that is none; since 0.33 the ragged scores begin at each query's own first key."""
    calls, lengths = Calls(layout), [69, 70, 129, 130]
    found = calls.fp8_fp4_paged_mqa_logits(
        (batch.q, None), batch.cache, batch.weights, batch.lengths, batch.table,
        calls.get_paged_mqa_logits_metadata(batch.lengths, PAGE, 16), 192,
    )  # fmt: skip
    right = layout.logits(batch.q, batch.cache, batch.weights, batch.lengths, batch.table, 192)
    assert shown(found, lengths) == shown(right, lengths)
    starts, ends = torch.tensor([0, 10, 50, 70]).int(), torch.tensor([1, 70, 100, 200]).int()
    q, kv = batch.q.view(4, HEADS, DIM), (batch.keys, batch.scales)
    good = layout.ragged_logits(q, *kv, batch.weights, starts, ends)
    whole = calls.fp8_fp4_mqa_logits((q, None), kv, batch.weights, starts, ends)
    moved = calls.fp8_fp4_mqa_logits((q, None), kv, batch.weights, starts, ends, max_seqlen_k=140)
    assert (whole.shape, moved.shape) == ((4, 200), (4, 140))
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        assert torch.equal(whole[row, start:end], good[row, start:end])
        assert torch.equal(moved[row, : end - start], good[row, start:end])
