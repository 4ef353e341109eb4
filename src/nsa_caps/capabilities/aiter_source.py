"""What the installed aiter's source shows of its gates, as facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["AiterSource"]


@dataclass(frozen=True, kw_only=True)
class AiterSource:
    """What the installed aiter's source shows of its gates. None: that piece was not found in a known shape.

    Attributes:
        location: the package's folder.
        logits_module: file of `deepgemm_fp8_paged_mqa_logits`, below `location`.
        logits_preshuffle: it takes `Preshuffle` and `KVBlockSize` (since fe927e8d).
        store_preshuffle: `indexer_k_quant_and_cache` takes `preshuffle` (aiter#2879).
        gather_preshuffle: `cp_gather_indexer_k_quant_cache` takes it.
        triton_comparison: how the gate compares Triton's version: as `text` (fe927e8d) or by `base_version` (914dcee3).
        gluon_triton: gluon is compiled in place from this Triton on.
        triton_gap: Triton at or above this, yet below `gluon_triton`, fails an assertion at import; `none` without one.
        aot_stops_jit: the AOT variable set to 1 turns compiling in place off also on a new Triton (914dcee3).
        aot_needs_gluon_triton: `get_cdna_version` is called always but imported only from `gluon_triton` on: below it
            the AOT path is a NameError (10c87ea1).
        arch_gate: an arch outside `gluon_archs` is an AssertionError (`assert`), or gets the plain kernel (`select`,
            04907edc).
        gluon_archs: archs that the gluon kernels accept.
        known_archs: archs in aiter's `GFX_MAP`; another one is a KeyError.
        plain_pages: page sizes that the plain Triton kernel takes: `one`, or `any` (flat; 04907edc).
        chunk_rule: how the page size must fit ChunkK = 256: it must divide it (`divides`), or divide or be a multiple
            of it (`either`, 9715eecc).
        gate_triton: `aiter/ops/triton/gluon/__init__.py` raises below this Triton (f061fba9); `none` without one.
        gate_escape: the variable that turns that error into a warning (3b2e6f48); `none` without one.
        package_imports_gluon: `import aiter` itself runs that gate.
        trimmed_by: the variables that, set to `1`, keep `import aiter` from binding what the kernels' modules take from
            it, so that those do not import (`AITER_AOT_IMPORT` since cc31a1a7, `AITER_TRITON_ONLY` since 315fb08e).
        mfma: the gluon kernels' MFMA version: `target` follows the GPU (10c87ea1); `3` or `4` is written in.
        mfma_3d: the gluon kernels, `preshuffle` and `base`, that know the three-number MFMA shape that Triton >= 3.6
            demands.
        wide_offsets: the gluon kernels whose key offsets are 64-bit: the others read pages beyond 2 GiB of cache as
            zero (aiter#4774).
        fp8_archs: archs that `utility/dtypes.py` has an fp8 type for; elsewhere keys are viewed as uint8, and the plain
            kernel's dot does not compile.
        wrapper: which kernel the logits function calls: `switch`, as the module's switch has it, or `plain` always (the
            images of SGLang v0.5.9 rewrite the branch to `if False:`).
        calls: the calls of which these facts foretell everything that the source does, on every machine: `tiles`,
            `token` and `flat`. Of another one, a statement of the source is one that no fact stands for.
        launches_short: the kernels that are launched with fewer arguments than they take (d863d2f8).
        compiled: the kernels whose bodies were seen to compile, each with an arch: `preshuffle:gfx942`; `plain:*`.
        imports: every module that `import aiter` runs is there, and none of them refuses in a way of its own.
        takes: the functions that engines call, and their keywords, as far as this aiter has them: `fp8_mqa_logits`,
            `fp8_mqa_logits(clean_logits)`.
        imports_flydsl: `import aiter` runs `aiter/ops/flydsl/__init__.py`.
        flydsl_needs: where the package flydsl is installed, a version outside this fails there: `>=0.2.4`, `===0.1.1`;
            `none`: every version is taken.
        as_in: the release, or commit, that has every deciding file as it is here, to the byte; None: none known.
        unaccounted: what was not understood, each with its file and line.
        gfx1250_waves: the W in the name of gfx1250's ahead-of-time preshuffle kernel: 2 (861b4c93), then 4 (3ccc08d2).
    """

    location: str
    logits_module: str | None = None
    logits_preshuffle: bool | None = None
    store_preshuffle: bool | None = None
    gather_preshuffle: bool | None = None
    triton_comparison: Literal["text", "base_version"] | None = None
    gluon_triton: str | None = None
    triton_gap: str | None = None
    aot_stops_jit: bool | None = None
    aot_needs_gluon_triton: bool | None = None
    arch_gate: Literal["assert", "select"] | None = None
    gluon_archs: tuple[str, ...] | None = None
    known_archs: tuple[str, ...] | None = None
    plain_pages: Literal["one", "any"] | None = None
    chunk_rule: Literal["divides", "either"] | None = None
    gate_triton: str | None = None
    gate_escape: str | None = None
    package_imports_gluon: bool | None = None
    trimmed_by: tuple[str, ...] | None = None
    mfma: Literal["target", "3", "4"] | None = None
    mfma_3d: tuple[str, ...] | None = None
    wide_offsets: tuple[str, ...] | None = None
    fp8_archs: tuple[str, ...] | None = None
    gfx1250_waves: int | None = None
    wrapper: Literal["switch", "plain"] | None = None
    calls: tuple[str, ...] | None = None
    launches_short: tuple[str, ...] | None = None
    compiled: tuple[str, ...] | None = None
    imports: bool | None = None
    takes: tuple[str, ...] | None = None
    imports_flydsl: bool | None = None
    flydsl_needs: str | None = None
    as_in: str | None = None
    unaccounted: tuple[str, ...] = ()
