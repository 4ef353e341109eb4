"""What aiter's rows need of its plain Triton kernel, where it is the one that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from nsa_caps.archs import ARCHS
from nsa_caps.policy.aiter_gates import MEASURED, aiter_arch, gluon_active
from nsa_caps.policy.changes import Change
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.versions import base_version, comes_before

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import AiterSource, Capabilities
    from nsa_caps.policy.request import Request

__all__ = ["no_fp8_type", "plain_compiles"]


def plain_compiles(caps: Capabilities, _: Request) -> Reason | None:
    """Need the plain kernel, where it is the one that runs, to compile for this GPU."""
    source, arch, triton = caps.aiter_source, aiter_arch(caps), base_version(caps.triton.version)
    if source is None or arch is None or triton is None or gluon_active(caps) is not False:
        return None
    if source.fp8_archs is not None and arch not in source.fp8_archs:
        return no_fp8_type(source, arch)
    if "plain:*" not in (source.compiled or ()):
        return Reason(
            "aiter.body-unproven",
            "unknown",
            observed="a plain kernel that is none of history's",
            required="a body that was compiled",
            source="aiter/ops/triton/_triton_kernels",
            changes=(Change.aiter("main"),),
        )
    needed = ARCHS[arch].plain if arch in ARCHS else None
    if needed is None:
        compiled = ", ".join(known.name for known in ARCHS.values() if known.plain is not None)
        return Reason("device.arch-unproven", "unknown", observed=arch, required=f"one of {compiled}", source=MEASURED)
    is_untried = triton < Version(needed) and not ARCHS[arch].plain_failed_below
    if is_untried or comes_before(caps.triton.version, needed):
        observed = f"{arch} with Triton {caps.triton.version}"
        return Reason(
            "device.arch-unproven",
            "unknown",
            observed=observed,
            required=f"Triton >= {needed}",
            source=MEASURED,
            changes=(Change.triton(needed),),
        )
    if triton < Version(needed):
        observed = f"the plain kernel for {arch} on Triton {triton}"
        return Reason(
            "aiter.does-not-compile",
            "unmet",
            observed=observed,
            required=f"Triton >= {needed}",
            source=MEASURED,
            changes=(Change.triton(needed),),
        )
    return None


def no_fp8_type(source: AiterSource, arch: str) -> Reason:
    """Return the reason against an arch for which `utility/dtypes.py` has no fp8 type."""
    return Reason(
        "aiter.no-fp8-type",
        "unmet",
        observed=arch,
        required=f"one of {', '.join(source.fp8_archs or ())}",
        source="aiter/utility/dtypes.py",
        changes=(Change.aiter("main"),),
    )
