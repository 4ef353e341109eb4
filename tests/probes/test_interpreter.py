"""Other Pythons that have a torch: found by their folders, and neither started nor read."""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Host
from nsa_caps.probes.interpreter import package_folders, pythons_with_torch, this_python

if TYPE_CHECKING:
    from pathlib import Path


def environment(folder: Path, torch: str | None = "lib/python3.12/site-packages/torch") -> Path:
    """Lay out a virtual environment, with a torch or without one."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python3").write_text("")
    if torch is not None:
        (folder / torch).mkdir(parents=True)
    return folder


def found(root: Path, **environ: str) -> list[str]:
    """Return the Pythons that are found, below the root."""
    host = Host(MappingProxyType(environ), (), MappingProxyType({}), str(root))
    return [python.removeprefix(f"{root}/") for python in pythons_with_torch(host) if python.startswith(str(root))]


@pytest.mark.parametrize("torch", ["lib/python3.12/site-packages/torch", "lib/python3/dist-packages/torch"])
@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX", "PATH"])
def test_the_active_one_and_those_of_the_path(tmp_path: Path, variable: str, torch: str) -> None:
    """Wherever a distribution puts its packages."""
    place = environment(tmp_path / "venv", torch)
    value = f"/usr/bin::{place}/bin" if variable == "PATH" else str(place)
    assert found(tmp_path, **{variable: value}) == ["venv/bin/python3"]


def test_each_is_told_once_and_the_active_one_first(tmp_path: Path) -> None:
    """Of several, in the order in which a shell would find them."""
    active, other = environment(tmp_path / "active"), environment(tmp_path / "other")
    path = f"{other}/bin:{active}/bin:{other}/bin"
    assert found(tmp_path, VIRTUAL_ENV=str(active), PATH=path) == ["active/bin/python3", "other/bin/python3"]


def test_without_a_torch_or_a_python_there_is_none(tmp_path: Path) -> None:
    """A folder of libraries alone is no environment, and one without torch is none to ask."""
    bare, lost = environment(tmp_path / "bare", None), environment(tmp_path / "lost")
    (lost / "bin/python3").unlink()
    assert found(tmp_path, PATH=f"{bare}/bin:{lost}/bin:{tmp_path}/gone/bin") == []


def test_one_whose_libraries_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    """Here a loop of links."""
    place = environment(tmp_path / "loop", None)
    (place / "lib").symlink_to("lib")
    assert found(tmp_path, VIRTUAL_ENV=str(place)) == []


def test_this_python_is_no_other(tmp_path: Path) -> None:
    """It is told by its own words, with the folders of packages alone."""
    assert f"{sys.prefix}/bin/python3" not in found(tmp_path, VIRTUAL_ENV=sys.prefix)
    told = this_python()
    assert (told.python, told.python_version) == (sys.executable, sys.version.split()[0])
    assert all(folder.endswith("-packages") for folder in told.folders)
    assert package_folders(["/a", "/b/site-packages", "/c/lib-dynload", "/d/dist-packages"]) == (
        "/b/site-packages", "/d/dist-packages",
    )  # fmt: skip
