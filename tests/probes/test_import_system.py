"""What an import would bring: Python's own rules, held against Python's own finder, and who else has a say."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import packaging
import pytest

from nsa_caps import Host, decide, probe
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.import_system import Finder
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCES = Path(__file__).parents[2] / "src"


def host(*search_path: Path, finders: tuple[Finder, ...] = ()) -> Host:
    """Return a host that sees these import folders."""
    return Host({}, tuple(map(str, search_path)), {}, "/nowhere", finders)


def written(path: Path) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x = 1\n")


def compiled(path: Path) -> None:
    """Leave a source's bytecode in its place."""
    written(path)
    py_compile.compile(str(path), cfile=str(path.with_suffix(".pyc")))
    path.unlink()


def python_says(name: str, folders: list[Path]) -> str | None:
    """Return what Python's own finder would load."""
    PathFinder.invalidate_caches()
    spec = PathFinder.find_spec(name, list(map(str, folders)))
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return next(iter(spec.submodule_search_locations))
    return spec.origin


EXTENSION = f"triton{EXTENSION_SUFFIXES[0]}"


@pytest.mark.parametrize(
    "files",
    [
        ["a/triton/__init__.py"],
        [f"a/{EXTENSION}", "b/triton/__init__.py"],
        ["a/triton.abi3.so", "a/triton.py"],
        [f"a/{EXTENSION}", "a/triton/__init__.py"],
        [f"a/triton/__init__{EXTENSION_SUFFIXES[-1]}"],
        ["a/triton/other.py", "b/triton/__init__.py"],
        ["a/triton/other.py", "b/triton.py"],
        ["a/triton/other.py", "a/triton.py"],
        ["a/triton/other.py"],
        ["a/triton.py", "a/triton/__init__.py"],
        ["a/triton.py", "b/triton/__init__.py"],
        ["a/triton/__init__.py/x", "b/triton.py"],
        ["a/triton.so", "b/triton.py"],
        ["a/triton.txt"],
        [],
    ],
    ids=" ".join,
)
def test_what_python_would_load_is_found(tmp_path: Path, files: list[str]) -> None:
    """Of packages, extension modules, sources and bare folders the same one counts as to Python's own finder."""
    for name in files:
        written(tmp_path / name)
    folders = [tmp_path / "a", tmp_path / "b"]
    assert host(*folders).find_package("triton") == python_says("triton", folders)


@pytest.mark.parametrize("name", ["triton.py", "triton/__init__.py"])
def test_bytecode_without_a_source_is_a_package(tmp_path: Path, name: str) -> None:
    """A package that ships bytecode alone is found, and what it says of itself is not read."""
    compiled(tmp_path / name)
    found = host(tmp_path).find_package("triton")
    assert found == python_says("triton", [tmp_path])
    package = probe(host(tmp_path)).triton
    assert (package.state, package.version, package.location) == ("found", None, found)


@pytest.mark.parametrize("below", ["", "/lib"])
@pytest.mark.parametrize("member", ["triton/__init__.py", "triton.py", "triton/__init__.pyc"])
def test_a_package_in_an_archive_is_not_known(tmp_path: Path, member: str, below: str) -> None:
    """Python imports from zip files and eggs, of which nothing is read here; other names lie where they lay."""
    archive = tmp_path / "some.egg"
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr(f"{below}/{member}".lstrip("/"), "x = 1\n")
    written(tmp_path / "site" / "torch" / "__init__.py")
    seen = host(Path(f"{archive}{below}"), tmp_path / "site")
    with pytest.raises(UnreadableError, match=r"some\.egg"):
        seen.find_package("triton")
    assert seen.find_package("torch") == str(tmp_path / "site" / "torch")
    caps = probe(seen)
    assert (caps.triton.state, caps.torch.state) == ("unknown", "found")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"\x7fELF"])
def test_a_file_on_the_path_that_is_no_archive_brings_nothing(tmp_path: Path, content: bytes) -> None:
    """As `zipimport` has it."""
    (tmp_path / "broken.zip").write_bytes(content)
    written(tmp_path / "site" / "triton.py")
    assert host(tmp_path / "broken.zip", tmp_path / "site").find_package("triton") == str(tmp_path / "site/triton.py")


@pytest.mark.parametrize(
    ("finder", "known"),
    [
        (Finder("x.Finder"), False),
        (Finder("x.Finder", is_first=False), True),
        (Finder("x.Finder", brings=frozenset({"triton"})), False),
        (Finder("x.Finder", brings=frozenset({"other"})), True),
    ],
)
def test_a_finder_that_comes_first_may_shadow_what_is_on_the_path(tmp_path: Path, finder: Finder, known: bool) -> None:
    """Whoever is asked before Python's own finder has the first word; whoever comes after it has none."""
    written(tmp_path / "triton" / "__init__.py")
    seen = host(tmp_path, finders=(finder,))
    if known:
        assert seen.find_package("triton") == str(tmp_path / "triton")
    else:
        with pytest.raises(UnreadableError, match=r"x\.Finder"):
            seen.find_package("triton")


def test_what_is_nowhere_may_come_from_any_finder(tmp_path: Path) -> None:
    """A name that the path does not have is missing only where no finder comes after Python's own."""
    assert host(tmp_path).find_package("triton") is None
    with pytest.raises(UnreadableError):
        host(tmp_path, finders=(Finder("x.Finder", is_first=False),)).find_package("triton")


def test_a_module_that_is_imported_tells_its_own_place(tmp_path: Path) -> None:
    """Then no finder is asked any more."""
    written(tmp_path / "math.py")
    seen = replace(host(finders=(Finder("x.Finder"),)), modules={"os": os})
    assert seen.find_package("os") == os.__file__


def test_a_package_that_is_not_known_selects_nothing(tmp_path: Path) -> None:
    """Rows that need it are unknown, say which finder is in the way, and the next row without it is chosen."""
    seen = machine(tmp_path, platform="cuda", archs=["sm_90"], triton="3.6.0", deep_gemm="0.1.5", torch="2.9.1+cu130")
    assert decide(probe(seen)).chosen == "deepgemm"
    caps = probe(replace(seen, finders=(Finder("x.Finder", brings=frozenset({"deep_gemm"})),)))
    decision = decide(caps)
    (reason,) = (each for each in decision.verdict("deepgemm").reasons if each.code == "package.unknown")
    assert (reason.verdict, decision.chosen) == ("unknown", "portable")
    assert [note.source for note in caps.notes if "x.Finder" in note.text] == ["deep_gemm"]


# --- This process


@pytest.fixture
def finders_of(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that runs code in a fresh Python and returns what finders it then has."""

    def run(code: str) -> str:
        asked = "[(each.name, each.is_first, sorted(each.brings or ['any'])) for each in other_finders()]"
        code = f"from nsa_caps.probes.import_system import other_finders\n{code}\nprint(*{asked})"
        # Without site-packages, whose .pth files may bring finders; their folder is enough for what we need of it.
        path = os.pathsep.join(map(str, (tmp_path, SOURCES, Path(packaging.__file__).parents[1])))
        done = subprocess.run(
            [sys.executable, "-S", "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_python_itself_has_no_other_finders(finders_of: Callable[[str], str]) -> None:
    """A plain interpreter finds by its path alone."""
    assert finders_of("import zipfile, importlib.util") == ""


def test_finders_are_told_by_name_and_place(finders_of: Callable[[str], str]) -> None:
    """Classes, instances and hooks, before Python's finder and after it; what they are asked runs no code of theirs."""
    out = finders_of("""
import abc, sys
class First:
    def __getattribute__(self, name): raise SystemExit(name)
class Last(metaclass=abc.ABCMeta): pass
def hook(path): raise ImportError
sys.meta_path.insert(0, First())
sys.meta_path.append(Last)
sys.path_hooks.insert(0, hook)
""")
    assert out == "('__main__.First', True, ['any']) ('__main__.hook', True, ['any']) ('__main__.Last', False, ['any'])"


def test_editable_installs_bring_what_they_map(finders_of: Callable[[str], str]) -> None:
    """Finders of meson-python, scikit-build-core and editables bring their own project's packages, and no other."""
    out = finders_of("""
import sys
class MesonpyMetaFinder:
    def __init__(self): self._top_level_modules = {"numpy"}
class ScikitBuildRedirectingFinder:
    known_source_files = {"not": "this"}
    def __init__(self):
        self.known_source_files, self.known_wheel_files = {"deep_gemm": "/x", "deep_gemm.sub": "/y"}, {"fast._C": "z"}
        self.submodule_search_locations = {}
class RedirectingFinder:
    _redirections = {"hatched": "/x"}
class ScikitBuildRedirectingFinder2: pass
sys.meta_path += [MesonpyMetaFinder(), ScikitBuildRedirectingFinder(), RedirectingFinder]
""")
    assert out == (
        "('__main__.MesonpyMetaFinder', False, ['numpy'])"
        " ('__main__.ScikitBuildRedirectingFinder', False, ['deep_gemm', 'fast'])"
        " ('__main__.RedirectingFinder', False, ['hatched'])"
    )


@pytest.mark.parametrize(
    "module",
    [
        "_distutils_hack.DistutilsMetaFinder",
        "_virtualenv._Finder",
        "a.six._SixMetaPathImporter",
        "_numba_cuda_redirector.NumbaCudaFinder",
    ],
)
def test_finders_that_bring_other_names_are_passed_over(
    finders_of: Callable[[str], str], tmp_path: Path, module: str
) -> None:
    """Nearly every environment has setuptools' finder or virtualenv's, many have numba-cuda's: none is in the way."""
    place, _, kind = module.rpartition(".")
    written(tmp_path / "a" / "__init__.py")
    (tmp_path / f"{place.replace('.', '/')}.py").write_text(f"class {kind}: pass\n")
    assert finders_of(f"import sys, {place}\nsys.meta_path.insert(0, {module}())") == ""
