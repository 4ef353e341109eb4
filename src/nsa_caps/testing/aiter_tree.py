"""Small source trees in which aiter's gates stand as a generation of aiter has them, and nothing else of aiter does.

A tree is written from the facts that its source shall show, so that any generation, also one that never was, is a
`dataclasses.replace` away:

    >>> from dataclasses import replace
    >>> later = replace(GENERATIONS["04907edc"], gluon_triton="3.7.0")

`GENERATIONS` holds what the real source shows at the commits with which its gates changed; the opt-in tests
(`pytest --aiter-checkout DIR`) hold it against them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nsa_caps.capabilities.aiter_history import GENERATIONS
from nsa_caps.errors import NsaCapsError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from nsa_caps.capabilities.records import AiterSource

__all__ = ["GENERATIONS", "AiterTreeError", "write_aiter_tree"]


class AiterTreeError(NsaCapsError, ValueError):
    """Facts that no source could show together; the message names the field."""


# What stands in the branch of the gate; without the kernels' own gate nothing of it does.
_GATE_FACTS = (
    "triton_comparison",
    "gluon_triton",
    "triton_gap",
    "aot_stops_jit",
    "aot_needs_gluon_triton",
    "arch_gate",
    "gluon_archs",
    "chunk_rule",
)


# How the entry sets WavePerEU where it knows gfx1250, and what the tiled kernel then gets.
_GFX1250_WAVES = {
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


def write_aiter_tree(site: str | os.PathLike[str], source: AiterSource) -> AiterSource:
    """Write the package `aiter` into the folder `site`, its source showing exactly these facts.

    A fact that is None is left out of the source; those of the logits kernel's gate cannot be, unless the kernel is of
    before the gate (`logits_preshuffle=False`).

    Args:
        site: an import folder; made if it is not there.
        source: what the source shall show, without `location`.

    Returns:
        `source` with its `location`: what the probe `aiter_source` finds there.

    Raises:
        AiterTreeError: no source could show these facts together.
    """
    _check(source)
    package = Path(site) / "aiter"
    files = {
        "__init__.py": _package(source),
        "jit/core.py": "",
        str(source.logits_module): _logits(source),
        "ops/cache.py": _cache(source),
        "ops/attention.py": _attention(source),
        "ops/triton/gluon/__init__.py": _gate(source),
        # The map moved with 727253ae; the probe looks in both places.
        "jit/utils/chip_info.py": _table("GFX_MAP", dict(enumerate(("native", *(source.known_archs or ()))))),
        "utility/dtypes.py": _table("defaultDtypes", {arch: {"fp8": "e4m3"} for arch in source.fp8_archs or ()}),
    }
    if source.mfma is not None:
        files["ops/triton/gluon/pa_mqa_logits.py"] = _gluon_kernels(source)
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, encoding="utf-8")
    return replace(source, location=str(package))


def _check(source: AiterSource) -> None:
    gated = source.logits_preshuffle is True
    for name in _GATE_FACTS:
        value = getattr(source, name)
        if (value is None) is gated:
            need = "a value where logits_preshuffle is True, and None elsewhere"
            raise AiterTreeError(f"{name} is {value!r}, needs {need}")
    always = ("logits_module", "logits_preshuffle", "known_archs", "fp8_archs", "package_imports_gluon", "trimmed_by")
    for name in always:
        if getattr(source, name) is None:
            raise AiterTreeError(f"{name} is None, needs a value: every source shows it")
    if source.gate_triton is None or source.gate_escape is None:
        raise AiterTreeError("gate_triton and gate_escape need a value: 'none' where there is none")
    if source.gate_triton == "none" and source.gate_escape != "none":
        raise AiterTreeError(f"gate_escape is {source.gate_escape!r} without a gate_triton to escape from")
    waves = tuple(_GFX1250_WAVES) if "gfx1250" in (source.gluon_archs or ()) else (2,)
    if source.gfx1250_waves not in waves:
        raise AiterTreeError(f"gfx1250_waves is {source.gfx1250_waves!r}, needs one of {waves} with these gluon_archs")
    kernels = (source.mfma, source.mfma_3d, source.wide_offsets)
    if any(fact is None for fact in kernels) and any(fact is not None for fact in kernels):
        raise AiterTreeError(f"mfma, mfma_3d and wide_offsets are {kernels!r}, need to be None together")


def _lines(*lines: str | None) -> str:
    return "".join(f"{line}\n" for line in lines if line is not None)


def _table(name: str, table: Mapping[object, object]) -> str:
    return f"{name} = {dict(table)!r}\n"


def _package(source: AiterSource) -> str:
    """The package itself: all of it in the last branch, nothing in those that a variable leads into."""
    names, whole = source.trimmed_by or (), "from .ops.attention import *"
    if not names:
        return _lines(whole)
    flags = [f'{name} = os.getenv("{name}", "0") == "1"' for name in names]
    branches = [f"{'elif' if index else 'if'} {name}:\n    pass" for index, name in enumerate(names)]
    return _lines("import os", *flags, *branches, f"else:\n    {whole}")


def _logits(source: AiterSource) -> str:
    """The module of the logits function: its gate, the function that compiles, and the one that engines call."""
    if not source.logits_preshuffle:
        return _lines(
            "def deepgemm_fp8_paged_mqa_logits(",
            "    q_fp8, kv_cache, weights, out_logits, context_lens, kv_indices, max_model_len, ChunkK=256",
            "): ...",
        )
    return _logits_gate(source) + _logits_compile(source) + _logits_entry(source)


def _logits_gate(source: AiterSource) -> str:
    by_text = source.triton_comparison == "text"
    test = f'triton.__version__ >= "{source.gluon_triton}"'
    if not by_text:
        test = f'triton_version >= Version("{source.gluon_triton}")'
    aot = "enable_aot_gluon_pa_mqa_logits"
    listed = "get_gfx() in _GLUON_PA_MQA_LOGITS_ARCHS" if source.arch_gate == "select" else None
    return _lines(
        "import os",
        "import triton",
        "from packaging.version import Version",
        "from aiter.jit.utils.chip_info import get_gfx",
        f'{aot} = os.environ.get("AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS", "0")',
        f'{aot} = {aot} == "1"',
        None if by_text else "triton_version = Version(Version(triton.__version__).base_version)",
        f"_GLUON_PA_MQA_LOGITS_ARCHS = {source.gluon_archs!r}" if listed else None,
        f"if {test}:",
        "    from aiter.ops.triton.gluon.pa_decode_gluon import get_cdna_version"
        if source.aot_needs_gluon_triton
        else None,
        f"    enable_gluon_pa_mqa_logits = {listed or True}",
        f"    enable_jit_gluon_pa_mqa_logits_kernel = {f'not {aot}' if source.aot_stops_jit else True}",
        "else:",
        f'    assert triton.__version__ < "{source.triton_gap}"' if source.triton_gap != "none" else None,
        f"    enable_gluon_pa_mqa_logits = {f'{aot} and {listed}' if listed else aot}",
        "    enable_jit_gluon_pa_mqa_logits_kernel = False",
    )


def _logits_compile(source: AiterSource) -> str:
    archs = f"in {source.gluon_archs!r}"
    if source.arch_gate == "select":
        archs = "in _GLUON_PA_MQA_LOGITS_ARCHS"
    elif len(source.gluon_archs or ()) < 3:
        archs = " or gfx_version ".join(f'== "{arch}"' for arch in source.gluon_archs or ())
    return _lines(
        "def _compile_deepgemm_fp8_paged_mqa_logits(ChunkQ, ChunkK, Preshuffle, KVBlockSize, HiddenDim):",
        "    gfx_version = get_gfx()",
        f"    assert gfx_version {archs}",
        "    cdna_version = get_cdna_version()" if source.aot_needs_gluon_triton else None,
    )


def _logits_entry(source: AiterSource) -> str:
    either = " or KVBlockSize % ChunkK == 0" if source.chunk_rule == "either" else ""
    # 861b4c93 brought both the arch and its branch.
    known = "gfx1250" in (source.gluon_archs or ())
    return _lines(
        "def deepgemm_fp8_paged_mqa_logits(",
        "    q_fp8, kv_cache, weights, out_logits, context_lens, kv_indices, max_model_len,",
        "    Preshuffle=False, KVBlockSize=1, ChunkK=256, TotalCuCount=None, WavePerEU=2,",
        "):",
        *(_GFX1250_WAVES[source.gfx1250_waves or 2] if known else ()),
        f"    assert ChunkK % KVBlockSize == 0{either}",
        "    if enable_gluon_pa_mqa_logits:",
        "        _compile_deepgemm_fp8_paged_mqa_logits(ChunkK=ChunkK, KVBlockSize=KVBlockSize)",
        "    else:",
        "        assert KVBlockSize == 1" if source.plain_pages == "one" else None,
        "        assert not Preshuffle",
        f"        _plain_kernel(ChunkK=ChunkK{', KVBlockSize=KVBlockSize' if source.plain_pages == 'any' else ''})",
    )


def _cache(source: AiterSource) -> str:
    store = "def indexer_k_quant_and_cache(k, kv_cache, slot_mapping, quant_block_size, scale_fmt"
    gather = "def cp_gather_indexer_k_quant_cache(kv_cache, dst_k, dst_scale, block_table, cu_seq_lens"
    kernels = ((store, source.store_preshuffle), (gather, source.gather_preshuffle))
    last = {True: ", preshuffle=False): ...", False: "): ..."}
    return _lines("import torch", *(start + last[tiles] for start, tiles in kernels if tiles is not None))


def _attention(source: AiterSource) -> str:
    gluon = "from aiter.ops.triton.gluon.pa_decode_gluon import pa_decode_gluon"
    return _lines(gluon if source.package_imports_gluon else None, '@compile_ops("module_attention")', "def pa(): ...")


def _gate(source: AiterSource) -> str:
    if source.gate_triton == "none":
        return ""
    body: tuple[str, ...] = ("        raise RuntimeError(triton.__version__)",)
    if source.gate_escape != "none":
        variable = f'os.environ.get("{source.gate_escape}", "0")'
        body = (f"        if int({variable}):", "            pass", "        else:", *(f"    {line}" for line in body))
    return _lines(
        "import os",
        "from packaging.version import Version",
        "try:",
        "    import triton",
        '    _triton_version = Version(triton.__version__.split("+")[0])',
        f'    _min_version = Version("{source.gate_triton}")',
        "    if _triton_version < _min_version:",
        *body,
        "except ImportError:",
        "    pass",
    )


def _gluon_kernels(source: AiterSource) -> str:
    version = "CDNA_VERSION" if source.mfma == "target" else source.mfma
    return "".join(
        _lines(
            f"def _gluon_deepgemm_fp8_paged_mqa_logits{suffix}(KV_buffer):",
            f"    layout = gl.amd.AMDMFMALayout(version={version}, instr_shape=[16, 16])",
            f"    layout = gl.amd.AMDMFMALayout(version={version}, instr_shape=[16, 16, 32])"
            if kernel in (source.mfma_3d or ())
            else None,
            "    offset = context_kv_idx.to(gl.int64)" if kernel in (source.wide_offsets or ()) else None,
        )
        for kernel, suffix in (("base", ""), ("preshuffle", "_preshuffle"))
    )
