"""Which of aiter's files a reading is made from: those that Python would load, and that this process has loaded."""

from __future__ import annotations

import importlib.machinery
import os
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Host
from nsa_caps.probes.aiter.files import _DECIDING_NAMES, EXCERPTS, PackageFiles
from nsa_caps.probes.installed_aiter import aiter_source
from nsa_caps.probes.process_start import process_start
from nsa_caps.testing import GENERATIONS, lay_out_packages, write_aiter_tree

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import AiterSource

LOGITS = "aiter.ops.triton.attention.pa_mqa_logits"
CORE = "aiter.ops.triton.utils.core"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return an import folder with the newest generation of aiter."""
    write_aiter_tree(tmp_path / "site", GENERATIONS["04907edc"])
    return tmp_path / "site"


def read(site: Path, **modules: object) -> AiterSource:
    """Return what a process reads that has imported some modules."""
    named = {name.replace("__", "."): module for name, module in modules.items()}
    source: AiterSource = aiter_source(Host({}, (str(site),), named, str(site.parent / "root")))["aiter_source"]
    return source


def loaded(name: str, file: Path | None) -> ModuleType:
    """Return a module as an import leaves it."""
    module = ModuleType(name)
    module.__file__ = None if file is None else str(file)
    return module


def file_of(site: Path, dotted: str) -> Path:
    """Return the file of a module."""
    return site / f"{dotted.replace('.', '/')}.py"


def test_a_module_that_the_import_runs_must_be_there(site: Path) -> None:
    """Where one is missing the import is not known to succeed, and the missing one is named."""
    assert read(site).imports is True
    file_of(site, CORE).unlink()
    found = read(site)
    assert found.imports is None
    assert "ops/triton/utils/core.py" in found.unaccounted[0]


def test_an_excerpt_says_that_it_is_one(site: Path) -> None:
    """Beside the mark that the testing kit writes, a folder of deciding files alone may lack others."""
    file_of(site, CORE).unlink()
    lay_out_packages(site)
    assert (site / EXCERPTS).is_file()
    assert read(site).imports is True
    (file_of(site, CORE).parent / "another.py").touch()
    assert read(site).imports is None


def test_a_file_has_no_modules_in_it(site: Path) -> None:
    """A folder beside a module of its name is not looked into: Python takes the file, which is no package."""
    inner = site / "aiter/ops/cache/inner.py"
    inner.parent.mkdir()
    inner.write_text("x = 1\n")
    host = Host({}, (str(site),), {}, str(site))
    files = PackageFiles(host, str(site / "aiter"))
    assert files.module("aiter.ops.cache") == "ops/cache.py"
    assert files.module("aiter.ops.cache.inner") is None


def test_what_was_imported_from_its_own_file_is_read(site: Path) -> None:
    """A module that this process has imported from the file that is read changes nothing."""
    modules = {LOGITS: loaded(LOGITS, file_of(site, LOGITS)), "aiter": loaded("aiter", site / "aiter/__init__.py")}
    assert read(site, **modules) == read(site)


@pytest.mark.parametrize("dotted", [LOGITS, CORE, "aiter.utility.dtypes"])
@pytest.mark.parametrize("place", [None, Path("/elsewhere/module.py")])
def test_what_was_imported_from_elsewhere_is_not_known(site: Path, dotted: str, place: Path | None) -> None:
    """A module of a stand-in, or of another copy, is not the file that lies there: nothing is selected by that."""
    found = read(site, **{dotted: loaded(dotted, place)})
    assert None in (found.imports, found.logits_module)
    assert any("this process imported it from" in line for line in found.unaccounted)


def test_a_module_that_was_replaced_by_none_is_not_known(site: Path) -> None:
    """`sys.modules[name] = None` makes an import fail, whatever lies on disk."""
    assert read(site, **{LOGITS: None}).logits_module is None


def began(site: Path, seconds: float) -> None:
    """Write a process that began at a time into the machine's root, whose kernel booted at 1000."""
    ticks = int((seconds - 1000) * os.sysconf("SC_CLK_TCK"))
    proc = site.parent / "root/proc"
    (proc / "self").mkdir(parents=True, exist_ok=True)
    (proc / "self/stat").write_text(f"7 (a) name) S {' '.join(['0'] * 18)} {ticks} 0 0\n")
    (proc / "stat").write_text("cpu 1 2 3\nbtime 1000\nprocesses 5\n")


@pytest.mark.parametrize(("age", "known"), [(-60.0, True), (60.0, False)])
def test_a_file_that_changed_under_a_process_is_not_known(site: Path, age: float, known: bool) -> None:
    """What a process has imported is as its file now is only where the file is older than the process."""
    began(site, time.time() - age)
    found = read(site, **{LOGITS: loaded(LOGITS, file_of(site, LOGITS))})
    assert (found.logits_module is not None) is known
    assert known or "changed since the process began" in found.unaccounted[0]
    # What was not imported yet will be as it lies there.
    assert replace(read(site), unaccounted=()) == replace(read(site, other=3), unaccounted=())


def test_when_this_process_began_is_known_here() -> None:
    """On Linux the kernel tells; elsewhere nothing is known of it."""
    start = process_start(Host.current())
    assert start is None or 0 < time.time() - start + 1.0 < 10 * 24 * 3600


def test_another_module_in_the_place_of_the_logits_is_not_passed_over(site: Path) -> None:
    """An extension module beside the newer place is what Python loads: a leftover in the older place is not read."""
    write_aiter_tree(site, GENERATIONS["914dcee3"])

    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    file_of(site, LOGITS).with_suffix("").with_name(f"pa_mqa_logits{suffix}").touch()
    assert read(site).logits_module is None


def package(site: Path, **modules: object) -> PackageFiles:
    """Return the files of a package, in a process that has imported some modules."""
    named = {name.replace("__", "."): module for name, module in modules.items()}
    return PackageFiles(Host({}, (str(site),), named, str(site.parent / "root")), str(site / "aiter"))


def test_a_folder_that_was_imported_has_no_file(site: Path) -> None:
    """Neither a bare folder nor a package that was put together from several is known by one."""
    (site / "aiter/bare").mkdir()
    modules = {"aiter.bare": loaded("aiter.bare", None), "aiter": loaded("aiter", None)}
    files = package(site, **modules)
    assert (files.module("aiter"), files.module("aiter.bare"), files.shadowed) == ("__init__.py", "", {})
    assert read(site, **modules) == read(site)


def test_where_a_module_was_imported_from_is_told(site: Path) -> None:
    """Its own file, or that it has none."""
    for place, told in ((Path("/elsewhere/cache.py"), "/elsewhere/cache.py"), (None, "no file")):
        files = package(site, aiter__ops__cache=loaded("aiter.ops.cache", place))
        assert files.module("aiter.ops.cache") is None
        assert files.shadowed == {"aiter.ops.cache": f"this process imported it from {told}"}


def test_a_file_without_an_ending_is_no_folder(site: Path) -> None:
    """Python looks into folders alone."""
    (site / "aiter/ops/plain").touch()
    (site / "aiter/ops/folder").mkdir()
    files = package(site)
    assert (files.module("aiter.ops.plain"), files.module("aiter.ops.folder")) == (None, "")


def test_a_folder_that_cannot_be_listed_is_noted(site: Path) -> None:
    """It has no names, and the note names it."""
    (site / "aiter/round").symlink_to("round")
    files = package(site)
    assert files.listing("round") == frozenset()
    assert [note.source for note in files.notes] == [str(site / "aiter/round")]


def test_a_file_as_old_as_the_process_is_the_one_that_it_imported(site: Path) -> None:
    """What is newer by whatever little is not."""
    path = file_of(site, CORE)
    module = loaded(CORE, path)
    files = package(site, **{CORE: module})
    files._began = path.stat().st_ctime  # noqa: SLF001 as exact as a file's own time, which ticks are not
    assert files.module(CORE) is not None
    files = package(site, **{CORE: module})
    files._began = path.stat().st_ctime - 0.001  # noqa: SLF001 likewise
    assert files.module(CORE) is None


def test_a_folder_of_an_excerpt_may_hold_all_that_decides(site: Path) -> None:
    """And nothing else."""
    lay_out_packages(site)
    folder = site / "aiter/some"
    folder.mkdir()
    for name in _DECIDING_NAMES:
        (folder / name).touch()
    assert package(site).excerpt("aiter.some.other")
    (folder / "more.py").touch()
    assert not package(site).excerpt("aiter.some.other")
