"""Changes to a machine or a request: what a fix is made of, and what `what-if` applies. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING, Literal, TypeAlias

from nsa_caps.capabilities.aiter_history import KNOWN_AITERS
from nsa_caps.capabilities.cuda import CudaToolkit, DeepGemmFiles
from nsa_caps.capabilities.devices import Device
from nsa_caps.capabilities.records import PLATFORMS, AotBundle, Capabilities, Package
from nsa_caps.capabilities.switches import VARIABLES, with_variables
from nsa_caps.policy.versions import base_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nsa_caps.capabilities.records import Platform
    from nsa_caps.policy.request import Request

__all__ = ["Change", "ChangeKind", "torch_for", "with_variables"]

ChangeKind: TypeAlias = Literal[
    "set", "unset", "triton", "aiter", "package", "torch", "deep_gemm", "toolkit", "arch", "keep", "unmask", "grant",
    "page-size", "advice",
]  # fmt: skip

# Above the newest Triton that anything here was compiled with, 3.9.0.
_TRITON_CEILING = "3.10"
# What the wheels of sgl-deep-gemm on the public index show from 0.1.5 on; 0.1.5.post1 was read.
_INDEX_DEEP_GEMM = DeepGemmFiles(
    location="sgl-deep-gemm>=0.1.5", kernels=("sm90", "sm100", "sm120"), cuda=13, lacks=(), nvcc="12.3"
)


@dataclass(frozen=True)
class Change:
    """One change, as data.

    Attributes:
        kind: `set` or `unset` a variable; install a `triton` (whose name is the Triton that torch asks for, where it
            does), an `aiter` (a key of `KNOWN_AITERS`), the public index's `deep_gemm`, a CUDA `toolkit` or another
            `package` (whose value is what to give pip); suppose a `torch` built for a platform; put in GPUs of an
            `arch`; `keep`: show only the GPUs whose numbers `value` lists, by the visible-device variable `name`;
            `unmask`: unset the variables that `name` lists; `grant`: let this process open a device file; ask for a
            `page-size` (no value: leave it to the row); `advice`: something whose outcome cannot be foreseen.
        name: the variable or package; for advice and grant, the text itself.
        value: its new value.
    """

    kind: ChangeKind
    name: str
    value: str | None = None

    @property
    def text(self) -> str:
        """The change as one can type it, or as plainly as it can be said."""
        return _TEXTS[self.kind](self)

    @classmethod
    def triton(cls, version: str | None, asked: str | None = None) -> Change:
        """Install this Triton, or a later one, within what torch's metadata ask for, such as `triton==3.6.0`."""
        return cls("triton", asked or "triton", version)

    @classmethod
    def aiter(cls, release: str) -> Change:
        """Install AMD's aiter of this release, a key of `KNOWN_AITERS`."""
        return cls("aiter", "aiter", release)

    @classmethod
    def arch(cls, name: str) -> Change:
        """Run on GPUs of this arch."""
        return cls("arch", "arch", name)

    @classmethod
    def page_size(cls, size: str | None = None) -> Change:
        """Ask for pages of this size; None: of the row's own."""
        return cls("page-size", "page_size", size)

    @property
    def slot(self) -> tuple[str, str]:
        """What this change occupies: of two changes to one slot the later one counts."""
        kind = _SLOTS.get(self.kind, self.kind)
        return kind, self.name if kind in ("variable", "package", "advice") else ""

    def apply(self, caps: Capabilities, request: Request) -> tuple[Capabilities, Request]:
        """Return the machine and the request as they would be after this change."""
        if self.kind == "page-size":
            return caps, replace(request, page_size=int(self.value) if self.value else None)
        return _MACHINES[self.kind](caps, self), request


def torch_for(arch: str) -> Change:
    """Return the supposition of a torch that is built for GPUs of an arch."""
    platform = "rocm" if arch.startswith("gfx") else "cuda"
    return Change("torch", f"a torch built for {platform}", platform)


_SLOTS = {"set": "variable", "unset": "variable", "keep": "arch", "unmask": "arch", "grant": "arch"}


# What a shell takes as it stands; the rest a stranger wrote into a variable, a version or metadata.
_NAME, _VERSION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), re.compile(r"[A-Za-z0-9.+!_-]+")
_PINNED = re.compile(r"[A-Za-z0-9._-]+==([A-Za-z0-9.+!_-]+)")

# The local part of the versions of torch: cu130, rocm7.0, cpu.
_BUILDS: Mapping[str, Platform] = {"rocm": "rocm", "cu": "cuda", "cpu": "cpu", "xpu": "xpu"}
_BUILT = re.compile(r"(rocm|cu|cpu|xpu)([\d.]*)", re.ASCII)


def _variable_text(change: Change) -> str:
    """Return a line to paste into a shell; of what is no variable's name nothing."""
    if not _NAME.fullmatch(change.name):
        return f"{change.kind} a variable, of which the name given is none"
    if change.kind == "unset":
        return f"unset {change.name}"
    # The indices of the variables above ROCR's count among the GPUs that it leaves.
    is_rocr = change.kind == "keep" and change.name.startswith("ROCR")
    above = "unset HIP_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES; " if is_rocr else ""
    return f"{above}export {change.name}={quote(change.value or '')}"


def _triton_text(change: Change) -> str:
    """Return how to get a Triton, in the range that the torch at hand asks for: another one breaks that torch."""
    value = change.value or ""
    if not _VERSION.fullmatch(value):
        return "install a Triton of whatever it asks for"
    pin = _PINNED.fullmatch(change.name)
    pinned, lowest = base_version(pin[1] if pin else None), base_version(value)
    if pinned is None or lowest is None:
        return f'pip install "triton>={value},<{_TRITON_CEILING}"'
    if pinned >= lowest:
        return f'pip install "{change.name}"'
    return f"install a torch that brings Triton >= {value}: the one here asks for {change.name}"


def _package_text(change: Change) -> str:
    return f"pip install {quote(change.value or '')}"


_TEXTS: Mapping[ChangeKind, Callable[[Change], str]] = {
    "set": _variable_text,
    "unset": _variable_text,
    "triton": _triton_text,
    "aiter": lambda change: f"install AMD's aiter {KNOWN_AITERS[change.value or ''].since}, as ROCm images bring it",
    "package": _package_text,
    "torch": lambda change: change.name,
    "deep_gemm": lambda change: f'pip install "{change.value}"',
    "toolkit": lambda change: f"install the CUDA toolkit, nvcc >= {change.value}, and export CUDA_HOME to its folder",
    "arch": lambda change: f"run on {change.value}",
    "keep": _variable_text,
    "unmask": lambda change: f"unset {change.name}",
    "grant": lambda change: change.name,
    "page-size": lambda change: (
        f"ask for page size {change.value}" if change.value else "leave the page size to the row"
    ),
    "advice": lambda change: change.name,
}


def _with_variable(caps: Capabilities, change: Change) -> Capabilities:
    variables = {key: text for key, text in caps.variables.items() if key != change.name}
    if change.value is not None and change.name in VARIABLES:
        variables[change.name] = change.value
    return with_variables(caps, variables, caps.engine)


def _with_aiter(caps: Capabilities, change: Change) -> Capabilities:
    release = KNOWN_AITERS[change.value or ""]
    package = _installed(caps.aiter, release.version)
    return caps.replace(aiter=package, aiter_source=release.source, aot_bundle=AotBundle())


def _with_package(caps: Capabilities, change: Change) -> Capabilities:
    """Return the machine with a package; torch's builds name their platform in the version: 2.9.1+rocm7.0."""
    version = (change.value or "").partition("==")[2] or None
    caps = caps.replace(**{change.name: _installed(getattr(caps, change.name), version)})
    if change.name == "deep_gemm":
        known, told = base_version(version), _INDEX_DEEP_GEMM
        # Kernels for sm_120 came with 0.1.5.
        older = known is not None and known.release < (0, 1, 5)
        return caps.replace(deep_gemm_files=replace(told, kernels=("sm90", "sm100")) if older else told)
    built = _BUILT.fullmatch((version or "").partition("+")[2])
    if change.name != "torch" or built is None:
        return caps
    build = built[2] or None
    if build is not None and built[1] == "cu" and len(build) > 2:
        build = f"{build[:-1]}.{build[-1]}"
    return caps.replace(platform=_BUILDS[built[1]], platform_source=f"what-if: torch {version}", build=build)


def _with_torch(caps: Capabilities, change: Change) -> Capabilities:
    """Return the machine with a torch that is built for a platform, where the one at hand is not."""
    if caps.platform == change.value:
        return caps
    platform = next(platform for platform in PLATFORMS if platform == change.value)
    source = f"what-if: a torch built for {platform}"
    torch = _installed(caps.torch, caps.torch.version)
    # The torch that is supposed fits what is installed beside it.
    cuda = caps.deep_gemm_files.cuda if caps.deep_gemm_files is not None and platform == "cuda" else None
    build = None if cuda is None else f"{cuda}.0"
    return caps.replace(platform=platform, platform_source=source, build=build, torch=torch)


def _with_index_deep_gemm(caps: Capabilities, _: Change) -> Capabilities:
    return caps.replace(deep_gemm=_installed(caps.deep_gemm, None), deep_gemm_files=_INDEX_DEEP_GEMM)


def _with_toolkit(caps: Capabilities, change: Change) -> Capabilities:
    toolkit = CudaToolkit(home="/usr/local/cuda", source="what-if", nvcc=True, release=change.value)
    return caps.replace(cuda_toolkit=toolkit)


def _with_arch(caps: Capabilities, change: Change) -> Capabilities:
    """Return the machine with one GPU of an arch; its torch stays what it is."""
    return _with_devices(caps, (Device(0, change.value or "", "what-if"),))


def _keeping(caps: Capabilities, change: Change) -> Capabilities:
    numbers = {int(number) for number in (change.value or "").split(",")}
    return _with_devices(caps, tuple(device for device in caps.devices or () if device.number in numbers))


def _without_hiding(caps: Capabilities, _: Change) -> Capabilities:
    return _with_devices(caps, caps.hidden.devices if caps.hidden is not None else ())


def _with_devices(caps: Capabilities, devices: tuple[Device, ...]) -> Capabilities:
    first = devices[0].arch if devices and devices[0].arch.startswith("gfx") else None
    return caps.replace(devices=devices, hidden=None, rocminfo_arch=first)


def _unchanged(caps: Capabilities, _: Change) -> Capabilities:
    return caps


_MACHINES: Mapping[ChangeKind, Callable[[Capabilities, Change], Capabilities]] = {
    "set": _with_variable,
    "unset": _with_variable,
    "triton": lambda caps, change: caps.replace(triton=_installed(caps.triton, change.value)),
    "aiter": _with_aiter,
    "package": _with_package,
    "torch": _with_torch,
    "deep_gemm": _with_index_deep_gemm,
    "toolkit": _with_toolkit,
    "arch": _with_arch,
    "keep": _keeping,
    "unmask": _without_hiding,
    "grant": _without_hiding,
    "advice": _unchanged,
}


def _installed(package: Package, version: str | None) -> Package:
    return Package(package.name, "found", version, package.distribution, package.location, "what-if")
