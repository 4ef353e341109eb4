"""When this process began: what it has imported is as a file now is only where the file is older."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsa_caps.probes.host import UnreadableError

if TYPE_CHECKING:
    from nsa_caps.probes.host import Host

__all__ = ["process_start"]

# The field of /proc/self/stat behind the program's name that holds the start, in ticks since the boot.
_START = 19


def process_start(host: Host) -> float | None:
    """Return when this process began, in seconds since 1970 and up to a second late; None: the kernel does not tell."""
    try:
        own = host.read_text(host.system_path("proc", "self", "stat")) or ""
        kernel = host.read_text(host.system_path("proc", "stat")) or ""
        # The program's name stands in brackets and may hold anything.
        ticks = float(own.rpartition(")")[2].split()[_START])
        (boot,) = (line.split()[1] for line in kernel.splitlines() if line.startswith("btime "))
        return float(boot) + ticks / os.sysconf("SC_CLK_TCK") + 1.0
    except (UnreadableError, ValueError, IndexError, AttributeError):
        return None
