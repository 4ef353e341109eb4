"""Requirements that any row may have: a predicate over capabilities and request that answers None when met.

Unmet and unknown come with a `Reason`. Those on GPUs are in `gpu.py` beside this file, DeepGEMM's in `deep_gemm.py`,
those of aiter's rows in `aiter.py` and `gluon.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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
    "gpus_fit_torch",
    "head_counts",
    "key_blocks",
    "not_found",
    "package_found",
    "page_sizes",
    "platform_is",
    "switch_off",
    "switch_on",
    "triton_change",
    "triton_known",
    "vector_shape",
]


class Requirement(Protocol):
    """A predicate over (capabilities, request): None when met, else the reason."""

    def __call__(self, caps: Capabilities, request: Request, /) -> Reason | None:
        """Return None when met."""


def platform_is(*wanted: Platform) -> Requirement:
    """Need torch to be built for one of these platforms; where the GPUs are of one, the fix is the torch for them."""

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
            changes=(torch_change(caps),) if _gpu_platforms(caps) & {*wanted} else (),
        )

    return check


def _gpu_platforms(caps: Capabilities) -> set[str]:
    """Return the platforms whose torch the visible GPUs need; Hygon's, whose torch is its own, need none of these."""
    archs = (caps.archs or ()) if caps.platform in ("cpu", "cuda", "rocm") else ()
    return {"cuda" if arch.startswith("sm_") else "rocm" for arch in archs}


def gpus_fit_torch(caps: Capabilities, _: Request) -> Reason | None:
    """Need a torch that is built for the visible GPUs: one for another vendor's sees none of them."""
    if caps.platform not in ("cuda", "rocm") or not _gpu_platforms(caps) - {caps.platform}:
        return None
    return Reason(
        "device.none",
        "unmet",
        observed=f"{', '.join(dict.fromkeys(caps.archs or ()))}, and a torch built for {caps.platform}",
        required="a GPU that this torch is built for",
        source=caps.platform_source,
        changes=(torch_change(caps),),
    )


def package_found(name: str, distribution: str) -> Requirement:
    """Need a package to be installed, whole, and the one that is meant."""

    def check(caps: Capabilities, _: Request) -> Reason | None:
        package: Package = getattr(caps, name)
        if package.state == "found":
            return None
        return not_found(package, _needed(caps, name), (_installation(caps, name, distribution),))

    return check


def not_found(package: Package, required: str, changes: tuple[Change, ...]) -> Reason:
    """Return the reason that a package which is not found gives.

    Args:
        package: the package.
        required: what is needed.
        changes: what would install it.
    """
    name = package.name
    if package.state == "unknown":
        advice = f"import {name} before asking, or mend what the notes tell of it"
        return Reason(
            "package.unknown",
            "unknown",
            observed=f"which {name} an import would bring is not known",
            required=required,
            source=package.location,
            changes=(Change("advice", advice),),
        )
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
        changes=changes,
    )


def _needed(caps: Capabilities, name: str) -> str:
    """Return what package is needed; of torch's many builds the one that fits, which no command here can know."""
    if name == "torch":
        archs = caps.archs or ()
        if any(arch.startswith("gfx") for arch in archs):
            return "torch, built for the ROCm that is installed"
        return "torch, built for a CUDA that the driver takes (nvidia-smi names it)" if archs else "torch"
    return "AMD's aiter" if name == "aiter" else name


def _installation(caps: Capabilities, name: str, distribution: str) -> Change:
    """Return how to install a package on this machine: never another build than its GPUs need."""
    if name == "aiter":
        return Change.aiter("main")
    if name == "torch":
        return torch_change(caps)
    return triton_change(caps, "3.6.0") if name == "triton" else Change("package", name, distribution)


def torch_change(caps: Capabilities) -> Change:
    """Return the change to a torch that is built for the visible GPUs."""
    index = "pip install torch --index-url https://download.pytorch.org/whl/"
    archs = caps.archs or ()
    if any(arch.startswith("gfx") for arch in archs):
        return Change("torch", f"{index}rocm7.0", "rocm")
    if archs:
        return Change("torch", f"{index}cu130", "cuda")
    if caps.devices is None:
        return Change("advice", f"{index} and what fits the GPU: rocm7.0, cu130, or cpu where there is none")
    return Change("torch", f"{index}cpu", "cpu")


def triton_change(caps: Capabilities, minimum: str) -> Change:
    """Return the change to a Triton of at least `minimum`, within what the installed torch asks for."""
    return Change.triton(minimum, caps.torch_triton)


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
            change = triton_change(caps, str(minimum))
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
