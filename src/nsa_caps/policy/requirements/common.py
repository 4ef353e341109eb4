"""Requirements that any row may have: a predicate over capabilities and request that answers None when met.

Unmet and unknown come with a `Reason`. Those of aiter's rows are in `aiter_requirements.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from packaging.version import Version

from nsa_caps.archs import ARCHS
from nsa_caps.capabilities.records import dialect
from nsa_caps.capabilities.switches import variable_to_set
from nsa_caps.policy.changes import Change
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.versions import base_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsa_caps.archs import Arch
    from nsa_caps.capabilities.records import Capabilities, Package, Platform
    from nsa_caps.policy.request import Request

__all__ = [
    "Requirement",
    "archs_to_keep",
    "deep_gemm_archs",
    "dialect",
    "fp8_dialect",
    "gpu_visible",
    "head_counts",
    "keep_arch",
    "keep_only",
    "key_blocks",
    "package_found",
    "page_sizes",
    "platform_is",
    "portable_archs",
    "portable_triton",
    "switch_off",
    "switch_on",
    "triton_known",
    "vector_shape",
]


class Requirement(Protocol):
    """A predicate over (capabilities, request): None when met, else the reason."""

    def __call__(self, caps: Capabilities, request: Request, /) -> Reason | None:
        """Return None when met."""


def platform_is(*wanted: Platform) -> Requirement:
    """Need torch to be built for one of these platforms."""

    def check(caps: Capabilities, _: Request) -> Reason | None:
        if caps.platform in wanted:
            return None
        if caps.platform == "unknown":
            return Reason(
                "platform.unknown",
                "unknown",
                observed="no readable torch",
                required=" or ".join(wanted),
                source=caps.platform_source,
            )
        return Reason(
            "platform.mismatch",
            "unmet",
            observed=caps.platform,
            required=" or ".join(wanted),
            source=caps.platform_source,
        )

    return check


def package_found(name: str, distribution: str) -> Requirement:
    """Need a package to be installed, whole, and the one that is meant."""

    def check(caps: Capabilities, _: Request) -> Reason | None:
        package: Package = getattr(caps, name)
        if package.state == "found":
            return None
        required = "AMD's aiter" if name == "aiter" else name
        install = Change("aiter", name, "main") if name == "aiter" else Change("package", name, distribution)
        observed = {
            "missing": f"no package {name}",
            "broken": f"a package {name} that cannot be read at {package.location}",
            "impostor": f"another project named {name}: {package.distribution or 'of no known distribution'}",
        }[package.state]
        return Reason(
            f"package.{package.state}",
            "unmet",
            observed=observed,
            required=required,
            source=package.location,
            changes=(install,),
        )

    return check


def gpu_visible(caps: Capabilities, _: Request) -> Reason | None:
    """Need at least one GPU that this process may use."""
    if caps.devices is None:
        # A CUDA build without nvidia-ml-py is the common case; elsewhere the notes say what could not be read.
        changes = (Change("advice", "pip install nvidia-ml-py"),) if caps.platform == "cuda" else ()
        return Reason(
            "device.unknown",
            "unknown",
            observed="no GPU list",
            required="the arch of every visible GPU",
            source=None,
            changes=changes,
        )
    if not caps.devices:
        return Reason("device.none", "unmet", observed="none", required="a visible GPU")
    return None


def deep_gemm_archs(caps: Capabilities, _: Request) -> Reason | None:
    """Need GPUs that DeepGEMM has a kernel for; engines look for the package only (vllm#38476, sglang#32947)."""
    wanted = "one of " + ", ".join(arch.name for arch in ARCHS.values() if arch.deep_gemm is not None)
    return _archs_that(caps, lambda arch: arch.deep_gemm is not None, wanted)


def portable_triton(caps: Capabilities, request: Request) -> Reason | None:
    """Need a Triton that our kernels were compiled with for every visible GPU: the highest floor counts."""
    floors = [known.triton for arch in caps.archs or () if (known := ARCHS.get(arch)) and known.triton]
    return triton_known(max(floors, key=Version, default="3.3.0"))(caps, request)


def portable_archs(caps: Capabilities, _: Request) -> Reason | None:
    """Need GPUs that this library's Triton kernels were compiled for."""
    wanted = "a GPU that this library's kernels were compiled for: sm_80 or gfx90a, or one of many later ones"
    return _archs_that(caps, lambda arch: arch.triton is not None, wanted)


def _archs_that(caps: Capabilities, fits: Callable[[Arch], bool], required: str) -> Reason | None:
    """Need every visible GPU to be one that fits; one that `ARCHS` has no record of is not known to."""
    others = [arch for arch in caps.archs or () if arch not in ARCHS or not fits(ARCHS[arch])]
    if not others:
        return None
    known = [arch for arch in others if arch in ARCHS]
    return Reason(
        "device.arch" if known else "device.arch-unproven",
        "unmet" if known else "unknown",
        observed=", ".join(known or others),
        required=required,
        source=next(device.source for device in caps.devices or () if device.arch == (known or others)[0]),
        changes=keep_only(caps, others),
    )


# A host has GPUs of one arch, seldom of two; a stranger's snapshot may have thousands, and each would be tried.
_MOST_ARCHS = 8


def fp8_dialect(caps: Capabilities, _: Request) -> Reason | None:
    """Need one fp8 dialect on all visible GPUs: the same bits read in the other one are off by a factor of two."""
    if dialect(caps) is not None:
        return None
    if caps.devices is None:
        return Reason("device.unknown", "unknown", observed="no GPU list", required="GPUs whose fp8 dialect is known")
    archs = ", ".join(caps.archs or ())
    changes = tuple(keep_arch(caps, arch) for arch in archs_to_keep(caps))
    return Reason(
        "device.dialects", "unmet", observed=archs, required="GPUs of one fp8 dialect", source=None, changes=changes
    )


def keep_only(caps: Capabilities, others: list[str]) -> tuple[Change, ...]:
    """Return the change that hides GPUs of `others`, where one arch would remain."""
    rest = set(caps.archs or ()) - set(others)
    return (keep_arch(caps, rest.pop()),) if len(rest) == 1 else ()


def archs_to_keep(caps: Capabilities) -> tuple[str, ...]:
    """Return the archs, of which showing one alone may be a fix: the first few."""
    return (caps.archs or ())[:_MOST_ARCHS]


def keep_arch(caps: Capabilities, arch: str) -> Change:
    """Return the change that shows the GPUs of one arch only, by the driver's own numbers."""
    numbers = ",".join(str(device.number) for device in caps.devices or () if device.arch == arch)
    # ROCR's variable hides GPUs from aiter's rocminfo too.
    return Change("keep", "CUDA_VISIBLE_DEVICES" if caps.platform == "cuda" else "ROCR_VISIBLE_DEVICES", numbers)


def triton_known(minimum: str | None = None) -> Requirement:
    """Need Triton, of a version that can be read, and at least `minimum`."""

    def check(caps: Capabilities, request: Request) -> Reason | None:
        missing = package_found("triton", "triton")(caps, request)
        if missing is not None:
            return missing
        version = base_version(caps.triton.version)
        if version is None:
            observed = f"version {caps.triton.version!r}"
            return Reason(
                "triton.version-unknown",
                "unknown",
                observed=observed,
                required="a version such as 3.6.0",
                source=caps.triton.source,
            )
        floor = base_version(minimum)
        if floor is not None and version < floor:
            change = Change.triton(minimum)
            return Reason(
                "triton.too-old",
                "unmet",
                observed=str(caps.triton.version),
                required=f"Triton >= {minimum}",
                source=caps.triton.source,
                changes=(change,),
            )
        return None

    return check


def switch_on(name: str, code: str) -> Requirement:
    """Need a switch to be on."""

    def check(caps: Capabilities, _: Request) -> Reason | None:
        switch = caps.switches.get(name)
        if switch is not None and switch.value is True:
            return None
        variable = variable_to_set(name, caps.engine, switch.variable if switch else None)
        observed = f"{switch.variable}={switch.raw}" if switch and switch.variable else f"{variable} is not set"
        return Reason(
            code,
            "unmet",
            observed=observed,
            required=f"{variable}=1",
            source=switch.source if switch else None,
            changes=(Change("set", variable, "1"),),
        )

    return check


def switch_off(name: str, code: str) -> Requirement:
    """Need a switch to be off."""

    def check(caps: Capabilities, _: Request) -> Reason | None:
        switch = caps.switches.get(name)
        if switch is None or switch.value is not True or switch.variable is None:
            return None
        observed, required = f"{switch.variable}={switch.raw}", f"{switch.variable} unset"
        return Reason(
            code,
            "unmet",
            observed=observed,
            required=required,
            source=switch.source,
            changes=(Change("unset", switch.variable),),
        )

    return check


def page_sizes(wanted: str, takes: Callable[[int], bool], default: int) -> Requirement:
    """Need the page size asked for to be one that `takes` accepts; without one the row's default stands."""

    def check(_: Capabilities, request: Request) -> Reason | None:
        size = default if request.page_size is None else request.page_size
        if takes(size):
            return None
        return Reason(
            "page.size",
            "unmet",
            observed=str(size),
            required=wanted,
            source="the request",
            changes=(Change.page_size(),),
        )

    return check


def vector_shape(_: Capabilities, request: Request) -> Reason | None:
    """Need 128 dimensions under one scale: the 132-byte token that every kernel of the field has."""
    if (request.head_dim, request.quant_block_size) == (128, 128):
        return None
    observed = f"head_dim {request.head_dim}, quant_block_size {request.quant_block_size}"
    return Reason(
        "request.shape", "unmet", observed=observed, required="head_dim 128, quant_block_size 128", source="the request"
    )


def key_blocks(_: Capabilities, request: Request) -> Reason | None:
    """Need whole scale blocks, and keys of whole 4-byte words, behind which the scales lie."""
    if request.head_dim % request.quant_block_size == 0 and request.head_dim % 4 == 0:
        return None
    observed = f"head_dim {request.head_dim}, quant_block_size {request.quant_block_size}"
    required = "a head_dim that is a multiple of 4 and of quant_block_size"
    return Reason("request.shape", "unmet", observed=observed, required=required, source="the request")


def head_counts(*proven: int) -> Requirement:
    """Need a number of indexer heads that the logits kernel was compiled with."""

    def check(_: Capabilities, request: Request) -> Reason | None:
        if request.heads in proven:
            return None
        required = " or ".join(map(str, proven)) + " heads"
        return Reason(
            "request.shape-unproven",
            "unknown",
            observed=f"{request.heads} heads",
            required=required,
            source="the request",
        )

    return check
