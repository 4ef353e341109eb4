"""What no command does, whatever it finds: seen by an audit hook from the process's start on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nsa_caps import AotKernel
from nsa_caps.testing import lay_out_packages

from . import public_api

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES = Path(__file__).parents[1] / "src"
# Python's own names of what it audits; a prefix stands for all that begin with it.
HOOK = """
import os, sys
NETWORK = ("socket.", "urllib.", "http.client.", "ftplib.", "smtplib.", "poplib.", "imaplib.", "webbrowser.")
PROCESSES = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "pty.")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "os.chflags", "os.utime", "os.setxattr", "os.removexattr", "os.putenv", "os.unsetenv", "os.kill",
    "shutil.", "tempfile.", "fcntl.", "signal.", "resource.setrlimit", "sqlite3.", "mmap.")
NATIVE = ("ctypes.", "pickle.find_class", "code.__new__")
seen = []
def hook(event, args):
    if event == "open":
        path, mode, flags = args
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            seen.append(["write", str(path)])
        elif str(path).startswith("/dev/"):
            seen.append(["device", str(path)])
    elif event.startswith(NETWORK):
        seen.append(["network", event])
    elif event.startswith(PROCESSES):
        seen.append(["process", event])
    elif event.startswith(CHANGES):
        seen.append(["change", f"{event} {args}"])
    elif event.startswith(NATIVE):
        seen.append(["native", f"{event} {args}"])
    elif event == "exec" and (args[0].co_filename.startswith(SITE) or args[0].co_filename == "<unknown>"):
        seen.append(["executed", args[0].co_filename])
    elif event == "import" and args[0].partition(".")[0] in ("torch", "triton", "aiter", "deep_gemm", "numpy"):
        seen.append(["imported", args[0]])
"""


@dataclass(frozen=True)
class Done:
    """What a command did, printed and answered."""

    seen: list[tuple[str, str]]
    stdout: str
    code: int


def run(folder: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Done:
    """Run the command in a process of its own, a whole ROCm stack in `folder/site` on its import path."""
    site, place = str(folder / "site"), folder / "seen.json"
    code = (
        f"SITE = {site!r}\n{HOOK}\nsys.addaudithook(hook)\n"
        "from nsa_caps.cli import main\n"
        "try:\n    code = main(sys.argv[1:])\n"
        "finally:\n    done, seen = seen, []\n"
        f"import json\nwith open({str(place)!r}, 'w') as stream:\n    json.dump([code, done], stream)\n"
    )
    path = os.pathsep.join((site, str(SOURCES)))
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "SGLANG_USE_AITER": "1", **(environ or {})}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, *arguments],
        env=given, capture_output=True, text=True, check=False, cwd=folder, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer, seen = json.loads(place.read_text())
    return Done([(kind, what) for kind, what in seen], done.stdout, answer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a stack that leaves a trace wherever any of it is executed, and a snapshot of a machine."""
    kernel = AotKernel("paged_mqa_logits_preshuffle_64x256x128_B64PFW2", complete=True, arch="gfx942")
    site = Path(
        lay_out_packages(
            tmp_path / "site",
            platform="rocm",
            torch="2.9.1",
            triton="3.6.0",
            aiter="04907edc",
            aiter_version="0.1.16",
            bundle=[kernel],
            deep_gemm="2",
        )
    )
    trace = tmp_path / "executed"
    for file in site.rglob("*.py"):
        file.write_text(f"{file.read_text()}\nopen({str(trace)!r}, 'a').close()\n")
    metadata = site / "third_party-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[nsa_caps.probes]\nthird_party = third_party:probe\n")
    (site / "third_party.py").write_text(
        f"open({str(trace)!r}, 'a').close()\ndef probe(host):\n    return {{'extras': {{'third_party': True}}}}\n"
    )
    (tmp_path / "machine.json").write_text(run(tmp_path, "snapshot").stdout)
    return tmp_path


COMMANDS = (
    ["--json"],
    ["report"],
    ["report", "--from", "machine.json", "--engine", "vllm"],
    ["why", "aiter-preshuffle"],
    ["what-if", "--triton", "3.6.0", "--arch", "gfx942", "--json"],
    ["snapshot"],
    ["require", "portable", "--page-size", "64"],
    ["matrix"],
    ["compare", "machine.json", "machine.json"],
    ["report", "--markdown", "--redact"],
    ["schema"],
    ["help", "words"],
)


def test_every_command_is_looked_at() -> None:
    """A new command belongs into the list above, unless it runs kernels, lays out machines or prints a script."""
    known = {line.split()[2] for line in public_api.surface() if line.startswith("$ nsa-caps ")}
    assert known - {"selfcheck", "prove", "bench", "dry-run", "tour", "completion"} == {
        each[0] for each in COMMANDS if each[0] != "--json"
    }


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_does_more_than_read(folder: Path, command: list[str]) -> None:
    """No network, no process, no library, no device, nothing written or changed, and nothing of what was found run."""
    done = run(folder, *command)
    assert done.seen == []
    assert done.stdout
    assert not (folder / "executed").exists()


@pytest.mark.parametrize(
    "command",
    [["matrix", "--svg"], ["compare", "machine.json", "machine.json", "--html"], ["snapshot", "--output"]],
    ids=" ".join,
)
def test_only_the_file_that_was_named_is_written(folder: Path, command: list[str]) -> None:
    """`--svg`, `--html` and `--output FILE` write that file and no other."""
    named = folder / "named"
    assert run(folder, *command, str(named)).seen == [("write", str(named))]
    assert named.read_text()[:2] in ("<s", "<!", "{\n")


def test_a_dry_run_starts_one_process_and_writes_one_file(folder: Path) -> None:
    """`nsa-caps dry-run` starts this Python once, and keeps what it came to in the folder that is named, no more."""
    proofs = folder / "proofs"
    (folder / "site/nsa_caps_testing_excerpts.txt").unlink()
    done = run(folder, "dry-run", environ={"NSA_CAPS_PROOFS": str(proofs)})
    assert [what for kind, what in done.seen if kind == "process"].count("subprocess.Popen") == 1
    assert {kind for kind, _ in done.seen} <= {"process", "write", "change"}
    assert [path for kind, path in done.seen if kind == "write" and str(proofs) in path]
    assert len([path for path in proofs.rglob("*") if path.is_file()]) == 1
    # What aiter's own modules do when they are executed stays in that process.
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("command", [["tour"], ["--machine", "mi300x_rocm720"]], ids=" ".join)
def test_known_machines_are_laid_out_in_a_folder_that_goes_again(folder: Path, command: list[str]) -> None:
    """All that is written for them lies in a temporary folder, and nothing is left; nothing else is touched."""
    place = folder / "temporary"
    place.mkdir()
    done = run(folder, *command, environ={"TMPDIR": str(place)})
    assert {kind for kind, what in done.seen if str(place) not in what and "tempfile" not in what} <= {"change"}
    assert {kind for kind, _ in done.seen} <= {"write", "change"}
    assert list(place.iterdir()) == []


def test_another_python_is_the_only_process_that_is_started(folder: Path) -> None:
    """`--python` starts the Python that it names, once, and nothing else does more than read."""
    done = run(folder, "--python", sys.executable)
    assert {kind for kind, _ in done.seen} == {"process"}
    assert [what for _, what in done.seen].count("subprocess.Popen") == 1


def test_third_parties_run_only_where_they_are_asked_for(folder: Path) -> None:
    """An installed plugin is not even looked for; NSA_CAPS_PLUGINS=1 loads it."""
    assert json.loads(run(folder, "snapshot").stdout)["extras"].keys() == {"system"}
    assert not (folder / "executed").exists()
    asked = run(folder, "snapshot", environ={"NSA_CAPS_PLUGINS": "1"})
    assert json.loads(asked.stdout)["extras"]["third_party"] is True
    assert ("executed", str(folder / "site/third_party.py")) in asked.seen


@pytest.mark.parametrize("command", [["report", "--from"], ["compare"]], ids=" ".join)
def test_a_snapshot_turns_on_no_third_party(folder: Path, command: list[str]) -> None:
    """A document in which the switch is on runs no code here: it is data; this process's own variable counts."""
    metadata = folder / "site" / "third_party-1.0.dist-info"
    (metadata / "entry_points.txt").write_text("[nsa_caps.rows]\nthird_party = third_party:row\n")
    document = json.loads((folder / "machine.json").read_text())
    document["variables"]["NSA_CAPS_PLUGINS"] = "1"
    document["switches"]["plugins"].update(value=True, variable="NSA_CAPS_PLUGINS", raw="1")
    (folder / "strangers.json").write_text(json.dumps(document))
    assert run(folder, *command, "strangers.json").seen == []
    assert not (folder / "executed").exists()
    run(folder, *command, "strangers.json", environ={"NSA_CAPS_PLUGINS": "1"})
    assert (folder / "executed").exists()


def test_the_hook_sees_what_it_looks_for(folder: Path) -> None:
    """A plugin that opens a socket, starts a process, makes a folder and writes a file is seen at each of them."""
    (folder / "site/third_party.py").write_text(
        "import os, socket, subprocess, sys\n"
        "def probe(host):\n"
        "    socket.socket().close()\n"
        "    subprocess.run([sys.executable, '-c', ''])\n"
        "    os.mkdir('made')\n"
        "    open('made/file', 'w').close()\n"
        "    return {}\n"
    )
    seen = run(folder, "snapshot", environ={"NSA_CAPS_PLUGINS": "1"}).seen
    assert {kind for kind, _ in seen} >= {"network", "process", "change", "write", "executed"}
