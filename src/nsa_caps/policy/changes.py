"""Changes to a machine or a request: what a fix is made of, and what `what-if` applies. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING, Literal, TypeAlias

from nsa_caps.capabilities.aiter_history import KNOWN_AITERS
from nsa_caps.capabilities.records import AotBundle, Capabilities, Device, Package
from nsa_caps.capabilities.switches import VARIABLES, with_variables

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Platform
    from nsa_caps.policy.request import Request

__all__ = ["Change", "ChangeKind", "with_variables"]

ChangeKind: TypeAlias = Literal["set", "unset", "triton", "aiter", "package", "arch", "keep", "page-size", "advice"]

# What a shell takes as it stands: the name of a variable, and a version.
_NAME, _VERSION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), re.compile(r"[A-Za-z0-9.+!_-]+")


@dataclass(frozen=True)
class Change:
    """One change, as data.

    Attributes:
        kind: `set` or `unset` a variable; install a `triton`, an `aiter` (a key of `KNOWN_AITERS`) or another
            `package` (whose value is the distribution); put in GPUs of an `arch`; `keep`: show only the GPUs whose
            numbers `value` lists, by the visible-device variable `name`; ask for a `page-size` (no value: leave it to
            the row); `advice`: something whose outcome cannot be foreseen.
        name: the variable or package; for advice, the text itself.
        value: its new value.
    """

    kind: ChangeKind
    name: str
    value: str | None = None

    @property
    def text(self) -> str:
        """The change as one can type it, or as plainly as it can be said."""
        value = self.value or ""
        match self.kind:
            case "set" | "unset" | "triton" | "package" | "keep":
                return self._command(value)
            case "aiter":
                return f"install AMD's aiter {KNOWN_AITERS[value].since}, as ROCm images bring it"
            case "arch":
                return f"run on {value}"
            case "page-size":
                return f"ask for page size {value}" if value else "leave the page size to the row"
            case "advice":
                return self.name

    @classmethod
    def triton(cls, version: str | None) -> Change:
        """Install this Triton, or a later one."""
        return cls("triton", "triton", version)

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

    def _command(self, value: str) -> str:
        """Return a line to paste into a shell; of what is neither name nor version, which a stranger wrote, nothing."""
        if self.kind == "triton":
            is_version = _VERSION.fullmatch(value)
            return f'pip install "triton>={value}"' if is_version else "install a Triton of whatever it asks for"
        if self.kind == "package":
            return f"pip install {quote(value)}"
        if not _NAME.fullmatch(self.name):
            return f"{self.kind} a variable, of which the name given is none"
        if self.kind == "unset":
            return f"unset {self.name}"
        # The indices of the variables above ROCR's count among the GPUs that it leaves.
        is_rocr = self.kind == "keep" and self.name.startswith("ROCR")
        above = "unset HIP_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES; " if is_rocr else ""
        return f"{above}export {self.name}={quote(value)}"

    @property
    def slot(self) -> tuple[str, str]:
        """What this change occupies: of two changes to one slot the later one counts."""
        kind = "variable" if self.kind in ("set", "unset") else "arch" if self.kind == "keep" else self.kind
        return kind, self.name if kind in ("variable", "package", "advice") else ""

    def apply(self, caps: Capabilities, request: Request) -> tuple[Capabilities, Request]:
        """Return the machine and the request as they would be after this change."""
        match self.kind:
            case "set" | "unset":
                return _with_variable(caps, self.name, self.value), request
            case "triton":
                return caps.replace(triton=_installed(caps.triton, self.value)), request
            case "aiter":
                release = KNOWN_AITERS[self.value or ""]
                package = _installed(caps.aiter, release.version)
                return caps.replace(aiter=package, aiter_source=release.source, aot_bundle=AotBundle()), request
            case "package":
                return _with_package(caps, self.name, self.value or ""), request
            case "arch":
                return _with_arch(caps, self.value or ""), request
            case "keep":
                numbers = {int(number) for number in (self.value or "").split(",")}
                kept = tuple(device for device in caps.devices or () if device.number in numbers)
                return caps.replace(devices=kept, rocminfo_arch=kept[0].arch if kept else None), request
            case "page-size":
                return caps, replace(request, page_size=int(self.value) if self.value else None)
            case "advice":
                return caps, request


def _with_variable(caps: Capabilities, name: str, value: str | None) -> Capabilities:
    variables = {key: text for key, text in caps.variables.items() if key != name}
    if value is not None and name in VARIABLES:
        variables[name] = value
    return with_variables(caps, variables, caps.engine)


def _with_package(caps: Capabilities, name: str, value: str) -> Capabilities:
    """Return the machine with a package; torch's builds name their platform in the version: 2.9.1+rocm7.0."""
    version = value.partition("==")[2] or None
    caps = caps.replace(**{name: _installed(getattr(caps, name), version)})
    build = (version or "").partition("+")[2]
    platforms: dict[str, Platform] = {"rocm": "rocm", "cu": "cuda", "cpu": "cpu", "xpu": "xpu"}
    found = next((platforms[start] for start in platforms if re.fullmatch(rf"{start}[\d.]*", build)), None)
    if name != "torch" or found is None:
        return caps
    return caps.replace(platform=found, platform_source=f"what-if: torch {version}")


def _with_arch(caps: Capabilities, arch: str) -> Capabilities:
    """Return the machine with one GPU of an arch, and a torch that is built for it where the one at hand is not."""
    platform: Platform = "rocm" if arch.startswith("gfx") else "cuda"
    if caps.platform != platform:
        torch, source = _installed(caps.torch, caps.torch.version), f"what-if: a torch built for {arch}"
        caps = caps.replace(platform=platform, platform_source=source, torch=torch)
    rocminfo_arch = arch if platform == "rocm" else None
    return caps.replace(devices=(Device(0, arch, "what-if"),), rocminfo_arch=rocminfo_arch)


def _installed(package: Package, version: str | None) -> Package:
    return Package(package.name, "found", version, package.distribution, package.location, "what-if")
