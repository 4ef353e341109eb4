"""Which packages are there, whole, and the ones that are meant: told from their files, without an import."""

from __future__ import annotations

import py_compile
import types
from dataclasses import replace
from pathlib import Path

import pytest

from nsa_caps import Host, Note, Package, decide, probe
from nsa_caps.probes.packages import aiter_folder, packages
from nsa_caps.testing import lay_out_packages


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return an import folder with torch, Triton, AMD's aiter and DeepGEMM."""
    lay_out_packages(
        tmp_path,
        platform="rocm",
        torch="2.9.1+rocm7.0",
        triton="3.5.1",
        aiter="a6bb4993",
        aiter_version="0.1.13",
        deep_gemm="2.1.1",
    )
    return tmp_path


def find(name: str, *site: Path, **modules: object) -> tuple[Package, tuple[Note, ...]]:
    """Return what is found of one package, and the notes."""
    found = packages(Host({}, tuple(map(str, site)), modules, "/nowhere"))
    package = found[name]
    assert isinstance(package, Package)
    return package, found["notes"]


def metadata(site: Path, folder: str) -> str:
    """Write an empty metadata folder and return its path."""
    (site / folder).mkdir()
    return str(site / folder)


@pytest.mark.parametrize(
    ("name", "version", "file"),
    [
        ("torch", "2.9.1+rocm7.0", "torch/version.py"),
        ("triton", "3.5.1", "triton/__init__.py"),
        ("aiter", "0.1.13", "aiter/_version.py"),
        ("deep_gemm", "2.1.1", "deep_gemm/__init__.py"),
    ],
)
def test_a_package_tells_its_own_version(site: Path, name: str, version: str, file: str) -> None:
    """The version is that of the package's own file, which is named as its source."""
    found, notes = find(name, site)
    assert (found.state, found.version, found.source) == ("found", version, str(site / file))
    assert found.location == str(site / name)
    assert notes == ()


@pytest.mark.parametrize("name", ["torch", "triton", "aiter", "deep_gemm"])
def test_what_is_not_there_is_missing(tmp_path: Path, name: str) -> None:
    """A package that is nowhere is missing, and nothing more is said of it."""
    assert find(name, tmp_path) == (Package(name, "missing"), ())


def test_metadata_of_a_package_that_is_gone(tmp_path: Path) -> None:
    """Metadata without the package leave it missing, with a note that names the folder."""
    path = metadata(tmp_path, "triton-3.5.1.dist-info")
    found, (note,) = find("triton", tmp_path)
    assert found == Package("triton", "missing")
    assert (note.source, note.text) == (path, "metadata of triton without the package triton")


def test_a_checkout_has_no_version_of_its_own(tmp_path: Path) -> None:
    """Without a version file the metadata's version stands, and without metadata there is none."""
    lay_out_packages(tmp_path, aiter="04907edc")
    assert (find("aiter", tmp_path)[0].state, find("aiter", tmp_path)[0].version) == ("found", None)
    path = metadata(tmp_path, "amd_aiter-0.1.14rc1.dev55+g1234567.dist-info")
    found, _ = find("aiter", tmp_path)
    assert (found.version, found.distribution, found.source) == ("0.1.14rc1.dev55+g1234567", "amd-aiter", path)


def test_the_packages_own_version_wins_over_the_metadata(tmp_path: Path) -> None:
    """Where the two differ the package's own word counts, and the difference is a note (triton-windows)."""
    lay_out_packages(tmp_path, triton="3.8.0", triton_distributions={"triton-windows": "3.8.0.post29"})
    found, (note,) = find("triton", tmp_path)
    assert (found.version, found.distribution) == ("3.8.0", "triton-windows")
    assert note.text == "says 3.8.0.post29, the package itself 3.8.0; the package counts"


def test_case_and_dashes_of_a_version_are_no_difference(tmp_path: Path) -> None:
    """Folder names write `-` as `_`, and builds differ in case: neither is worth a note."""
    lay_out_packages(tmp_path, triton="3.5.1+ROCm-7", triton_distributions={"triton": "3.5.1+rocm_7"})
    assert find("triton", tmp_path)[1] == ()


def test_several_distributions_of_one_package(tmp_path: Path) -> None:
    """Two distributions that bring triton are noted by name; the one of the package's own version owns it."""
    lay_out_packages(tmp_path, triton="3.4.0", triton_distributions={"triton": "3.5.1", "pytorch-triton-rocm": "3.4.0"})
    found, (note,) = find("triton", tmp_path)
    assert (found.version, found.distribution) == ("3.4.0", "pytorch-triton-rocm")
    assert "pytorch-triton-rocm 3.4.0, triton 3.5.1" in note.text


def test_three_distributions_none_of_which_owns_the_package(tmp_path: Path) -> None:
    """Where no single one has the package's version, whose it is stays unknown and the version is the package's."""
    distributions = {"triton": "3.4.0", "amd-triton": "3.4.0", "triton-rocm": "3.3.0"}
    lay_out_packages(tmp_path, triton="3.6.0", triton_distributions=distributions)
    found, (note,) = find("triton", tmp_path)
    assert (found.version, found.distribution) == ("3.6.0", None)
    assert all(name in note.text for name in distributions)


def test_a_development_install_beside_a_release(tmp_path: Path) -> None:
    """Metadata that tell no version own nothing by it; both are named."""
    lay_out_packages(tmp_path, aiter="04907edc", aiter_version="0.1.16")
    metadata(tmp_path, "amd_aiter.egg-info")
    metadata(tmp_path, "aiter-0.1.5.dist-info")
    found, (note,) = find("aiter", tmp_path)
    assert (found.version, found.distribution) == ("0.1.16", None)
    assert "aiter 0.1.5, amd-aiter of unknown version" in note.text


def test_metadata_beside_the_package_comes_first(tmp_path: Path) -> None:
    """Metadata of another import folder belong to another installation."""
    lay_out_packages(tmp_path / "venv", triton="3.6.0")
    lay_out_packages(tmp_path / "system", triton="3.2.0")
    found, notes = find("triton", tmp_path / "venv", tmp_path / "system")
    assert (found.version, notes) == ("3.6.0", ())


@pytest.mark.parametrize(
    ("folder", "distribution", "version"),
    [
        ("amd_aiter-0.1.5.dist-info", "amd-aiter", "0.1.5"),
        ("AMD.Aiter-0.1.5.dist-info", "amd-aiter", "0.1.5"),
        ("amd-aiter-0.1.5-py3.12.egg-info", "amd-aiter", "0.1.5"),
        ("aiter-0.1.7.post5-py3.12.egg-info", "aiter", "0.1.7.post5"),
        ("aiterator-1.0.dist-info", None, None),
        ("amd_aiter.egg-info", "amd-aiter", None),
        ("aiter-0.1.5.data", None, None),
    ],
)
def test_the_names_of_metadata_folders(
    tmp_path: Path, folder: str, distribution: str | None, version: str | None
) -> None:
    """The folder's name alone tells the distribution and its version, in every form that installers have written."""
    lay_out_packages(tmp_path, aiter="04907edc")
    metadata(tmp_path, folder)
    found, _ = find("aiter", tmp_path)
    assert (found.distribution, found.version) == (distribution, version)


@pytest.mark.parametrize("text", ["__version__ =", "\0", "(" * 100_000, "__version__ = '3.6.0"])
def test_a_version_file_that_is_no_python_is_broken(site: Path, text: str) -> None:
    """A file that Python could not import either makes the package broken; the metadata's version is kept."""
    (site / "triton/__init__.py").write_text(text)
    found, notes = find("triton", site)
    assert (found.state, found.version) == ("broken", "3.5.1")
    assert [note.source for note in notes] == [str(site / "triton/__init__.py")]
    assert "cannot parse it" in notes[0].text


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("__version__ = '3.5.1'", "3.5.1"),
        ("__version__: str = '3.5.1'", "3.5.1"),
        ("__version__ = version = '3.5.1'", "3.5.1"),
        ("version = '3.5.1'", "3.5.1"),
        ("__version__ = ''", ""),
        ("__version__ = ''.join(['3', '5'])", "from metadata"),
        ("__version__ = 3.5", "from metadata"),
        ("__version__ = None", "from metadata"),
        ("if True:\n    __version__ = '3.5.1'", "from metadata"),
        ("", "from metadata"),
    ],
)
def test_only_a_literal_at_the_top_is_a_version(tmp_path: Path, text: str, version: str) -> None:
    """A plain string, also annotated, chained or empty, is read; what would have to be run is not."""
    lay_out_packages(tmp_path, triton="", triton_distributions={"triton": "9"})
    (tmp_path / "triton/__init__.py").write_text(text)
    assert find("triton", tmp_path)[0].version == version.replace("from metadata", "9")


def test_a_folder_without_init_is_broken(tmp_path: Path) -> None:
    """What an import would give as an empty namespace is no package."""
    (tmp_path / "triton/language").mkdir(parents=True)
    found, (note,) = find("triton", tmp_path)
    assert (found.state, found.location) == ("broken", str(tmp_path / "triton"))
    assert "without __init__.py" in note.text


def test_a_module_of_one_file_is_found_without_a_version(tmp_path: Path) -> None:
    """A single file has no version file beside it."""
    (tmp_path / "triton.py").write_text("__version__ = '1'")
    assert find("triton", tmp_path)[0] == Package("triton", "found", None, None, str(tmp_path / "triton.py"))


def test_the_public_indexs_aiter_is_an_impostor(tmp_path: Path) -> None:
    """The async-iterator library is not AMD's, and is named with its distribution and version."""
    lay_out_packages(tmp_path, aiter="impostor")
    found, notes = find("aiter", tmp_path)
    assert found == Package(
        "aiter", "impostor", "0.13.20191203", "aiter", str(tmp_path / "aiter"), str(tmp_path / "aiter")
    )
    assert notes == ()
    assert aiter_folder(Host({}, (str(tmp_path),), {}, "/nowhere")) is None


@pytest.mark.parametrize("hallmark", ["jit/core.py", "ops/triton"])
def test_an_aiter_without_a_hallmark_is_an_impostor(site: Path, hallmark: str) -> None:
    """AMD's package has `jit/core.py` and `ops/triton`; without either it is another one."""
    (site / "aiter" / hallmark).rename(site / "elsewhere")
    assert find("aiter", site)[0].state == "impostor"


def test_an_impostor_of_unknown_origin(tmp_path: Path) -> None:
    """A folder of the name with nothing beside it is an impostor without a version."""
    (tmp_path / "aiter.py").touch()
    found, _ = find("aiter", tmp_path)
    assert (found.state, found.version, found.distribution) == ("impostor", None, None)


def test_an_impostor_in_front_hides_the_real_one(tmp_path: Path) -> None:
    """What an import would load counts, wherever the real one lies behind it."""
    lay_out_packages(tmp_path / "first", aiter="impostor")
    lay_out_packages(tmp_path / "second", aiter="a6bb4993")
    assert find("aiter", tmp_path / "first", tmp_path / "second")[0].state == "impostor"


def loaded(site: Path, **attributes: object) -> types.ModuleType:
    """Return a module `triton` as an import from this folder would have left it."""
    module = types.ModuleType("triton")
    module.__file__ = str(site / "triton/__init__.py")
    vars(module).update(attributes)
    return module


def test_an_imported_package_tells_its_version(site: Path) -> None:
    """What this process imported counts; where the disk says something else now, that is a note."""
    found, notes = find("triton", site, triton=loaded(site, __version__="3.4.0"))
    assert (found.version, found.source) == ("3.4.0", "triton.__version__, as imported")
    assert [note.source for note in notes] == [str(site / "triton/__init__.py"), str(site / "triton-3.5.1.dist-info")]
    assert notes[0].text == "says 3.5.1, but 3.4.0 is what this process imported; that counts"


def test_an_imported_package_that_agrees_leaves_no_note(site: Path) -> None:
    """The same version in memory and on disk is nothing to remark."""
    found, notes = find("triton", site, triton=loaded(site, __version__="3.5.1"))
    assert (found.version, notes) == ("3.5.1", ())


@pytest.mark.parametrize("version", [None, 3, object()])
def test_an_imported_package_without_a_version_is_read_from_disk(site: Path, version: object) -> None:
    """An attribute that is no text tells nothing."""
    assert find("triton", site, triton=loaded(site, __version__=version))[0].version == "3.5.1"


def test_an_imported_package_is_not_broken(site: Path) -> None:
    """What was imported works, whatever its file looks like by now."""
    (site / "triton/__init__.py").write_text("(")
    assert find("triton", site, triton=loaded(site, __version__="3.5.1"))[0].state == "found"


def test_an_import_folder_that_cannot_be_listed(site: Path, tmp_path: Path) -> None:
    """A path entry that cannot be listed is noted, and the others still count."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    found, (note,) = find("triton", tmp_path / "loop", site)
    assert found.version == "3.5.1"
    assert note.source == str(tmp_path / "loop")


def test_no_import_path_at_all() -> None:
    """A host that looks nowhere misses every package."""
    host = replace(Host.current(), search_path=(), modules={})
    found = packages(host)
    assert {found[name].state for name in ("torch", "triton", "aiter", "deep_gemm")} == {"missing"}
    assert found["engines"] == ()
    assert found["torch_triton"] is None


def editable(tmp_path: Path, name: str) -> tuple[Path, Path, dict[str, str]]:
    """Return the import folder of an editable install, where the package lies, and what its finder maps."""
    site, checkout = tmp_path / "editable", tmp_path / "checkout"
    (checkout / name).mkdir(parents=True)
    (checkout / name / "__init__.py").write_text("__version__ = '9.8.7'\n")
    mapping = {name: str(checkout / name)}
    site.mkdir()
    (site / f"__editable___{name}_9_8_7_finder.py").write_text(f"MAPPING: dict[str, str] = {mapping!r}\n")
    (site / f"{name}-9.8.7.dist-info").mkdir()
    return site, checkout / name, mapping


def test_an_editable_install_is_found_where_its_finder_is_loaded(tmp_path: Path) -> None:
    """A finder of setuptools, loaded when the interpreter starts, maps the package to its checkout."""
    site, place, mapping = editable(tmp_path, "triton")
    finder = types.SimpleNamespace(MAPPING=mapping)
    host = Host({}, (str(site),), {"__editable___triton_9_8_7_finder": finder}, "/nowhere")
    found = packages(host)
    triton = found["triton"]
    assert (triton.state, triton.version, triton.location) == ("found", "9.8.7", str(place))
    assert triton.distribution == "triton"
    assert found["notes"] == ()


def test_a_finder_that_is_not_loaded_is_named(tmp_path: Path) -> None:
    """On a machine that is only looked at, the package is missing, and a note names the finder: it may map it."""
    site, _, _ = editable(tmp_path, "triton")
    found = packages(Host({}, (str(site),), {}, "/nowhere"))
    assert found["triton"].state == "missing"
    assert str(site / "__editable___triton_9_8_7_finder.py") in {note.source for note in found["notes"]}


def test_finders_of_other_packages_are_passed_over(tmp_path: Path) -> None:
    """A finder of a package that nothing here rests on leaves no note."""
    site, _, _ = editable(tmp_path, "sphinx")
    assert packages(Host({}, (str(site),), {}, "/nowhere"))["notes"] == ()


@pytest.mark.parametrize("mapping", [None, 3, {"triton": 3}, {"triton": "/nowhere"}, {}])
def test_a_finder_that_leads_nowhere(mapping: object) -> None:
    """A finder with another mapping, or to a place that is gone, finds nothing."""
    host = Host({}, (), {"__editable___triton_1_finder": types.SimpleNamespace(MAPPING=mapping)}, "/nowhere")
    assert host.find_package("triton") is None


def test_an_editable_module_of_one_file(tmp_path: Path) -> None:
    """A finder maps a module to its file's name without the ending; a regular package on the path comes first."""
    (tmp_path / "deep_gemm.py").touch()
    finder = types.SimpleNamespace(MAPPING={"deep_gemm": str(tmp_path / "deep_gemm")})
    host = Host({}, (), {"__editable___deep_gemm_1_finder": finder}, "/nowhere")
    assert host.find_package("deep_gemm") == str(tmp_path / "deep_gemm.py")
    first = lay_out_packages(tmp_path / "site", deep_gemm="2.1.1")
    assert replace(host, search_path=(first,)).find_package("deep_gemm") == f"{first}/deep_gemm"


def test_a_version_file_that_names_none(tmp_path: Path) -> None:
    """Where every release has the literal a file without it is named; its metadata's version counts."""
    lay_out_packages(site := tmp_path / "site", triton="3.6.0", deep_gemm="2.1.1")
    (site / "triton/__init__.py").write_text("import os\n")
    (site / "deep_gemm/__init__.py").write_text("import os\n")
    found = packages(Host({}, (str(site),), {}, "/nowhere"))
    assert (found["triton"].version, found["deep_gemm"].state) == ("3.6.0", "found")
    assert [(note.source, note.text) for note in found["notes"]] == [
        (f"{site}/triton/__init__.py", "names no __version__")
    ]


def test_an_empty_package_is_broken(tmp_path: Path) -> None:
    """An `__init__.py` without anything in it is the trace of an install that was cut off."""
    lay_out_packages(site := tmp_path / "site", triton="3.6.0")
    (site / "triton/__init__.py").write_text("\n")
    found = packages(Host({}, (str(site),), {}, "/nowhere"))
    assert found["triton"].state == "broken"
    assert found["notes"][0].source == f"{site}/triton/__init__.py"


def test_a_torch_that_cannot_be_imported_is_broken(tmp_path: Path) -> None:
    """Its version file alone does not make torch: what `import torch` runs first must be Python, too."""
    site = Path(lay_out_packages(tmp_path / "site", platform="cpu", torch="2.9.1"))
    (site / "torch" / "__init__.py").write_text("def (\n")
    caps = probe(Host({}, (str(site),), {}, "/nowhere"))
    assert caps.torch.state == "broken"
    assert decide(caps).chosen is None
    assert [note.source for note in caps.notes if "cannot parse" in note.text] == [f"{site}/torch/__init__.py"]


def test_what_python_has_compiled_is_not_parsed_again(tmp_path: Path) -> None:
    """Bytecode of this Python, of the very time and size of the source, stands for it; any other does not."""
    source = tmp_path / "torch" / "__init__.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    host = Host({}, (str(tmp_path),), {}, "/nowhere")
    assert not host.is_compiled(str(source))
    py_compile.compile(str(source))
    assert host.is_compiled(str(source))
    source.write_text("def another_size(\n")
    assert not host.is_compiled(str(source))
