"""A statement run in a process of its own, and what an audit hook saw it import, open, start and write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.processes import uncounted

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCES = Path(__file__).parents[1] / "src"
# Only what was opened, started or written by the code under test counts, not what Python's own start did.
HOOK = """
import json, sys
seen = {"open": [], "load": [], "write": [], "start": [], "import": []}
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "pty.spawn")
WRITES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "shutil.copyfile", "os.utime", "os.putenv", "os.unsetenv", "socket.connect", "socket.bind")
def hook(event, args):
    if event == "open":
        path, mode, flags = args
        seen["open"].append(str(path))
        # O_WRONLY and O_RDWR
        if flags & 3 and not str(path).endswith((".pyc", "/seen")) and "__pycache__" not in str(path):
            seen["write"].append(str(path))
    elif event in STARTS:
        seen["start"].append(event)
    elif event in WRITES:
        seen["write"].append(f"{event} {args}")
    elif event in ("ctypes.dlopen",):
        seen["load"].append(str(args[0]))
sys.addaudithook(hook)
try:
    {body}
finally:
    seen["import"] = sorted(sys.modules)
    json.dump(seen, open({place!r}, "w"))
"""


@dataclass(frozen=True)
class Seen:
    """What a process did."""

    opened: list[str]
    loaded: list[str]
    written: list[str]
    started: list[str]
    imported: set[str]
    stdout: str
    stderr: str


def watch(folder: Path, body: str, *, site: Path | None = None, options: Iterable[str] = ()) -> Seen:
    """Run a statement in a process of its own and return what it did; `site` comes first on its import path."""
    folder.mkdir(exist_ok=True)
    place = folder / "seen"
    code = HOOK.replace("{body}", body).replace("{place!r}", repr(str(place)))
    path = os.pathsep.join(str(entry) for entry in (site, SOURCES) if entry)
    environ = {**uncounted(), "PYTHONPATH": path, "SGLANG_USE_AITER": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *options, "-c", code], env=environ, capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(place.read_text())
    return Seen(seen["open"], seen["load"], seen["write"], seen["start"], set(seen["import"]), done.stdout, done.stderr)
