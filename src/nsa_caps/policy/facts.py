"""What a decision rests on, fact by fact, in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_caps._version import __version__
from nsa_caps.base.serial import field_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.capabilities.records import Capabilities, Package
    from nsa_caps.policy.request import Request

__all__ = ["Fact", "facts_of"]


@dataclass(frozen=True)
class Fact:
    """One fact about a machine or a request.

    Attributes:
        name: what it is about, such as `triton` or `switch use_aiter`.
        value: what was found, as text.
        source: where it was read; None: not said.
    """

    name: str
    value: str
    source: str | None = None

    def __str__(self) -> str:
        """Return the fact with its source."""
        return f"{self.name} {self.value}" + (f" ({self.source})" if self.source else "")


def facts_of(caps: Capabilities, request: Request) -> Iterator[Fact]:
    """Return every fact that a decision may rest on."""
    yield Fact("nsa_caps", __version__)
    yield Fact("engine", caps.engine)
    yield Fact("platform", caps.platform, caps.platform_source)
    yield Fact("devices", _devices(caps), caps.devices[0].source if caps.devices else None)
    yield Fact("aiter's arch", caps.rocminfo_arch or "not known")
    for package in caps.packages:
        yield Fact(package.name, _version(package), package.source or package.location)
    yield Fact("flydsl", _version(caps.flydsl), caps.flydsl.source or caps.flydsl.location)
    if caps.aiter_source is not None:
        for name in field_names(caps.aiter_source):
            if name != "location":
                yield Fact(f"aiter's {name}", _text(getattr(caps.aiter_source, name)), caps.aiter_source.location)
    kernels = caps.aot_bundle.kernels
    names = None if kernels is None else tuple(f"{kernel.name} for {kernel.arch}" for kernel in kernels)
    yield Fact("ahead-of-time kernels", _text(names), caps.aot_bundle.location)
    for name, switch in sorted(caps.switches.items()):
        source = f"{switch.variable}={switch.raw}" if switch.variable else "default"
        yield Fact(f"switch {name}", _text(switch.value), source)
    for name in field_names(request):
        value = getattr(request, name)
        yield Fact(f"request {name}", "not given" if value is None else _text(value))


def _devices(caps: Capabilities) -> str:
    if caps.devices is None:
        return "not known"
    counts = Counter(device.arch for device in caps.devices)
    return ", ".join(f"{count} x {arch}" for arch, count in counts.items()) or "none"


def _version(package: Package) -> str:
    if package.state in ("missing", "unknown"):
        return package.state
    version = package.version or "of unknown version"
    return version if package.state == "found" else f"{version}, {package.state}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "not known" if value is None else str(value) or "none"
