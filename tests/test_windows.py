"""The library where `os` is that of Windows: SystemPanic/vllm-windows#84."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nsa_caps.testing import machine

_SCRIPT = """
import os, sys
names = ("O_NONBLOCK", "O_CLOEXEC", "fork", "register_at_fork", "geteuid", "getuid", "getgroups", "uname", "killpg")
for name in names:
    if hasattr(os, name):
        delattr(os, name)
for name in ("fcntl", "grp", "pwd", "resource"):
    sys.modules[name] = None
from types import MappingProxyType
import nsa_caps
host = nsa_caps.Host(dict(os.environ, PATH=""), ({site!r},), {{}}, {root!r})
caps = nsa_caps.probe(host)
assert not [note for note in caps.notes if "failed" in note.text], caps.notes
assert (caps.platform, caps.torch.version, caps.triton.version) == ("cuda", "2.11.0+cu132", "3.6.0"), caps
nsa_caps.decide(caps)
told = caps.replace(devices=(nsa_caps.Device(0, "sm_120", "told"),))
layout = nsa_caps.select_indexer_layout(told, nsa_caps.Request())
assert layout.row == "portable", layout.row
from nsa_caps.cli.main import main
assert main(["report"]) in (0, 1)
proofs = dict(os.environ, NSA_CAPS_PROOFS={proofs!r})
kept = nsa_caps.probe(nsa_caps.Host(proofs, ({site!r},), {{}}, {root!r}))
assert kept.kept == (), kept.kept
assert [note.text for note in kept.notes if note.probe == "kept"] == [
    "whose it is cannot be asked on this system, so it is not read"], kept.notes
"""


def test_an_os_without_what_windows_has_not(tmp_path: Path) -> None:
    """Files are read, no probe fails, the command answers: an RTX GPU that NVML does not show can be told."""
    machine(
        tmp_path,
        platform="cuda",
        archs=["sm_120"],
        torch="2.11.0+cu132",
        triton="3.6.0",
        triton_distributions={"triton-windows": "3.6.0.post24"},
    )
    (tmp_path / "proofs").mkdir()
    (tmp_path / "proofs/reference.json").write_text("{}")
    places = {name: str(tmp_path / name) for name in ("site", "root", "proofs")}
    script = _SCRIPT.format(**places)
    source = str(Path(__file__).parents[1] / "src")
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": source},
    )
    assert done.returncode == 0, done.stderr
