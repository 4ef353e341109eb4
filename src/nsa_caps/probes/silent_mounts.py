"""FUSE mounts whose daemon does not answer: told before anything on them is looked at.

A process that looks is held by Linux until the mount is given up, even as it is killed. So a process of its own looks
first, and is left behind where it does not come back.
"""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING

from nsa_caps.probes.regular_file import read_regular

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

__all__ = ["mount_of", "silent_mounts"]

# Seconds that all mounts together are waited for; a process that looks takes some 20 ms.
_TIMEOUT = 5.0
# A line of /proc/self/mountinfo (proc(5)): five fields, the last the place, more, a dash, and the type. The file system
# fusectl is the kernel's own.
_FUSE = re.compile(rb"^(?:\S+ ){4}(\S+) .* - fuse(?!ctl )", re.MULTILINE)
# As an import looks. No descriptor of the engine's is kept open by one that stays.
_LOOK = "import os, sys\nos.closerange(3, 1 << 20)\nfor path in sys.argv[1:]: os.path.isdir(path) and os.listdir(path)"
# Links in links, at most, as Linux follows them.
_MOST_LINKS = 40
# Processes that have not come back, by the process that started them and the mount: none is started twice.
_left: dict[tuple[int, str], int] = {}


def silent_mounts(root: str, search_path: Iterable[str]) -> tuple[str, ...]:
    """Return the FUSE mounts below folders of the search path that do not answer within 5 seconds.

    That which Python or this library runs from answers. Where there is no such mount, one file is read.
    """
    try:
        found = _FUSE.findall(read_regular(os.path.join(root, "proc", "self", "mountinfo")))
    except (OSError, ValueError):
        return ()
    # Blanks are written as octal numbers.
    mounts = {os.fsdecode(re.sub(rb"\\(\d{3})", lambda code: bytes([int(code[1], 8)]), place)) for place in found}
    mounts -= {mount_of(file, mounts) for file in (__file__, os.__file__, sys.executable or "")}
    asked: dict[str, list[str]] = {}
    for entry in search_path if mounts else ():
        mount = mount_of(entry, mounts)
        if mount is not None:
            asked.setdefault(mount, []).append(entry)
    return tuple(_silent(asked)) if asked else ()


def _silent(asked: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Return the mounts from whose folders nobody comes back in time."""
    until, own = time.monotonic() + _TIMEOUT, os.getpid()
    started = {mount: _left.get((own, mount)) or _start(entries) for mount, entries in asked.items()}
    for mount, process in started.items():
        # One that was left behind has had its time.
        if process is None or _has_ended(process, 0.0 if (own, mount) in _left else until):
            _left.pop((own, mount), None)
        else:
            _left[own, mount] = process
            yield mount


def mount_of(path: str, mounts: Collection[str]) -> str | None:
    """Return the first of some mounts that looking at a path comes upon, links followed; nothing on them is touched."""
    try:
        path = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    except OSError:
        return None
    at, parts, links = "/", path.split("/")[::-1], 0
    while parts:
        part = parts.pop()
        at = os.path.dirname(at) if part == ".." else os.path.join(at, part) if part not in ("", ".") else at
        if at in mounts:
            return at
        try:
            target = os.readlink(at)
        except (OSError, ValueError):
            continue
        links += 1
        if links > _MOST_LINKS:
            return None
        at = "/" if target.startswith("/") else os.path.dirname(at)
        parts += target.split("/")[::-1]
    return None


def _start(folders: Iterable[str]) -> int | None:
    """Return a process that looks at folders; None: none can be started, so that nobody can tell."""
    # Not `subprocess`: its import would look through the search path. What an engine's output goes to is not held.
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    command = [sys.executable, "-I", "-S", "-c", _LOOK, *folders]
    try:
        return os.posix_spawn(sys.executable, command, os.environ, file_actions=null)
    except (OSError, ValueError, TypeError):
        return None


def _has_ended(process: int, until: float) -> bool:
    """Return whether a process ends in time."""
    while True:
        try:
            if os.waitpid(process, os.WNOHANG)[0]:
                return True
        except ChildProcessError:  # the engine waits for all children itself, or ignores them
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
