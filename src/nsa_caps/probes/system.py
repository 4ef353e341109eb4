"""The system around the packages, as a bug report begins: read from files, for the command alone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.capabilities.system import System
    from nsa_caps.probes.host import Host

__all__ = ["with_files"]

_GIB = 1 << 30


def with_files(system: System, host: Host) -> System:
    """Return a system with what the machine's files tell of it: distribution, kernel, driver, run-time, GPUs."""
    return replace(
        system,
        os=_first(host, r'^PRETTY_NAME="?([^"\n]+)', "etc", "os-release"),
        kernel=_first(host, r"^(\S+)", "proc", "sys", "kernel", "osrelease"),
        driver=_driver(host),
        runtime=_runtime(host),
        gpus=(*_amd_gpus(host), *_nvidia_gpus(host)),
    )


def _first(host: Host, pattern: str, *place: str) -> str | None:
    """Return what a pattern finds first in a file; None where there is no such file, or nothing in it."""
    try:
        text = host.read_text(host.system_path(*place))
    except OSError:
        return None
    found = re.search(pattern, text or "", re.MULTILINE)
    return found[1].strip() if found else None


def _names(host: Host, *place: str) -> tuple[str, ...]:
    try:
        return host.list_folder(host.system_path(*place))
    except OSError:
        return ()


def _driver(host: Host) -> str | None:
    nvidia = _first(host, r"Kernel Module\D*?(\d+\.[\d.]+)", "proc", "driver", "nvidia", "version")
    amd = _first(host, r"^(\S+)", "sys", "module", "amdgpu", "version")
    told = (f"NVIDIA {nvidia}" if nvidia else None, f"amdgpu {amd}" if amd else None)
    return ", ".join(filter(None, told)) or None


def _runtime(host: Host) -> str | None:
    rocm = _first(host, r"^(\S+)", "opt", "rocm", ".info", "version")
    cuda = _first(host, r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([^"]+)"', "usr", "local", "cuda", "version.json")
    return ", ".join(filter(None, (f"ROCm {rocm}" if rocm else None, f"CUDA {cuda}" if cuda else None))) or None


def _amd_gpus(host: Host) -> Iterator[str]:
    for card in _names(host, "sys", "class", "drm"):
        # The outputs of a card are folders too: card0-HDMI-A-1.
        if not re.fullmatch(r"card\d+", card):
            continue
        place = ("sys", "class", "drm", card, "device")
        memory = _first(host, r"^(\d+)", *place, "mem_info_vram_total")
        if memory is not None:
            name = _first(host, r"^(.+)", *place, "product_name") or "AMD GPU"
            yield f"{name}, {int(memory) / _GIB:.0f} GiB"


def _nvidia_gpus(host: Host) -> Iterator[str]:
    folder = ("proc", "driver", "nvidia", "gpus")
    for gpu in _names(host, *folder):
        name = _first(host, r"^Model:\s*(.+)", *folder, gpu, "information")
        if name is not None:
            yield name
