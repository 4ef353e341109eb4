"""Requirements on the GPUs: that this process may use them, that kernels were compiled for them, that they agree."""

from __future__ import annotations

import re
from shlex import quote
from typing import TYPE_CHECKING

from packaging.version import Version

from nsa_caps.archs import ARCHS, compute_capability
from nsa_caps.capabilities.records import dialect
from nsa_caps.policy.changes import Change
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.requirements.common import triton_change, triton_known
from nsa_caps.policy.versions import base_version, comes_before

if TYPE_CHECKING:
    from nsa_caps.capabilities.cuda import Ptxas
    from nsa_caps.capabilities.devices import Hidden
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.policy.request import Request

__all__ = [
    "archs_to_keep",
    "fp8_dialect",
    "gpu_visible",
    "keep_arch",
    "keep_only",
    "ptxas_knows",
    "triton_archs",
    "triton_compiles",
    "where",
]

# Where the GPUs are not known: what would make them known, by what stood in the way.
_READABLE = {
    "no-nvidia-ml-py": "pip install nvidia-ml-py",
    "nvml": "let NVML answer: docker run --gpus all in a container, and libnvidia-ml.so.1 on the library path",
    "cuda-order": "export CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the GPUs by UUID (nvidia-smi -L)",
    "hip-and-torch": "unset HIP_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES, or name each GPU once; -1 hides all from both",
}
# What prints the arch, by platform, for those who state it.
_PRINTED = {
    "cuda": "export NSA_CAPS_ARCH=sm_90, say, as nvidia-smi --query-gpu=compute_cap --format=csv tells it (9.0)",
    "rocm": "export NSA_CAPS_ARCH=gfx1201, say, as rocminfo prints it",
}


def gpu_visible(caps: Capabilities, _: Request) -> Reason | None:
    """Need at least one GPU that this process may use."""
    if caps.devices:
        return None
    if caps.devices is None:
        required = "the arch of every visible GPU"
        return Reason(
            "device.unknown", "unknown", observed="no GPU list", required=required, source=None, changes=_telling(caps)
        )
    if caps.hidden is None:
        return Reason("device.none", "unmet", observed="none", required="a visible GPU")
    if caps.hidden.variables:
        names = " ".join(caps.hidden.variables)
        observed = f"{names} leave none of {len(caps.hidden.devices)}"
        return Reason(
            "device.none",
            "unmet",
            observed=observed,
            required="a visible GPU",
            source=names,
            changes=(Change("unmask", names),),
        )
    return _no_access(caps.hidden)


def _telling(caps: Capabilities) -> tuple[Change, ...]:
    """Return what would make the GPUs known, none of it done already."""
    known = _READABLE.get(caps.devices_unread or "")
    texts = (known, _PRINTED.get(caps.platform))
    return tuple(Change("advice", text) for text in texts if text is not None)


def _no_access(hidden: Hidden) -> Reason:
    if not hidden.present:
        observed = f"no {hidden.path} here"
        text = "give the container its devices: docker run --device /dev/kfd --device /dev/dri"
    else:
        # A name that a shell would take for more than one is not handed on.
        named = hidden.group if re.fullmatch(r"[A-Za-z0-9_.-]+", hidden.group or "") else None
        group = f"{named} ({hidden.gid})" if named else f"number {hidden.gid}, which has no name here"
        join = f"sudo usermod -aG {named} $USER and log in again, or " if named else ""
        number = str(hidden.gid)
        if hidden.gid is None:
            group, number = "not known", f'"$(stat -c %g {quote(str(hidden.path))})"'
        observed = f"{hidden.path} is not this process's to open; its group is {group}"
        text = f"{join}docker run --group-add {number}"
    required = "a process that may read and write it"
    return Reason(
        "device.no-access",
        "unmet",
        observed=observed,
        required=required,
        source=hidden.path,
        changes=(Change("grant", text),),
    )


def triton_archs(caps: Capabilities, _: Request) -> Reason | None:
    """Need GPUs that this library's Triton kernels were compiled for: those of `nsa_caps.archs`."""
    for arch in caps.archs or ():
        known = ARCHS.get(arch)
        if known is not None and known.triton is not None:
            continue
        sm = compute_capability(arch)
        if sm is not None and sm // 10 < 8:
            required = "sm_80 or later, as Triton itself"
            return Reason(
                "device.arch",
                "unmet",
                observed=arch,
                required=required,
                source=where(caps, arch),
                changes=keep_only(caps, [arch]),
            )
        vendor = "sm_" if sm is not None else "gfx"
        required = f"one of {', '.join(name for name in ARCHS if name.startswith(vendor) and ARCHS[name].triton)}"
        return Reason(
            "device.arch-unproven",
            "unknown",
            observed=arch,
            required=required,
            source=where(caps, arch),
            changes=keep_only(caps, [arch]),
        )
    return None


def triton_compiles(caps: Capabilities, request: Request) -> Reason | None:
    """Need a Triton that compiles this library's kernels for every visible GPU: the floors of `nsa_caps.archs`."""
    missing = triton_known("3.3.0")(caps, request)
    version = base_version(caps.triton.version)
    if missing is not None or version is None:
        return missing
    floors = {arch: Version(floor) for arch in caps.archs or () if (floor := _floor(caps, arch)) is not None}
    below = {arch: floor for arch, floor in floors.items() if version < floor}
    if not below:
        return _pre_release(caps)
    arch = max(below, key=lambda name: below[name])
    known = ARCHS[arch]
    changes: tuple[Change, ...] = (triton_change(caps, str(known.triton)),)
    if known.triton_with_ptxas is not None and version >= Version(known.triton_with_ptxas):
        text = f"export {_variable(version, arch)}=/usr/local/cuda/bin/ptxas, where that is of CUDA >= {known.ptxas}"
        changes = (*changes, Change("advice", text))
    return Reason(
        "triton.too-old",
        "unmet",
        observed=str(caps.triton.version),
        required=f"Triton >= {known.triton}",
        source=caps.triton.source,
        changes=changes,
    )


def _pre_release(caps: Capabilities) -> Reason | None:
    """Return the reason against a pre-release of a floor: what compiled was the release."""
    for arch in caps.archs or ():
        floor = _floor(caps, arch)
        if comes_before(caps.triton.version, floor):
            return Reason(
                "device.arch-unproven",
                "unknown",
                observed=f"{arch} with Triton {caps.triton.version}",
                required=f"Triton >= {floor}, as released",
                source=caps.triton.source,
                changes=(triton_change(caps, str(floor)),),
            )
    return None


def _floor(caps: Capabilities, arch: str) -> str | None:
    """Return the lowest Triton that compiles for an arch here, by its own `ptxas` or the one that it is told of."""
    known = ARCHS.get(arch)
    if known is None:
        return None
    told = known.triton_with_ptxas is not None and _taken(caps, arch) is not None
    return known.triton_with_ptxas if told else known.triton


def ptxas_knows(caps: Capabilities, _: Request) -> Reason | None:
    """Need the assembler that a variable tells Triton to take to know every visible NVIDIA GPU it is taken for."""
    for arch in caps.archs or ():
        tool, known = _taken(caps, arch), ARCHS.get(arch)
        if tool is None or known is None or known.ptxas is None:
            continue
        # No shell sets or unsets a name with a hyphen in it, as Triton 3.3 reads one.
        way = "start the process with env -u" if "-" in tool.variable else "unset"
        unset = (Change("advice", f"{way} {tool.variable}, which leaves Triton's own"),)
        named = f"{tool.variable}={tool.path}"
        release = base_version(tool.release)
        if release is None:
            required = f"a ptxas of CUDA >= {known.ptxas} for {arch}"
            return Reason(
                "triton.ptxas-unknown",
                "unknown",
                observed=f"{named}, of unknown version",
                required=required,
                source=named,
                changes=unset,
            )
        if release < Version(known.ptxas):
            required = f"a ptxas of CUDA >= {known.ptxas} for {arch}"
            return Reason(
                "triton.ptxas",
                "unmet",
                observed=f"{named}, of CUDA {tool.release}",
                required=required,
                source=named,
                changes=unset,
            )
        # ptx_get_version of triton/backends/nvidia/compiler.py raises on CUDA 13 before 3.5.
        if release.major >= 13 and _judged(caps).release < (3, 5):
            observed = f"{named}, of CUDA {tool.release}, and Triton {caps.triton.version}"
            return Reason(
                "triton.ptxas",
                "unmet",
                observed=observed,
                required="Triton >= 3.5.0 with CUDA 13's",
                source=named,
                changes=unset,
            )
    return None


def _variable(triton: Version, arch: str) -> str:
    """Return the variable by which this Triton is told of an assembler for an arch (`get_ptxas`, 3.3.1 to 3.9.0)."""
    release, family = triton.release, (compute_capability(arch) or 0) // 10
    newest_of_old = 8 if release >= (3, 9) else 9
    if family <= newest_of_old:
        return "TRITON_PTXAS_PATH"
    if release < (3, 4):
        return "TRITON_PTXAS-BLACKWELL_PATH"
    return "TRITON_PTXAS_PATH" if release < (3, 6) else "TRITON_PTXAS_BLACKWELL_PATH"


def _judged(caps: Capabilities) -> Version:
    """Return Triton's version; one that is not known is judged as one of late, and a reason of its own."""
    return base_version(caps.triton.version) or Version("3.6")


def _taken(caps: Capabilities, arch: str) -> Ptxas | None:
    """Return the assembler that Triton takes for an arch in the place of its own; None: its own."""
    variable = _variable(_judged(caps), arch)
    return next((tool for tool in caps.ptxas if tool.variable == variable and tool.present), None)


# A host has GPUs of one arch, seldom of two; a stranger's snapshot may have thousands, and each would be tried.
_MOST_ARCHS = 8


def fp8_dialect(caps: Capabilities, _: Request) -> Reason | None:
    """Need one fp8 dialect on all visible GPUs: the same bits read in the other one are off by a factor of two."""
    if dialect(caps) is not None:
        return None
    if caps.devices is None:
        return Reason(
            "device.unknown",
            "unknown",
            observed="no GPU list",
            required="GPUs whose fp8 dialect is known",
            source=None,
            changes=_telling(caps),
        )
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


def where(caps: Capabilities, arch: str) -> str | None:
    """Return where an arch was read."""
    return next((device.source for device in caps.devices or () if device.arch == arch), None)
