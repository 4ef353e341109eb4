"""Requirements that any row may have: a predicate over capabilities and request that answers None when met.

Unmet and unknown come with a `Reason`. Those of aiter's rows are in `aiter_requirements.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from nsa_caps.capabilities.records import dialect
from nsa_caps.capabilities.switches import variable_to_set
from nsa_caps.policy.changes import Change
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.versions import base_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsa_caps.capabilities.records import Capabilities, Package, Platform
    from nsa_caps.policy.request import Request

__all__ = [
    "Requirement",
    "dialect",
    "fp8_dialect",
    "gpu_visible",
    "head_counts",
    "keep_arch",
    "keep_only",
    "key_blocks",
    "nvidia_archs",
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
            return Reason("platform.unknown", "unknown", "no readable torch", " or ".join(wanted), caps.platform_source)
        return Reason("platform.mismatch", "unmet", caps.platform, " or ".join(wanted), caps.platform_source)

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
        return Reason(f"package.{package.state}", "unmet", observed, required, package.location, (install,))

    return check


def gpu_visible(caps: Capabilities, _: Request) -> Reason | None:
    """Need at least one GPU that this process may use."""
    if caps.devices is None:
        # A CUDA build without nvidia-ml-py is the common case; elsewhere the notes say what could not be read.
        changes = (Change("advice", "pip install nvidia-ml-py"),) if caps.platform == "cuda" else ()
        return Reason("device.unknown", "unknown", "no GPU list", "the arch of every visible GPU", None, changes)
    if not caps.devices:
        return Reason("device.none", "unmet", "none", "a visible GPU")
    return None


def nvidia_archs(wanted: str, takes: Callable[[int], bool]) -> Requirement:
    """Need every visible GPU to have a compute capability (90 for sm_90) that `takes` accepts."""

    def check(caps: Capabilities, _: Request) -> Reason | None:
        others = [arch for arch in caps.archs or () if (sm := _compute_capability(arch)) is None or not takes(sm)]
        if not others:
            return None
        return Reason(
            "device.arch", "unmet", ", ".join(others), wanted, _where(caps, others[0]), keep_only(caps, others)
        )

    return check


def _compute_capability(arch: str) -> int | None:
    """Return 90 for sm_90, None for what is none of NVIDIA's."""
    return int(arch[3:]) if re.fullmatch(r"sm_[0-9]{2,3}", arch) else None


# Compiled for by tests/kernels with Triton 3.8.0; gfx9 below 90a has no tests, DCU's gfx92x and gfx93x no Triton here.
_PORTABLE_AMD = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151",
    "gfx1152", "gfx1153", "gfx1200", "gfx1201", "gfx1250")  # fmt: skip


# The lowest Triton that our kernels compile with where it is above the row's own: tests/kernels.
_PORTABLE_TRITON = {"gfx1250": "3.6.0"}


def portable_triton(caps: Capabilities, request: Request) -> Reason | None:
    """Need a Triton that our kernels were compiled with: 3.3.0, and 3.6.0 for gfx1250."""
    floors = [_PORTABLE_TRITON[arch] for arch in caps.archs or () if arch in _PORTABLE_TRITON]
    return triton_known(floors[0] if floors else "3.3.0")(caps, request)


def portable_archs(caps: Capabilities, _: Request) -> Reason | None:
    """Need GPUs that this library's Triton kernels were compiled for: sm_80 and later, and AMD's from gfx90a on."""
    for arch in caps.archs or ():
        sm = _compute_capability(arch)
        if sm is not None:
            if sm < 80:
                # Triton itself supports compute capability 8.0 and later.
                return Reason(
                    "device.arch", "unmet", arch, "sm_80 or later", _where(caps, arch), keep_only(caps, [arch])
                )
        elif arch not in _PORTABLE_AMD:
            required = f"one of {', '.join(_PORTABLE_AMD)}"
            return Reason(
                "device.arch-unproven", "unknown", arch, required, _where(caps, arch), keep_only(caps, [arch])
            )
    return None


def fp8_dialect(caps: Capabilities, _: Request) -> Reason | None:
    """Need one fp8 dialect on all visible GPUs: the same bits read in the other one are off by a factor of two."""
    if dialect(caps) is not None:
        return None
    if caps.devices is None:
        return Reason("device.unknown", "unknown", "no GPU list", "GPUs whose fp8 dialect is known")
    archs = ", ".join(caps.archs or ())
    changes = tuple(keep_arch(caps, arch) for arch in caps.archs or ())
    return Reason("device.dialects", "unmet", archs, "GPUs of one fp8 dialect", None, changes)


def keep_only(caps: Capabilities, others: list[str]) -> tuple[Change, ...]:
    """Return the change that hides GPUs of `others`, where one arch would remain."""
    rest = [arch for arch in caps.archs or () if arch not in others]
    return (keep_arch(caps, rest[0]),) if len(rest) == 1 else ()


def keep_arch(caps: Capabilities, arch: str) -> Change:
    """Return the change that shows the GPUs of one arch only, by the driver's own numbers."""
    numbers = ",".join(str(device.number) for device in caps.devices or () if device.arch == arch)
    # ROCR's variable hides GPUs from aiter's rocminfo too.
    return Change("keep", "CUDA_VISIBLE_DEVICES" if caps.platform == "cuda" else "ROCR_VISIBLE_DEVICES", numbers)


def _where(caps: Capabilities, arch: str) -> str | None:
    return next((device.source for device in caps.devices or () if device.arch == arch), None)


def triton_known(minimum: str | None = None) -> Requirement:
    """Need Triton, of a version that can be read, and at least `minimum`."""

    def check(caps: Capabilities, request: Request) -> Reason | None:
        missing = package_found("triton", "triton")(caps, request)
        if missing is not None:
            return missing
        version = base_version(caps.triton.version)
        if version is None:
            observed = f"version {caps.triton.version!r}"
            return Reason("triton.version-unknown", "unknown", observed, "a version such as 3.6.0", caps.triton.source)
        floor = base_version(minimum)
        if floor is not None and version < floor:
            change = Change("triton", "triton", minimum)
            return Reason(
                "triton.too-old",
                "unmet",
                str(caps.triton.version),
                f"Triton >= {minimum}",
                caps.triton.source,
                (change,),
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
            code, "unmet", observed, f"{variable}=1", switch.source if switch else None, (Change("set", variable, "1"),)
        )

    return check


def switch_off(name: str, code: str) -> Requirement:
    """Need a switch to be off."""

    def check(caps: Capabilities, _: Request) -> Reason | None:
        switch = caps.switches.get(name)
        if switch is None or switch.value is not True or switch.variable is None:
            return None
        observed, required = f"{switch.variable}={switch.raw}", f"{switch.variable} unset"
        return Reason(code, "unmet", observed, required, switch.source, (Change("unset", switch.variable),))

    return check


def page_sizes(wanted: str, takes: Callable[[int], bool], default: int) -> Requirement:
    """Need the page size asked for to be one that `takes` accepts; without one the row's default stands."""

    def check(_: Capabilities, request: Request) -> Reason | None:
        size = default if request.page_size is None else request.page_size
        if takes(size):
            return None
        return Reason("page.size", "unmet", str(size), wanted, "the request", (Change("page-size", "page_size"),))

    return check


def vector_shape(_: Capabilities, request: Request) -> Reason | None:
    """Need 128 dimensions under one scale: the 132-byte token that every kernel of the field has."""
    if (request.head_dim, request.quant_block_size) == (128, 128):
        return None
    observed = f"head_dim {request.head_dim}, quant_block_size {request.quant_block_size}"
    return Reason("request.shape", "unmet", observed, "head_dim 128, quant_block_size 128", "the request")


def key_blocks(_: Capabilities, request: Request) -> Reason | None:
    """Need whole scale blocks, and keys of whole 4-byte words, behind which the scales lie."""
    if request.head_dim % request.quant_block_size == 0 and request.head_dim % 4 == 0:
        return None
    observed = f"head_dim {request.head_dim}, quant_block_size {request.quant_block_size}"
    required = "a head_dim that is a multiple of 4 and of quant_block_size"
    return Reason("request.shape", "unmet", observed, required, "the request")


def head_counts(*proven: int) -> Requirement:
    """Need a number of indexer heads that the logits kernel was compiled with."""

    def check(_: Capabilities, request: Request) -> Reason | None:
        if request.heads in proven:
            return None
        required = " or ".join(map(str, proven)) + " heads"
        return Reason("request.shape-unproven", "unknown", f"{request.heads} heads", required, "the request")

    return check
