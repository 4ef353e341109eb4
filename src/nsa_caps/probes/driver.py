"""The GPU driver that is loaded: NVIDIA's and AMD's tell their versions below /proc and /sys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.records import Note
from nsa_caps.probes.host import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["driver"]

# The file, and what to look for in it: the first that is there counts. The last stands for a driver of the kernel's
# own tree, which has no version but the kernel's.
_SIGNS = (
    (("proc", "driver", "nvidia", "version"), r"NVRM version:.*?\s(\d+\.[\d.]+)", "nvidia"),
    (("sys", "module", "nvidia", "version"), r"(\S+)", "nvidia"),
    (("sys", "module", "amdgpu", "version"), r"(\S+)", "amdgpu"),
    (("proc", "sys", "kernel", "osrelease"), r"(\S+)", "kernel"),
)


def driver(host: Host) -> Mapping[str, Any]:
    """Find the version of the GPU driver."""
    for parts, pattern, name in _SIGNS:
        path = host.system_path(*parts)
        try:
            found = re.search(pattern, host.read_text(path) or "")
        except UnreadableError as error:
            return {"notes": (Note("driver", error.path, error.why),)}
        if found is not None:
            return {"driver": f"{name} {found[1]}"}
    return {}
