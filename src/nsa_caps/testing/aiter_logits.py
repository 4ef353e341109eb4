"""The logits module of a written tree: its gate, the function that compiles, and the one that engines call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import AiterSource

__all__ = ["GFX1250_WAVES", "lines", "logits_module"]

# How the entry sets WavePerEU where it knows gfx1250, and what the tiled kernel then gets.
GFX1250_WAVES = {
    2: (
        "    if get_gfx() == 'gfx1250' and not Preshuffle:",
        "        WavePerEU = 1",
    ),
    4: (
        "    if get_gfx() == 'gfx1250':",
        "        if Preshuffle and hidden_dim <= 128:",
        "            WavePerEU = 4",
        "        else:",
        "            WavePerEU = 1",
    ),
}


def lines(*each: str | None) -> str:
    """Return lines of source, those that are None left out."""
    return "".join(f"{line}\n" for line in each if line is not None)


def logits_module(source: AiterSource) -> str:
    """The module of the logits function: its gate, the function that compiles, and the one that engines call."""
    if not source.logits_preshuffle:
        return lines(
            "def deepgemm_fp8_paged_mqa_logits(",
            "    q_fp8, kv_cache, weights, out_logits, context_lens, kv_indices, max_model_len, ChunkK=256",
            "): ...",
        )
    return _logits_gate(source) + _logits_compile(source) + _logits_entry(source)


def _new_triton(source: AiterSource) -> str:
    if source.triton_comparison == "text":
        return f'triton.__version__ >= "{source.gluon_triton}"'
    return f'triton_version >= Version("{source.gluon_triton}")'


def _logits_gate(source: AiterSource) -> str:
    test = _new_triton(source)
    aot = "enable_aot_gluon_pa_mqa_logits"
    listed = "get_gfx() in _GLUON_PA_MQA_LOGITS_ARCHS" if source.arch_gate == "select" else None
    kernels = "_gluon_deepgemm_fp8_paged_mqa_logits, _gluon_deepgemm_fp8_paged_mqa_logits_preshuffle"
    return lines(
        "import os",
        "import triton",
        "from packaging.version import Version",
        "from aiter.jit.utils.chip_info import get_gfx",
        "from aiter.ops.triton.utils.core import AITER_TRITON_CONFIGS_PATH",
        "from aiter.ops.triton._triton_kernels.pa_mqa_logits import _deepgemm_fp8_paged_mqa_logits",
        f"from aiter.ops.triton.gluon.pa_mqa_logits import {kernels}",
        "from aiter.utility.triton.triton_metadata_redirect import AOTMetadataContext",
        f'{aot} = os.environ.get("AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS", "0")',
        f'{aot} = {aot} == "1"',
        "triton_version = Version(Version(triton.__version__).base_version)",
        f"_GLUON_PA_MQA_LOGITS_ARCHS = {source.gluon_archs!r}",
        f"if {test}:",
        "    from triton.experimental.gluon._runtime import GluonASTSource as ASTSource",
        "    from aiter.ops.triton.gluon.pa_decode_gluon import get_cdna_version"
        if source.aot_needs_gluon_triton
        else None,
        f"    enable_gluon_pa_mqa_logits = {listed or True}",
        f"    enable_jit_gluon_pa_mqa_logits_kernel = {f'not {aot}' if source.aot_stops_jit else True}",
        "else:",
        "    from triton.compiler import ASTSource",
        f'    assert triton.__version__ < "{source.triton_gap}"' if source.triton_gap != "none" else None,
        f"    enable_gluon_pa_mqa_logits = {f'{aot} and {listed}' if listed else aot}",
        "    enable_jit_gluon_pa_mqa_logits_kernel = False",
    )


def _logits_compile(source: AiterSource) -> str:
    gfx1250 = "gfx1250" in (source.gluon_archs or ())
    return lines(
        "def _compile_deepgemm_fp8_paged_mqa_logits(ChunkQ, ChunkK, Preshuffle, KVBlockSize, HiddenDim, WavePerEU):",
        "    gfx_version = get_gfx()",
        "    assert gfx_version in _GLUON_PA_MQA_LOGITS_ARCHS",
        "    if gfx_version == 'gfx1250':" if gfx1250 else None,
        "        assert ChunkK % KVBlockSize == 0 if Preshuffle else KVBlockSize == 1" if gfx1250 else None,
        "    cdna_version = get_cdna_version()" if source.aot_needs_gluon_triton else None,
        "    kernel = _gluon_deepgemm_fp8_paged_mqa_logits",
        "    if Preshuffle:",
        "        kernel = _gluon_deepgemm_fp8_paged_mqa_logits_preshuffle",
        "    source = ASTSource(fn=kernel, signature={'q': 'i32', 'KV_buffer': 'i32'}, constexprs={})",
        "    if enable_jit_gluon_pa_mqa_logits_kernel:",
        "        return triton.compile(source)",
        "    kind = '_preshuffle' if Preshuffle else ''",
        "    name = f'paged_mqa_logits{kind}_{ChunkQ}x{ChunkK}x{HiddenDim}_B{KVBlockSize}PFW{WavePerEU}'",
        "    with AOTMetadataContext(kernel.fn.__name__, f'{AITER_TRITON_CONFIGS_PATH}/paged_mqa_logits/aot/{name}'):",
        "        return triton.compile(source)",
    )


def _logits_entry(source: AiterSource) -> str:
    either = " or KVBlockSize % ChunkK == 0" if source.chunk_rule == "either" else ""
    # 861b4c93 brought both the arch and its branch.
    known = "gfx1250" in (source.gluon_archs or ())
    short = bool(source.launches_short)
    # fe927e8d, which compares texts, asks no Triton for more.
    asked = f'{_new_triton(source)} or triton_version < Version("3.4.0")'
    return lines(
        "def deepgemm_fp8_paged_mqa_logits(",
        "    q_fp8, kv_cache, weights, out_logits, context_lens, kv_indices, max_model_len,",
        "    Preshuffle=False, KVBlockSize=1, ChunkK=256, TotalCuCount=None, WavePerEU=2,",
        "):",
        "    _, _, heads, hidden_dim = q_fp8.size()",
        *(GFX1250_WAVES[source.gfx1250_waves or 2] if known else ()),
        f"    assert ChunkK % KVBlockSize == 0{either}",
        "    assert not Preshuffle or KVBlockSize % 16 == 0",
        f"    if {'enable_gluon_pa_mqa_logits' if source.wrapper == 'switch' else False}:",
        "        kernel = _compile_deepgemm_fp8_paged_mqa_logits(",
        "            heads, ChunkK, Preshuffle, KVBlockSize, hidden_dim, WavePerEU",
        "        )",
        f"        assert {asked}" if source.triton_comparison == "base_version" else None,
        f"        kernel[(1,)](q_fp8{'' if short else ', kv_cache'})",
        "    else:",
        "        assert KVBlockSize == 1" if source.plain_pages == "one" else None,
        "        assert not Preshuffle",
        "        _deepgemm_fp8_paged_mqa_logits[(1,)](",
        f"            q_fp8, kv_cache{', KVBlockSize=KVBlockSize' if source.plain_pages == 'any' else ''}",
        "        )",
    )
