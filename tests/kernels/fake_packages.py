"""Stand-ins for aiter and DeepGEMM: Python packages whose kernels are the reference's, as strict as the real ones.

They take what the real kernels take and do what those do to the memory around it, by the sources of aiter 04907edc
(`cache_kernels.cu`, `pa_mqa_logits.py`) and DeepGEMM 54e2261 (`csrc/apis/attention.hpp`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CACHE = """
import torch
from nsa_caps.kernels import reference
from nsa_caps.pages import PageFormat

FP8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz)

def page_format(kv_cache, preshuffle, scale="fp32"):
    assert kv_cache.dim() == 3 and kv_cache.dtype in FP8
    dialect = str(kv_cache.dtype).removeprefix("torch.float8_")
    order = "tiles" if preshuffle else "flat"
    return PageFormat(page_size=kv_cache.size(1), order=order, dialect=dialect, scale_format=scale,
                      row_stride=kv_cache.size(2))

def indexer_k_quant_and_cache(k, kv_cache, slot_mapping, quant_block_size, scale_fmt{preshuffle}):
    assert quant_block_size == 128 and slot_mapping.dtype == torch.int64 and slot_mapping.numel()
    # The kernel knows neither a step from key to key nor one from page to page.
    k = torch.as_strided(k, k.shape, (k.size(1), 1))
    pages, size, row = kv_cache.shape
    kv_cache = torch.as_strided(kv_cache, kv_cache.shape, (size * row, row, 1))
    fmt = page_format(kv_cache, {value}, "ue8m0" if scale_fmt == "ue8m0" else "fp32")
    reference.quantise_and_store(kv_cache, slot_mapping, k, fmt=fmt)

def cp_gather_indexer_k_quant_cache(kv_cache, dst_k, dst_scale, block_table, cu_seq_lens{preshuffle}):
    assert dst_scale.dim() == 2 and dst_scale.dtype == torch.float32 and dst_k.numel()
    assert block_table.dtype == cu_seq_lens.dtype == torch.int32
    # The kernel takes the table's width for the step from row to row, and reads as many tokens as dst_k has rows.
    table = torch.as_strided(block_table, block_table.shape, (block_table.size(1), 1))
    fmt = page_format(kv_cache, {value})
    tokens = dst_k.size(0)
    assert tokens <= cu_seq_lens[-1], "reads whatever request its shared memory names"
    out = (dst_k.view(torch.uint8), dst_scale.view(-1))
    reference.gather(kv_cache, table, cu_seq_lens, total_tokens=tokens, out=out, fmt=fmt)
"""

_AITER_LOGITS = """
import torch
from nsa_caps.kernels import reference_logits
from aiter.ops.cache import page_format

def deepgemm_fp8_paged_mqa_logits(q_fp8, kv_cache, weights, out_logits, context_lens, kv_indices, max_model_len,
        Preshuffle=False, KVBlockSize=1, ChunkK=256, TotalCuCount=None, WavePerEU=2, VarCtxSchedule=None):
    batch, next_n, heads, dim = q_fp8.size()
    pages, size, one, row = kv_cache.size()
    assert one == 1 and size == KVBlockSize and (ChunkK % size == 0 or size % ChunkK == 0)
    table = torch.as_strided(kv_indices, kv_indices.shape, (kv_indices.size(1), 1))
    fmt = page_format(kv_cache[:, :, 0], Preshuffle)
    scores = reference_logits.logits(q_fp8, kv_cache, weights, context_lens, table, max_model_len, fmt=fmt)
    # Whole pages are written, whatever the length of a row, and nothing is beyond them. The last row first, so that
    # what one row writes into the next is what stays.
    memory = torch.as_strided(out_logits, (out_logits.untyped_storage().nbytes() // 4,), (1,), 0)
    for line in reversed(range(batch * next_n)):
        context = int(context_lens[line // next_n])
        start = out_logits.storage_offset() + line * out_logits.stride(0)
        memory[start + context : start + -(-context // size) * size] = -torch.inf
        memory[start : start + context] = scores[line, :context]
    return "a cache key"
"""

_DEEP_GEMM = """
import torch
from nsa_caps.kernels import reference_logits
from nsa_caps.pages import PageFormat

SMS = 7
FORMAT = PageFormat(page_size=64)

def get_num_sms():
    return SMS

def get_paged_mqa_logits_metadata(context_lens, block_kv, num_sms):
    assert context_lens.dim() == 2 and context_lens.dtype == torch.int32 and context_lens.is_contiguous()
    assert block_kv == 64 and num_sms == SMS
    metadata = torch.zeros((num_sms + 1, 2), dtype=torch.int32)
    metadata[0, 0], metadata[0, 1] = context_lens.sum(), context_lens.numel()
    return metadata

def score(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len):
    batch, next_n, heads, dim = q.shape
    assert q.dtype == torch.float8_e4m3fn and q.is_contiguous() and heads in (32, 64)
    assert kv_cache.dtype == torch.uint8 and kv_cache.shape[1:] == (64, 1, 132) and kv_cache.stride(1) == 132
    assert weights.shape == (batch * next_n, heads) and weights.is_contiguous()
    assert context_lens.shape == (batch, next_n) and (context_lens >= 0).all()
    assert torch.equal(schedule_meta, get_paged_mqa_logits_metadata(context_lens, 64, SMS))
    # Rows are a multiple of 256 apart, and what is not scored is not initialised.
    scores = torch.full((batch * next_n, -(-max_context_len // 256) * 256), torch.nan)[:, :max_context_len]
    for query in range(next_n):
        lens, rows = context_lens[:, query].contiguous(), slice(query, None, next_n)
        one, few = q[:, query : query + 1].contiguous(), weights[rows].contiguous()
        found = reference_logits.logits(one, kv_cache, few, lens, block_table, max_context_len, fmt=FORMAT)
        scores[rows] = torch.where(found.isfinite(), found, torch.nan)
    return scores
"""
_PLAIN = """
def fp8_paged_mqa_logits(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len,
        clean_logits=False):
    assert not clean_logits
    return score(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len)
"""
_WITH_SCALE = """
def fp8_fp4_paged_mqa_logits(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len,
        clean_logits=False, logits_dtype=torch.float32):
    q, scale = q
    assert scale is None and not clean_logits
    return score(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len)
"""

NEW_LOGITS = "aiter/ops/triton/attention/pa_mqa_logits.py"
OLD_LOGITS = "aiter/ops/triton/pa_mqa_logits.py"


def aiter(folder: Path, *, preshuffle: bool = True, logits: str = NEW_LOGITS) -> Path:  # noqa: A001 the package's name
    """An aiter whose cache kernels take `preshuffle` (a6bb4993) or not, with its logits in one of their two places."""
    parameter, value = (", preshuffle=False", "preshuffle") if preshuffle else ("", "False")
    cache = _CACHE.replace("{preshuffle}", parameter).replace("{value}", value)
    return lay_out(folder, {"aiter/ops/cache.py": cache, logits: _AITER_LOGITS})


def deep_gemm(folder: Path, *, plain: bool = True, with_scale: bool = True) -> Path:
    """A DeepGEMM with the symbols of older releases, of newer ones, or of neither."""
    text = _DEEP_GEMM + (_PLAIN if plain else "") + (_WITH_SCALE if with_scale else "")
    return lay_out(folder, {"deep_gemm/__init__.py": text})


def lay_out(folder: Path, files: Mapping[str, str]) -> Path:
    """Write modules and the `__init__.py` of every package that they are in; return the folder to import from."""
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        for package in place.parents[: len(place.relative_to(folder).parents) - 1]:
            (package / "__init__.py").touch()
        place.write_text(text, encoding="utf-8")
    return folder
