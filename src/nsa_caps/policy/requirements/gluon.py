"""What aiter's rows need of its gluon kernels: active or not, compiling, or loaded from the ahead-of-time bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.archs import ARCHS
from nsa_caps.policy.aiter_gates import (
    AOT_VARIABLE,
    GLUON_MEASURED,
    LOGITS_MODULE,
    MEASURED,
    aiter_arch,
    aot_kernel_name,
    aot_switch,
    gluon_active,
    has_new_triton,
    jit_runs,
    no_compile_reason,
)
from nsa_caps.policy.changes import Change
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.requirements.plain import no_fp8_type
from nsa_caps.policy.versions import base_version, comes_before

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import AiterSource, Capabilities
    from nsa_caps.policy.aiter_gates import Kernel
    from nsa_caps.policy.request import Request
    from nsa_caps.policy.requirements.common import Requirement

__all__ = ["gluon_inactive", "gluon_needed", "gluon_runs"]

_UNSET_AOT = Change("unset", AOT_VARIABLE)


def gluon_needed(caps: Capabilities, _: Request) -> Reason | None:
    """Need aiter's gluon kernels to be active: only they read tiles."""
    source = caps.aiter_source
    if source is None or gluon_active(caps) is not False:
        return None
    if source.wrapper == "plain":
        return Reason(
            "aiter.gluon-cut",
            "unmet",
            observed="its logits function calls the plain kernel alone",
            required="an aiter as it was released",
            source=f"aiter/{source.logits_module}",
            changes=(Change.aiter("main"),),
        )
    if has_new_triton(source, caps.triton.version) is False and not aot_switch(caps):
        observed, required = f"Triton {caps.triton.version}", f"Triton >= {source.gluon_triton}"
        return Reason(
            "triton.too-old",
            "unmet",
            observed=observed,
            required=required,
            source=caps.triton.source,
            changes=(Change.triton(source.gluon_triton),),
        )
    return _not_gluon(source, aiter_arch(caps))


def gluon_inactive(caps: Capabilities, _: Request) -> Reason | None:
    """Need the plain kernel: gluon reads pages above 1 that are not tiled silently wrong (aiter#5591)."""
    source = caps.aiter_source
    if source is None or not gluon_active(caps):
        return None
    by_switch = aot_switch(caps) and has_new_triton(source, caps.triton.version) is False
    changes = (_UNSET_AOT,) if by_switch else ()
    return Reason(
        "aiter.flat-reads-wrong",
        "unmet",
        observed="gluon is active",
        required="gluon not active",
        source="aiter#5591",
        changes=changes,
    )


def _not_gluon(source: AiterSource, arch: str | None) -> Reason:
    newer = (Change.aiter("0.1.16"),) if arch == "gfx1250" else ()
    return Reason(
        "aiter.arch-not-gluon",
        "unmet",
        observed=str(arch),
        required=f"one of {', '.join(source.gluon_archs or ())}",
        source=LOGITS_MODULE,
        changes=newer,
    )


def gluon_runs(kernel: Kernel, page_size: int | None = None) -> Requirement:
    """Need the gluon kernel, where it is active, to run: by JIT, or from a complete AOT bundle for this arch.

    Args:
        kernel: `base` (page 1) or `preshuffle`.
        page_size: the page size where the request names none; None: one token, whatever it names.
    """

    def check(caps: Capabilities, request: Request) -> Reason | None:
        source, arch = caps.aiter_source, aiter_arch(caps)
        if source is None or arch is None or not gluon_active(caps):
            return None
        if source.gluon_archs is not None and arch not in source.gluon_archs:
            # With `assert` every layout fails here (rule 6); with `select` gluon would not be active.
            return _not_gluon(source, arch)
        if reason := _launches(source, kernel, arch):
            return reason
        by_jit = jit_runs(caps)
        if by_jit is None:
            return None
        # With a new Triton the AOT loader compiles too, and only then swaps the code object for the bundle's.
        if has_new_triton(source, caps.triton.version) and (reason := _compiles(caps, kernel, arch)):
            return reason
        if by_jit:
            return None
        size = 1 if page_size is None else request.page_size or page_size
        name = aot_kernel_name(source, kernel, request.heads, size, arch)
        return _aot_triton(caps, source) or _aot_kernel(caps, name, arch)

    return check


def _launches(source: AiterSource, kernel: Kernel, arch: str) -> Reason | None:
    """Need a body that was compiled for this arch, a launch that fits it, and keys in a type that it multiplies."""
    where = f"aiter/{source.logits_module}"
    main = (Change.aiter("main"),)
    if source.launches_short is not None and kernel in source.launches_short:
        observed, required = f"the {kernel} kernel is launched with one argument fewer", "as many as it takes"
        return Reason("aiter.launch-short", "unmet", observed=observed, required=required, source=where, changes=main)
    if source.fp8_archs is not None and arch not in source.fp8_archs:
        return no_fp8_type(source, arch)
    known = [name for name in source.compiled or () if name.startswith(f"{kernel}:")]
    if not known:
        observed = f"a {kernel} kernel that is none of history's"
        return Reason(
            "aiter.body-unproven",
            "unknown",
            observed=observed,
            required="a body that was compiled",
            source="aiter/ops/triton/gluon/pa_mqa_logits.py",
            changes=main,
        )
    if f"{kernel}:{arch}" not in known and arch not in GLUON_MEASURED:
        required = f"one of {', '.join(GLUON_MEASURED)}"
        return Reason("device.arch-unproven", "unknown", observed=arch, required=required, source=MEASURED)
    return None


def _compiles(caps: Capabilities, kernel: Kernel, arch: str) -> Reason | None:
    found = no_compile_reason(caps, kernel, arch)
    floor = ARCHS[arch].gluon if arch in ARCHS else None
    if found is None and comes_before(caps.triton.version, floor):
        return Reason(
            "device.arch-unproven",
            "unknown",
            observed=f"{arch} with Triton {caps.triton.version}",
            required=f"Triton >= {floor}, as released",
            source=MEASURED,
            changes=(Change.triton(floor),),
        )
    if found is None:
        return None
    observed, required, triton = found
    change = Change.triton(triton) if triton else Change.aiter("0.1.13")
    return Reason(
        "aiter.does-not-compile", "unmet", observed=observed, required=required, source=MEASURED, changes=(change,)
    )


def _aot_triton(caps: Capabilities, source: AiterSource) -> Reason | None:
    """Need Triton 3.3.x for a bundle on an old Triton: older lacks an argument, 3.4 changed the ABI (triton#7258)."""
    if has_new_triton(source, caps.triton.version) is not False:
        return None
    ways = (_UNSET_AOT, Change.triton(source.gluon_triton))
    if source.aot_needs_gluon_triton:
        observed, where = f"get_cdna_version on Triton {caps.triton.version}", f"{LOGITS_MODULE} (10c87ea1)"
        required = f"{AOT_VARIABLE} unset, or Triton >= {source.gluon_triton}"
        return Reason("aot.name-error", "unmet", observed=observed, required=required, source=where, changes=ways)
    version = base_version(caps.triton.version)
    if version is None or version.release[:2] == (3, 3):
        return None
    observed = f"Triton {caps.triton.version}"
    return Reason(
        "aot.triton", "unmet", observed=observed, required="3.3.0 <= Triton < 3.4.0", source="triton#7258", changes=ways
    )


def _aot_kernel(caps: Capabilities, name: str, arch: str) -> Reason | None:
    """Need the bundle to hold this kernel, whole and for this arch; the path does not name the arch."""
    bundle = caps.aot_bundle
    where = f"{bundle.location}/{name}"
    if bundle.kernels is None:
        return Reason(
            "aot.unknown",
            "unknown",
            observed="a folder that cannot be read",
            required=name,
            source=bundle.location,
            changes=(_UNSET_AOT,),
        )
    kernel = next((kernel for kernel in bundle.kernels if kernel.name == name), None)
    if kernel is None:
        return Reason(
            "aot.kernel-missing",
            "unmet",
            observed=f"{AOT_VARIABLE}=1 and no {name}",
            required="that kernel, or the variable unset",
            source=where,
            changes=(_UNSET_AOT,),
        )
    if not kernel.complete:
        return Reason(
            "aot.kernel-partial",
            "unmet",
            observed=name,
            required="its .json and .hsaco",
            source=where,
            changes=(_UNSET_AOT,),
        )
    if kernel.arch != arch:
        return Reason(
            "aot.wrong-arch",
            "unmet",
            observed=f"{name} for {kernel.arch}",
            required=f"one for {arch}",
            source=where,
            changes=(_UNSET_AOT,),
        )
    return None
