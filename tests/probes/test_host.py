"""The one door to the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Host
from nsa_caps.probes.host import UnreadableError
from tests.processes import uncounted

if TYPE_CHECKING:
    from collections.abc import Callable


def host(*search_path: Path, root: str = "/nowhere", **modules: object) -> Host:
    """Return a host that sees these import folders and these modules."""
    return Host({}, tuple(map(str, search_path)), modules, root)


def package(folder: Path, name: str) -> Path:
    """Write an empty package and return its folder."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").touch()
    return folder / name


def test_current_is_this_process() -> None:
    """The current host has this process's environment, path and modules, and the real root."""
    current = Host.current()
    assert dict(current.environ) == dict(os.environ)
    assert current.modules is sys.modules
    assert current.is_this_machine
    assert len(current.search_path) == len(sys.path)


def test_current_names_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The empty entry of `sys.path` stands for the working folder, which has another name on a host."""
    monkeypatch.setattr(sys, "path", ["", "/elsewhere"])
    assert Host.current().search_path == (".", "/elsewhere")


def test_current_survives_a_deleted_working_folder(tmp_path: Path) -> None:
    """A process whose working folder is gone still gets its host."""
    code = (
        "import os, sys; os.rmdir(os.getcwd()); sys.path[0] = ''; from nsa_caps import Host; print(Host.current().root)"
    )
    gone = tmp_path / "gone"
    gone.mkdir()
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=gone, env=environ, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("/\n", 0), done.stderr


def test_a_laid_out_root_is_not_this_machine(tmp_path: Path) -> None:
    """A host with a root of its own is not this machine, and its system files lie below that root."""
    laid_out = host(root=str(tmp_path))
    assert not laid_out.is_this_machine
    assert laid_out.system_path("sys", "class") == str(tmp_path / "sys/class")


def test_read_text_of_a_file(tmp_path: Path) -> None:
    """A regular file's text is returned whole, line ends and all."""
    (tmp_path / "file").write_bytes("ä\r\nb\n".encode())
    assert host().read_text(str(tmp_path / "file")) == "ä\r\nb\n"


def test_read_text_passes_over_a_byte_order_mark(tmp_path: Path) -> None:
    """A byte order mark, which Python takes at the start of a source file, is no part of the text."""
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbf__version__ = '1'")
    assert host().read_text(str(tmp_path / "file")) == "__version__ = '1'"


@pytest.mark.parametrize("path", ["missing", "file/below"])
def test_read_text_of_nothing(tmp_path: Path, path: str) -> None:
    """A file that is not there, or would lie below a file, is None and no error."""
    (tmp_path / "file").touch()
    assert host().read_text(str(tmp_path / path)) is None


def _huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(10**9)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Path.mkdir, "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "not a regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"\xe4"), "not UTF-8 at byte 0"),
        (_huge, "1000000000 bytes, more than the 2097152 that are read"),
    ],
)
def test_read_text_of_what_is_no_text(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    """What is there and no readable text is an error that names the file and what stood in the way."""
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(UnreadableError) as caught:
        host().read_text(str(path))
    assert (caught.value.path, caught.value.why) == (str(path), why)
    assert str(caught.value) == f"{path}: {why}"


def test_read_text_of_an_impossible_name() -> None:
    """A name that no file system takes is an error of the same kind."""
    with pytest.raises(UnreadableError, match="null"):
        host().read_text("a\0b")


def test_read_text_opens_no_device() -> None:
    """A link to a device is refused before it is opened: opening alone can act on a device."""
    # In a process of its own, for a hook cannot be taken back.
    code = """
import sys
from nsa_caps import Host
from nsa_caps.probes.host import UnreadableError
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
try: Host({}, (), {}, "/").read_text("/dev/null")
except UnreadableError: print(opened)
"""
    environ = {**uncounted(), "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_list_folder(tmp_path: Path) -> None:
    """A folder's names come sorted; no folder, or a file in its place, has none."""
    for name in ("b", "a", "c"):
        (tmp_path / name).touch()
    assert host().list_folder(str(tmp_path)) == ("a", "b", "c")
    assert host().list_folder(str(tmp_path / "missing")) == ()
    assert host().list_folder(str(tmp_path / "a")) == ()


def test_list_folder_of_a_loop(tmp_path: Path) -> None:
    """A folder that cannot be listed is an error that names it."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UnreadableError, match="Too many levels") as caught:
        host().list_folder(str(tmp_path / "loop"))
    assert caught.value.path == str(tmp_path / "loop")


def test_the_first_regular_package_is_found(tmp_path: Path) -> None:
    """The search path's order decides, as it does for an import."""
    package(tmp_path / "two", "torch")
    first = package(tmp_path / "one", "torch")
    assert host(tmp_path / "none", tmp_path / "one", tmp_path / "two").find_package("torch") == str(first)


def test_a_module_of_one_file_is_found(tmp_path: Path) -> None:
    """A single file `name.py` is what an import would load too."""
    (tmp_path / "pynvml.py").touch()
    assert host(tmp_path).find_package("pynvml") == str(tmp_path / "pynvml.py")


def test_a_package_comes_before_a_module_of_one_file(tmp_path: Path) -> None:
    """In one folder the package wins over the file of the same name, as in an import."""
    (tmp_path / "torch.py").touch()
    folder = package(tmp_path, "torch")
    assert host(tmp_path).find_package("torch") == str(folder)


def test_a_folder_without_init_comes_last(tmp_path: Path) -> None:
    """A bare folder is what an import takes only where no entry has a regular package."""
    (tmp_path / "one/triton").mkdir(parents=True)
    assert host(tmp_path / "one").find_package("triton") == str(tmp_path / "one/triton")
    regular = package(tmp_path / "two", "triton")
    assert host(tmp_path / "one", tmp_path / "two").find_package("triton") == str(regular)


def test_an_imported_module_tells_its_own_place(tmp_path: Path) -> None:
    """What is imported already is what an import gives, wherever the path would lead now."""
    package(tmp_path, "torch")
    loaded = types.ModuleType("torch")
    loaded.__file__ = "/opt/torch/__init__.py"
    alone = types.ModuleType("pynvml")
    alone.__file__ = "/opt/pynvml.py"
    seen = host(tmp_path, torch=loaded, pynvml=alone)
    assert seen.find_package("torch") == "/opt/torch"
    assert seen.find_package("pynvml") == "/opt/pynvml.py"


def test_a_module_without_a_file_is_looked_up(tmp_path: Path) -> None:
    """A module made in memory has no place, so the search path is asked."""
    folder = package(tmp_path, "torch")
    assert host(tmp_path, torch=types.ModuleType("torch")).find_package("torch") == str(folder)


def test_nothing_is_found_as_none() -> None:
    """A package that is nowhere is None."""
    assert host().find_package("torch") is None


@pytest.mark.parametrize("before", [0, 10, 2**20 - 30, 2**20 - 20, 2**20 - 5, 2**20, 2**20 + 7, 2**21 - 20])
def test_what_stands_behind_a_marker_in_a_compiled_file(tmp_path: Path, before: int) -> None:
    """A file is searched by the piece: a marker across two pieces, or at the very end, is found."""
    path = tmp_path / "_C.so"
    path.write_bytes(b"\0" * before + b"libcudart.so.13\0and more than sixteen")
    assert host().texts_after(str(path), b"none", b"libcudart.so.") == (None, "13\0and more than")
    path.write_bytes(b"\0" * before + b"libcudart.so.13")
    assert host().texts_after(str(path), b"libcudart.so.") == ("13",)
    path.write_bytes(b"")
    assert host().texts_after(str(path), b"libcudart.so.") == (None,)
    assert host().texts_after(str(tmp_path / "none.so"), b"a", b"b") == (None, None)
