"""FUSE mounts that do not answer: what counts as one, who looks, and what is known all the same."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Host, probe
from nsa_caps.probes import silent_mounts as module
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.silent_mounts import mount_of, silent_mounts
from nsa_caps.testing import lay_out_packages

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a host is asked about a file or folder; `stamp` has an answer for what cannot be looked at.
ASKED = (
    "read_text", "read_bytes", "list_folder", "exists", "is_file", "is_folder", "kept_from_others", "changed_at",
    "package_file", "is_compiled", "texts_after",
)  # fmt: skip
NEVER = "import time; time.sleep(60)"


@pytest.fixture(autouse=True)
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[int, str], int]]:
    """Wait a moment alone; return the processes that are left behind, which end with the test."""
    processes: dict[tuple[int, str], int] = {}
    monkeypatch.setattr(module, "_TIMEOUT", 0.3)
    monkeypatch.setattr(module, "_left", processes)
    yield processes
    for process in processes.values():
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """Return a folder that the machine of `tmp_path` calls a mount of FUSE, its name with a blank."""
    folder = tmp_path / "a mount"
    (folder / "site").mkdir(parents=True)
    mounted(tmp_path, (folder, "fuse.sshfs"))
    return folder


def mounted(root: Path, *mounts: tuple[Path, str]) -> None:
    """Write what the kernel tells of a machine's mounts, some of another kind among them."""
    lines = ["22 27 0:21 / /proc rw,relatime - proc proc rw", "30 23 0:28 / /sys/fs/fuse rw - fusectl fusectl rw"]
    for place, kind in mounts:
        written = str(place).replace(" ", r"\040")
        lines.append(f"40 27 0:40 / {written} rw,relatime shared:5 - {kind} somewhere rw,user_id=0")
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/mountinfo").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", ["fuse", "fuse.sshfs", "fuseblk"])
def test_a_mount_that_does_not_answer_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Who looks at what lies on it does not come back: it is told, within the time."""
    mounted(tmp_path, (tmp_path / "m", kind))
    monkeypatch.setattr(module, "_LOOK", NEVER)
    assert silent_mounts(str(tmp_path), [str(tmp_path / "m/site"), "/usr/lib"]) == (str(tmp_path / "m"),)


def test_a_mount_that_answers_is_not(
    tmp_path: Path, mount: Path, left: dict[tuple[int, str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks at it comes back, whatever is there; nobody is left behind."""
    monkeypatch.setattr(module, "_TIMEOUT", 30.0)
    assert silent_mounts(str(tmp_path), [str(mount / "site"), str(mount / "gone")]) == ()
    assert left == {}


def test_an_engine_that_ignores_its_children_is_answered(
    tmp_path: Path, mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose children end without a word, as with SIGCHLD ignored, still sees that one came back."""
    monkeypatch.setattr(module, "_TIMEOUT", 30.0)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert silent_mounts(str(tmp_path), [str(mount / "site")]) == ()
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("kind", ["fusectl", "ext4", "nfs4", "overlay"])
def test_nothing_is_started_for_other_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Only FUSE holds a process that is killed; elsewhere the time limit of the reading is enough."""
    mounted(tmp_path, (tmp_path / "m", kind))
    monkeypatch.setattr(module, "_start", lambda _: pytest.fail("started"))
    assert silent_mounts(str(tmp_path), [str(tmp_path / "m/site")]) == ()


def test_nothing_is_started_for_what_this_runs_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that holds this library, Python or its program answers, and one without a search path is not asked."""
    monkeypatch.setattr(module, "_start", lambda _: pytest.fail("started"))
    for own in (module.__file__, os.__file__, sys.executable):
        folder = Path(own).parent
        mounted(tmp_path, (folder, "fuse.sshfs"), (tmp_path / "other", "fuse.sshfs"))
        assert silent_mounts(str(tmp_path), [str(folder)]) == ()
    assert silent_mounts(str(tmp_path / "no machine"), [str(tmp_path)]) == ()


def test_where_nobody_can_look_it_is_read_as_ever(tmp_path: Path, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a program to start, a mount is not called silent."""
    for program in (None, "", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", program)
        assert silent_mounts(str(tmp_path), [str(mount / "site")]) == ()


def test_one_process_is_left_behind_and_not_waited_for_again(
    tmp_path: Path, mount: Path, left: dict[tuple[int, str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks again is told at once; when the process ends, as the mount does, it is asked anew."""
    monkeypatch.setattr(module, "_LOOK", NEVER)
    entries = [str(mount / "site")]
    assert silent_mounts(str(tmp_path), entries) == (str(mount),)
    (process,) = left.values()
    start = time.monotonic()
    assert silent_mounts(str(tmp_path), entries) == (str(mount),)
    assert time.monotonic() - start < 0.2
    assert list(left.values()) == [process]
    os.kill(process, signal.SIGKILL)
    monkeypatch.setattr(module, "_LOOK", "")
    until = time.monotonic() + 20
    while silent_mounts(str(tmp_path), entries):
        assert time.monotonic() < until
    assert left == {}


def test_who_looks_holds_nothing_of_the_engines(tmp_path: Path, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that the engine lets children have ends with the engine, not with a process that is left behind."""
    monkeypatch.setattr(module, "_LOOK", vars(module)["_LOOK"] + f"\n{NEVER}")
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    saved = os.dup(1)
    os.dup2(writing, 1)
    try:
        assert silent_mounts(str(tmp_path), [str(mount / "site")])
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(writing)
    assert select.select([reading], [], [], 20)[0], "the other end is open"
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_the_mount_of_a_path_is_told_without_a_look_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that lead there are followed by hand, also in turns, out of a folder, and round in a circle."""
    mount = tmp_path / "m"
    (tmp_path / "direct").symlink_to(mount / "deep" / "site")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "relative").symlink_to("../direct")
    (tmp_path / "circle").symlink_to("circle")
    monkeypatch.chdir(tmp_path)
    read: list[str] = []
    real = os.readlink

    def readlink(path: str) -> str:
        read.append(path)
        return real(path)

    monkeypatch.setattr(os, "readlink", readlink)
    for path in (
        "m",
        "m/a/b",
        "./m",
        "direct",
        "folder/relative/torch",
        str(mount),
        "folder/../m/x",
        "folder/relative/..",
    ):
        assert mount_of(path, {str(mount)}) == str(mount), path
    for path in (".", "mm", "circle", "m2/..", "folder", "", "folder/\0"):
        assert mount_of(path, {str(mount)}) is None, path
    assert not [path for path in read if path.startswith(str(mount) + "/")]
    assert str(mount) not in read


def test_what_comes_before_a_silent_mount_is_known_and_what_may_lie_there_is_not(tmp_path: Path, mount: Path) -> None:
    """A package of an earlier folder counts; all others are unknown, with a note that names the mount."""
    first = lay_out_packages(tmp_path / "first", platform="rocm", torch="2.9.1")
    last = lay_out_packages(tmp_path / "last", triton="3.6.0")
    host = Host({}, (first, str(mount / "site"), last), {}, str(tmp_path), silent=(str(mount),))
    caps = probe(host)
    assert (caps.torch.version, caps.triton.state, caps.aiter.state) == ("2.9.1", "unknown", "unknown")
    why = f"lies on the FUSE mount {mount}, which does not answer: nothing on it is read"
    told = {note.source for note in caps.notes if note.text == why}
    assert told >= {"triton", "aiter", str(mount / "site")}


def test_nothing_on_a_silent_mount_is_touched(tmp_path: Path, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question of a host about a file there is refused, or answered without the file system."""
    host = Host({}, (), {}, str(tmp_path), silent=(str(mount),))
    path = str(mount / "site" / "x.py")

    def touched(*_: object, **__: object) -> None:
        pytest.fail("touched")

    with monkeypatch.context() as patched:
        for name in ("stat", "lstat", "open", "listdir"):
            patched.setattr(os, name, touched)
        for name in ASKED:
            with pytest.raises(UnreadableError, match="does not answer"):
                getattr(host, name)(path, *([b"x"] if name == "texts_after" else []))
        assert host.stamp(path) is None


def test_this_process_asks_of_its_own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The current host knows the silent mounts of its search path."""
    monkeypatch.setattr("nsa_caps.probes.host.silent_mounts", lambda root, path: (root, *path))
    host = Host.current()
    assert host.silent == ("/", *host.search_path)
