"""The aiter releases that a fix may name, with what their source shows.

Each was read from the source at its commit by `nsa_caps.probes.aiter.reader`; `pytest --aiter-checkout DIR` reads them
again and fails where this table differs.
"""

from __future__ import annotations

from dataclasses import fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from nsa_caps.capabilities.records import AiterSource

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AITER_RELEASES", "GENERATIONS", "KNOWN_AITERS", "AiterRelease", "nearest_generation"]


class AiterRelease(NamedTuple):
    """One point in aiter's history.

    Attributes:
        version: the release, or the commit where none has it yet.
        since: how to ask for it or a later one.
        commit: where the source was read.
        source: what it shows.
    """

    version: str
    since: str
    commit: str
    source: AiterSource


_ARCHS_2025 = ("gfx90a", "gfx908", "gfx940", "gfx941", "gfx942", "gfx945", "gfx1100", "gfx950")
_ARCHS_RDNA = ("gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153", "gfx1200", "gfx1201")
_QK_ROPE = ("indexer_qk_rope_quant_and_cache", "indexer_qk_rope_quant_and_cache(preshuffle)")
_RAGGED = ("fp8_mqa_logits", "fp8_mqa_logits(clean_logits)")


def _compiled(*archs: str) -> tuple[str, ...]:
    kernels = (f"{kernel}:{arch}" for kernel in ("base", "preshuffle") for arch in archs)
    return (*kernels, "plain:*")


_D36601A9 = AiterSource(
    location="",
    logits_module="ops/triton/pa_mqa_logits.py",
    logits_preshuffle=False,
    known_archs=_ARCHS_2025,
    gate_triton="none",
    gate_escape="none",
    package_imports_gluon=False,
    trimmed_by=(),
    fp8_archs=("gfx942", "gfx950"),
    imports=True,
    takes=(),
    imports_flydsl=False,
    flydsl_needs="none",
)
_FE927E8D = replace(
    _D36601A9,
    logits_preshuffle=True,
    store_preshuffle=False,
    gather_preshuffle=False,
    triton_comparison="text",
    gluon_triton="3.5.0",
    triton_gap="3.4.0",
    aot_stops_jit=False,
    aot_needs_gluon_triton=False,
    arch_gate="assert",
    gluon_archs=("gfx942", "gfx950"),
    chunk_rule="divides",
    mfma="3",
    mfma_3d=(),
    wide_offsets=(),
    gfx1250_waves=2,
    wrapper="switch",
    calls=("tiles", "token", "flat"),
    launches_short=(),
    compiled=_compiled("gfx942"),
    takes=("fp8_mqa_logits",),
)
_914DCEE3 = replace(
    _FE927E8D, triton_comparison="base_version", triton_gap="none", aot_stops_jit=True, plain_pages="one"
)
_A8EB62F5 = replace(
    _914DCEE3,
    logits_module="ops/triton/attention/pa_mqa_logits.py",
    known_archs=_ARCHS_2025 + _ARCHS_RDNA,
    chunk_rule="either",
    package_imports_gluon=True,
    mfma="4",
    mfma_3d=("preshuffle",),
    fp8_archs=("gfx942", "gfx950", "gfx1250"),
    compiled=_compiled("gfx950"),
)
_10C87EA1 = replace(_A8EB62F5, aot_needs_gluon_triton=True, mfma="target", compiled=_compiled("gfx942", "gfx950"))
_A1BDCEC9 = replace(
    _10C87EA1,
    known_archs=(*_ARCHS_2025, *_ARCHS_RDNA, "gfx1250"),
    mfma_3d=("base", "preshuffle"),
    flydsl_needs="===0.1.1.dev409",
)
_A6BB4993 = replace(
    _A1BDCEC9,
    store_preshuffle=True,
    gather_preshuffle=True,
    trimmed_by=("AITER_AOT_IMPORT",),
    flydsl_needs=">=0.1.3",
)
_F061FBA9 = replace(
    _A6BB4993, gate_triton="3.6.0", takes=(*_QK_ROPE, *_RAGGED), imports_flydsl=True, flydsl_needs=">=0.1.5.dev515"
)
_3B2E6F48 = replace(_F061FBA9, gate_escape="AITER_USE_SYSTEM_TRITON")
_V0_1_15 = replace(_3B2E6F48, fp8_archs=("gfx942", "gfx950", "gfx1200", "gfx1201", "gfx1250"))
_861B4C93 = replace(
    _V0_1_15,
    gluon_archs=("gfx942", "gfx950", "gfx1250"),
    trimmed_by=("AITER_TRITON_ONLY", "AITER_AOT_IMPORT"),
    compiled=_compiled("gfx942", "gfx950", "gfx1250"),
    flydsl_needs=">=0.1.8",
)
_V0_1_18 = replace(
    _861B4C93,
    gfx1250_waves=4,
    takes=(*_QK_ROPE, *_RAGGED, "flydsl_fp8_mqa_logits"),
    imports_flydsl=False,
    flydsl_needs=">=0.2.4",
)
_04907EDC = replace(
    _V0_1_18,
    arch_gate="select",
    plain_pages="any",
    wide_offsets=("preshuffle",),
    fp8_archs=(
        "gfx942", "gfx950", "gfx1100", "gfx1101", "gfx1102", "gfx1151", "gfx1200", "gfx1201", "gfx1250",
    ),
)  # fmt: skip

GENERATIONS: Mapping[str, AiterSource] = MappingProxyType(
    {
        "d36601a9": _D36601A9,
        "fe927e8d": _FE927E8D,
        "914dcee3": _914DCEE3,
        "a8eb62f5": _A8EB62F5,
        "10c87ea1": _10C87EA1,
        "a1bdcec9": _A1BDCEC9,
        "a6bb4993": _A6BB4993,
        "f061fba9": _F061FBA9,
        "3b2e6f48": _3B2E6F48,
        "861b4c93": _861B4C93,
        "04907edc": _04907EDC,
    }
)
"""What the real source shows, by the commit with which its gates changed, oldest first; `location` is empty."""

AITER_RELEASES: Mapping[str, AiterRelease] = {
    "0.1.13": AiterRelease("0.1.13", ">= 0.1.13", "a6bb4993", _A6BB4993),
    "0.1.15": AiterRelease("0.1.15", ">= 0.1.15", "v0.1.15", _V0_1_15),
    "0.1.16": AiterRelease("0.1.16", ">= 0.1.16", "861b4c93", _861B4C93),
    "0.1.18": AiterRelease("0.1.18", ">= 0.1.18", "v0.1.18", _V0_1_18),
    "main": AiterRelease("04907edc", "from 2026-08-20 on (commit 04907edc)", "04907edc", _04907EDC),
}

# Other releases of the same generations.
_RELEASED = {"0.1.11": "a8eb62f5", "0.1.12": "10c87ea1"}

KNOWN_AITERS: Mapping[str, AiterRelease] = MappingProxyType(
    {
        **{
            commit: AiterRelease(commit, f"of commit {commit}", commit, source)
            for commit, source in GENERATIONS.items()
        },
        **{name: AiterRelease(name, name, commit, GENERATIONS[commit]) for name, commit in _RELEASED.items()},
        **AITER_RELEASES,
    }
)
"""Every aiter that may be supposed: by the commit with which its gates changed, or by a release that has them."""


def nearest_generation(source: AiterSource) -> str:
    """Return the commit of the generation that has most of the facts that a source shows; of several, the newest."""

    def differing(commit: str) -> int:
        there = GENERATIONS[commit]
        facts = ((getattr(source, each.name), getattr(there, each.name)) for each in fields(source))
        return sum(here is not None and here != other for here, other in facts)

    return min(reversed(list(GENERATIONS)), key=differing)
