"""aiter's own gates, as its source has them: what runs, given the source's facts, Triton, the switches and the arch.

Pure arithmetic over facts; None wherever a fact that the answer rests on is not known. `aiter_requirements.py` makes
reasons of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from packaging.version import Version

from nsa_caps.archs import ARCHS
from nsa_caps.policy.versions import base_version, parse_version, without_local

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import AiterSource, Capabilities

__all__ = [
    "AOT_VARIABLE",
    "CHUNK_K",
    "ESCAPE_VARIABLE",
    "GLUON_MEASURED",
    "LOGITS_MODULE",
    "MEASURED",
    "Kernel",
    "aiter_arch",
    "aot_kernel_name",
    "aot_switch",
    "below_import_gate",
    "gluon_active",
    "has_new_triton",
    "in_triton_gap",
    "jit_runs",
    "kernel_variant",
    "no_compile_reason",
    "reaches_import_gate",
]

Kernel: TypeAlias = Literal["base", "preshuffle"]

AOT_VARIABLE = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS"
# The variable of 3b2e6f48, which switches read; an aiter that asks for another one is asked in vain.
ESCAPE_VARIABLE = "AITER_USE_SYSTEM_TRITON"
# Where most rules were read, as a source to name; and where what compiles was measured.
LOGITS_MODULE = "aiter/ops/triton/attention/pa_mqa_logits.py"
MEASURED = "measured: tests/real_aiter/compiles.json"
# The archs that each body of the gluon kernels was compiled for; what fails there is known not to compile.
GLUON_MEASURED = ("gfx942", "gfx950", "gfx1250")
# The default of `deepgemm_fp8_paged_mqa_logits`, which no engine changes.
CHUNK_K = 256


def has_new_triton(source: AiterSource, triton: str | None) -> bool | None:
    """Return whether Triton counts as new to the logits module, compared as that generation compares."""
    if triton is None or source.gluon_triton is None or source.triton_comparison is None:
        return None
    if source.triton_comparison == "text":
        return triton >= source.gluon_triton
    version, minimum = base_version(triton), base_version(source.gluon_triton)
    return None if version is None or minimum is None else version >= minimum


def in_triton_gap(source: AiterSource, triton: str | None) -> bool | None:
    """Return whether the logits module fails an assertion at import: fe927e8d with Triton 3.4.x, compared as text."""
    if source.triton_gap == "none":
        return False
    new = has_new_triton(source, triton)
    if new is None or triton is None or source.triton_gap is None:
        return None
    return not new and triton >= source.triton_gap


def below_import_gate(source: AiterSource, triton: str | None) -> bool | None:
    """Return whether Triton is below the minimum of `aiter.ops.triton.gluon`; release candidates are (f061fba9)."""
    if source.gate_triton == "none":
        return False
    version, minimum = without_local(triton), parse_version(source.gate_triton)
    return None if version is None or minimum is None else version < minimum


def aot_switch(caps: Capabilities) -> bool:
    """Return whether aiter reads its AOT variable as set: exactly `1`."""
    switch = caps.switches.get("aiter_aot")
    return switch is not None and switch.value is True


def aiter_arch(caps: Capabilities) -> str | None:
    """Return the arch that aiter takes for the machine's: `GPU_ARCHS`, else the first that rocminfo prints."""
    switch = caps.switches.get("gpu_archs")
    if switch is not None and switch.value is None:
        return None
    return str(switch.value) if switch is not None and switch.value else caps.rocminfo_arch


def gluon_active(caps: Capabilities) -> bool | None:
    """Return whether aiter runs its gluon kernels rather than the plain Triton one."""
    source = caps.aiter_source
    if source is None or source.wrapper is None:
        return None
    if source.wrapper == "plain":
        return False
    new = has_new_triton(source, caps.triton.version)
    asked = True if aot_switch(caps) else new
    if not asked or source.arch_gate == "assert":
        return asked
    arch = aiter_arch(caps)
    if source.arch_gate is None or source.gluon_archs is None or arch is None:
        return None
    return arch in source.gluon_archs


def kernel_variant(caps: Capabilities) -> str:
    """Return which of aiter's two kinds of logits kernels runs, in a word."""
    return {True: "gluon", False: "plain Triton", None: "gluon or plain Triton"}[gluon_active(caps)]


def jit_runs(caps: Capabilities) -> bool | None:
    """Return whether an active gluon kernel is compiled in place; otherwise it is loaded from the AOT bundle."""
    source = caps.aiter_source
    if source is None or source.aot_stops_jit is None:
        return None
    new = has_new_triton(source, caps.triton.version)
    return new and not (aot_switch(caps) and source.aot_stops_jit)


def reaches_import_gate(caps: Capabilities) -> bool | None:
    """Return whether aiter itself, or its logits module, imports the gluon package, where the minimum stands."""
    source = caps.aiter_source
    if source is None:
        return None
    new = has_new_triton(source, caps.triton.version)
    if new or source.package_imports_gluon:
        return True
    return None if new is None or source.package_imports_gluon is None else False


def aot_kernel_name(source: AiterSource, kernel: Kernel, heads: int, page_size: int, arch: str) -> str:
    """Return the folder that aiter's loader asks for; W is WavePerEU, F that rows of 132 bytes are not padded to 16."""
    if kernel == "preshuffle":
        waves = source.gfx1250_waves if arch == "gfx1250" else 2
        return f"paged_mqa_logits_preshuffle_{heads}x{CHUNK_K}x128_B{page_size}PFW{waves}"
    return f"paged_mqa_logits_{heads}x{CHUNK_K}x128_B{page_size}PFW{1 if arch == 'gfx1250' else 2}"


def no_compile_reason(caps: Capabilities, kernel: Kernel, arch: str) -> tuple[str, str, str | None] | None:
    """Return why a gluon kernel that passes every gate does not compile, or None where it does.

    The reason is what was found, what is needed, and the Triton that would do, if one would. Each was measured with
    Triton's compiler on real sources (`tests/real_aiter/compiles.json`).
    """
    source, triton = caps.aiter_source, base_version(caps.triton.version)
    if source is None or triton is None or source.mfma is None or source.mfma_3d is None:
        return None
    known = ARCHS.get(arch)
    if known is not None and known.mfma is not None and source.mfma in ("3", "4") and source.mfma != known.mfma:
        observed = f"kernels written for MFMA version {source.mfma}, on {arch}"
        return observed, "an aiter that follows the GPU (10c87ea1)", None
    seen = [name.partition(":")[2] for name in source.compiled or () if name.startswith(f"{kernel}:")]
    if arch in GLUON_MEASURED and seen and arch not in seen:
        return f"the {kernel} kernel of this commit, on {arch}", "an aiter whose kernel compiles", None
    if kernel not in source.mfma_3d and triton.release >= (3, 6):
        observed = f"the {kernel} kernel names MFMA shapes by two numbers, on Triton {triton}"
        return observed, "an aiter since a1bdcec9, or Triton < 3.6", None
    if known is not None and known.gluon is not None and triton < Version(known.gluon):
        return f"Triton {triton} on {arch}", f"Triton >= {known.gluon}", known.gluon
    return None
