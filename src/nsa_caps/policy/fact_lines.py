"""What a verdict rests on, as lines in columns: a name, a value, and where it was read. Pure."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from nsa_caps.base.lines import HANG, Line, printable
from nsa_caps.base.serial import field_names
from nsa_caps.capabilities.engines import ENGINE_TABLE
from nsa_caps.capabilities.system import system_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.capabilities.cuda import DeepGemmFiles
    from nsa_caps.capabilities.records import Capabilities, Device, Package, Switch
    from nsa_caps.capabilities.system import System
    from nsa_caps.policy.request import Request

__all__ = ["fact_lines"]

_LABEL = 11
_MOST_VALUE = 18
# A person reads the first few: whoever wants all of them asks for data.
_MOST_ARCHS = 8


def fact_lines(caps: Capabilities, request: Request) -> Iterator[Line]:
    """Return the facts, each with its source; a folder that packages share is named once, at the end."""
    facts = list(_facts(caps, request))
    base = _shared_folder(caps)
    width = min(_MOST_VALUE, max(len(value) for _, value, source in facts if source))
    for name, value, source in facts:
        where = printable((source or "").replace(base + "/", "", 1) if base else source or "")
        body = ((f"{printable(value):<{width}}  ", ""), (where, "source")) if where else ((printable(value), ""),)
        yield (f"{printable(name):<{_LABEL}}", "label"), HANG, *body
    folders = (base,) if base else system_of(caps).folders
    if folders:
        below = "below " if base else ""
        yield (f"{'packages':<{_LABEL}}", "label"), HANG, (below, ""), (printable(", ".join(folders)), "source")


def _facts(caps: Capabilities, request: Request) -> Iterator[tuple[str, str, str | None]]:
    yield "platform", caps.platform, caps.platform_source or "no readable torch"
    yield from _device_facts(caps.devices)
    packages = caps.packages
    for package in packages:
        if package.state != "missing":
            yield package.name, _version(package), package.source or package.location
            if package.name == "deep_gemm" and caps.deep_gemm_files is not None:
                yield "", *_built_for(caps.deep_gemm_files)
            if package.name == "aiter" and caps.aiter_source is not None and caps.aiter_source.as_in is not None:
                yield "", f"as in {caps.aiter_source.as_in}", "every file that decides"
    missing = [package.name for package in packages if package.state == "missing"]
    if missing:
        yield "missing", ", ".join(missing), None
    # Two equal machines may hold their switches in different order.
    for _, switch in sorted(caps.switches.items()):
        if switch.variable:
            yield "switch", f"{switch.name} {_value(switch)}", f"{switch.variable}={switch.raw} ({switch.source})"
    yield "engine", _engine(caps), None
    asked = _asked(request)
    if asked:
        yield "request", asked, None
    yield from _system_facts(system_of(caps))


def _device_facts(devices: tuple[Device, ...] | None) -> Iterator[tuple[str, str, str | None]]:
    if not devices:
        yield "devices", "not known" if devices is None else "none", None
        return
    archs: dict[str, list[Device]] = {}
    for device in devices:
        archs.setdefault(device.arch, []).append(device)
    for arch, same in islice(archs.items(), _MOST_ARCHS):
        yield "devices", f"{len(same)} x {arch}", same[0].source
    if len(archs) > _MOST_ARCHS:
        yield "devices", f"and of {len(archs) - _MOST_ARCHS:,} archs more", None


def _system_facts(system: System) -> Iterator[tuple[str, str, str | None]]:
    if system.machine:
        yield "machine", f"{system.machine}, laid out from its description", None
    if system.python:
        yield "python", f"{system.python} ({system.python_version or 'of unknown version'})", None


def _engine(caps: Capabilities) -> str:
    """Return whose variables were read, and that it is not here where that may mean that another one is meant."""
    if caps.engine_release is not None:
        return f"{caps.engine} {caps.engine_release}"
    if ENGINE_TABLE[caps.engine].rows is None:
        return caps.engine
    return f"{caps.engine} (not found here; --engine asks as another)"


def _version(package: Package) -> str:
    if package.state == "unknown":
        return "not known"
    version = package.version or "of unknown version"
    return version if package.state == "found" else f"{version}, {package.state}"


def _built_for(files: DeepGemmFiles) -> tuple[str, str]:
    """Return what a DeepGEMM was built for: whose libraries its extension asks for, and the GPUs of its headers."""
    cuda = "CUDA not known" if files.cuda is None else f"for CUDA {files.cuda}"
    if files.kernels is None:
        return cuda, "kernels not known"
    return cuda, f"paged logits for {', '.join(files.kernels)}" if files.kernels else "no paged logits"


def _value(switch: Switch) -> str:
    if switch.value is None:
        return "unreadable"
    return {True: "on", False: "off"}[switch.value] if isinstance(switch.value, bool) else switch.value


def _asked(request: Request) -> str:
    """Return what the request asks for beyond the default of every field."""
    default = type(request)()
    names = [name for name in field_names(request) if getattr(request, name) != getattr(default, name)]
    return ", ".join(f"{name} {getattr(request, name)}" for name in names)


def _shared_folder(caps: Capabilities) -> str | None:
    """Return the folder that two or more of the packages lie in, which need not be printed with each."""
    places = [package.location for package in caps.packages]
    folders = [os.path.dirname(place) for place in places if place]
    return next((folder for folder in folders if folder and folders.count(folder) > 1), None)
