"""A small aiter that can be executed: its gates are aiter's in kind, its kernels have aiter's names and parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nsa_caps.probes.aiter.files import EXCERPTS
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps import Host

__all__ = ["AITER", "LOGITS", "lay_out"]

LOGITS = "ops/triton/attention/pa_mqa_logits.py"
_SHARED = (
    "batch_size, next_n, heads_num, Q_buffer, stride_q_batch, stride_q_next_n, stride_q_heads, KV_buffer, "
    "stride_k_seq, scale_buffer, stride_scale_seq, context_len_ptr, kv_indices, weights, stride_w_batch, "
    "OutLogits_buffer, stride_out_batch, max_model_len, max_block_len, SplitKV, ChunkQ, ChunkK, HiddenDim, KVBlockSize"
)
_KERNELS = f"""
from triton.experimental import gluon

@gluon.jit
def _gluon_deepgemm_fp8_paged_mqa_logits({_SHARED}):
    pass

@gluon.jit
def _gluon_deepgemm_fp8_paged_mqa_logits_preshuffle({_SHARED}):
    pass
"""
_PLAIN = f"""
import triton

@triton.jit
def _deepgemm_fp8_paged_mqa_logits({_SHARED}):
    pass
"""
_ENTRY = f"""
import torch
import triton
from packaging.version import Version
from triton.backends.compiler import GPUTarget

from aiter import dtypes
from aiter.jit.utils.chip_info import get_gfx
from aiter.ops.triton._triton_kernels.attention.pa_mqa_logits import _deepgemm_fp8_paged_mqa_logits

ARCHS = ("gfx942", "gfx950")
triton_version = Version(Version(triton.__version__).base_version)
enable_gluon = triton_version >= Version("3.5.0") and get_gfx() in ARCHS
if enable_gluon:
    from triton.experimental.gluon._runtime import GluonASTSource

    from aiter.ops.triton.gluon.pa_mqa_logits import (
        _gluon_deepgemm_fp8_paged_mqa_logits,
        _gluon_deepgemm_fp8_paged_mqa_logits_preshuffle,
    )

CONSTANTS = ("ChunkQ", "ChunkK", "HiddenDim", "KVBlockSize")
SIGNATURE = {{
    name.strip(): "constexpr" if name.strip() in CONSTANTS else "i32" for name in "{_SHARED}".split(",")
}}


def deepgemm_fp8_paged_mqa_logits(
    q_fp8, kv_cache, weights, out_logits, context_lens, kv_indices, max_model_len,
    Preshuffle=False, KVBlockSize=1, ChunkK=256,
):
    batch_size, next_n, heads, hidden_dim = q_fp8.size()
    _, block_size, _, index_dim = kv_cache.size()
    _, max_block_len = kv_indices.size()
    assert ChunkK % KVBlockSize == 0 or KVBlockSize % ChunkK == 0
    assert block_size == KVBlockSize
    if Preshuffle:
        assert KVBlockSize % 16 == 0
    kv_cache = kv_cache.view(-1, KVBlockSize * index_dim)
    keys = kv_cache[..., : KVBlockSize * hidden_dim].view(dtypes.fp8)
    scales = kv_cache[..., KVBlockSize * hidden_dim :].view(torch.float32)
    given = (
        batch_size, next_n, heads, q_fp8, q_fp8.stride(0), q_fp8.stride(1), q_fp8.stride(2), keys, keys.stride(0),
        scales, scales.stride(0), context_lens, kv_indices, weights, weights.stride(0), out_logits,
        out_logits.stride(0), max_model_len, max_block_len, max(1, 256 // batch_size),
    )
    if enable_gluon:
        kernel = _gluon_deepgemm_fp8_paged_mqa_logits
        if Preshuffle:
            kernel = _gluon_deepgemm_fp8_paged_mqa_logits_preshuffle
        values = (heads, ChunkK, hidden_dim, KVBlockSize)
        source = GluonASTSource(
            fn=kernel, signature=SIGNATURE, constexprs=dict(zip(CONSTANTS, values)), attrs={{}}
        )
        triton.compile(source, target=GPUTarget("hip", get_gfx(), 64))[(1, 1, 1)](*given, *values)
    else:
        assert not Preshuffle
        _deepgemm_fp8_paged_mqa_logits[(1, 1, 1)](
            *given, ChunkQ=heads, ChunkK=ChunkK, HiddenDim=hidden_dim, KVBlockSize=KVBlockSize
        )
"""
_GATE = """
import os
from packaging.version import Version
import triton

if Version(triton.__version__.split("+")[0]) < Version("3.5.0"):
    if not int(os.environ.get("AITER_ANY_TRITON", "0")):
        raise RuntimeError("gluon needs triton>=3.5.0")
"""
_CHIP = """
import functools, os, re, subprocess
from build_targets import GFX_MAP

@functools.lru_cache(maxsize=1)
def get_gfx():
    gfx = os.getenv("GPU_ARCHS", "native")
    if gfx == "native":
        found = subprocess.run(["rocminfo"], capture_output=True, text=True)
        gfx = re.search(r"\\b(gfx\\w+)\\b", found.stdout).group(1)
    return GFX_MAP[{name: number for number, name in GFX_MAP.items()}[gfx]]
"""
_TYPES = """
import torch
from ..jit.utils.chip_info import get_gfx

fp8 = {"gfx942": torch.float8_e4m3fnuz, "gfx950": torch.float8_e4m3fn}.get(get_gfx(), torch.uint8)
"""
_CACHE = """
from ..jit.core import compile_ops

@compile_ops("module_cache")
def indexer_k_quant_and_cache(k, kv_cache, slot_mapping, quant_block_size, scale_fmt, preshuffle=False): ...

@compile_ops("module_cache")
def cp_gather_indexer_k_quant_cache(kv_cache, dst_k, dst_scale, block_table, cu_seq_lens, preshuffle=False): ...
"""
AITER: Mapping[str, str] = {
    "__init__.py": (
        "from .jit import core as core\nfrom .utility import dtypes as dtypes\n"
        "from .ops.attention import *\nfrom .ops.cache import *\n"
    ),
    "jit/__init__.py": "",
    "jit/core.py": "def compile_ops(*_, **__): ...\n",
    "jit/utils/__init__.py": "",
    "jit/utils/build_targets.py": "GFX_MAP = {0: 'native', 1: 'gfx90a', 5: 'gfx942', 8: 'gfx950'}\n",
    "jit/utils/chip_info.py": _CHIP,
    "utility/__init__.py": "",
    "utility/dtypes.py": _TYPES,
    "ops/__init__.py": "",
    "ops/attention.py": "from .triton import gluon\n",
    "ops/cache.py": _CACHE,
    "ops/triton/__init__.py": "",
    "ops/triton/attention/__init__.py": "",
    LOGITS: _ENTRY,
    "ops/triton/_triton_kernels/__init__.py": "",
    "ops/triton/_triton_kernels/attention/__init__.py": "",
    "ops/triton/_triton_kernels/attention/pa_mqa_logits.py": _PLAIN,
    "ops/triton/gluon/__init__.py": _GATE,
    "ops/triton/gluon/pa_mqa_logits.py": _KERNELS,
}
"""The files, below the package."""


def lay_out(folder: Path, changes: Mapping[str, str] = {}) -> Host:
    """Lay out a machine whose aiter this is, some files of it changed, and what is kept in a folder of its own."""
    environ = {"SGLANG_USE_AITER": "1", "NSA_CAPS_PROOFS": str(folder / "proofs")}
    host = machine(folder / "machine", archs=("gfx942",), environ=environ)
    site = Path(host.search_path[0])
    (site / EXCERPTS).unlink(missing_ok=True)
    metadata = site / "amd_aiter-0.1.17.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: amd-aiter\nVersion: 0.1.17\n")
    for name, text in {**AITER, **changes}.items():
        path = site / "aiter" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return host
