"""What the installed torch was built for."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Host, probe
from nsa_caps.capabilities.records import PLATFORMS, Platform
from nsa_caps.probes.platform import platform
from nsa_caps.testing import lay_out_packages

if TYPE_CHECKING:
    from pathlib import Path


def found(site: Path, **modules: object) -> tuple[str, str | None, tuple[str, ...]]:
    """Return the platform, where it was read, and the texts of the notes."""
    result = platform(Host({}, (str(site),), modules, "/nowhere"))
    return result["platform"], result["platform_source"], tuple(note.text for note in result["notes"])


def torch(site: Path, text: str) -> Path:
    """Write torch's version file."""
    lay_out_packages(site, torch="2.9.1")
    path = site / "torch/version.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", PLATFORMS)
def test_every_build(tmp_path: Path, kind: Platform) -> None:
    """Each vendor's build is told from what its version file sets, or from the plugin beside a CPU build."""
    lay_out_packages(tmp_path, platform=kind, torch="2.9.1")
    assert found(tmp_path)[0] == kind


def test_the_source_names_file_and_value(tmp_path: Path) -> None:
    """The source says which name in which file decided."""
    path = torch(tmp_path, "from typing import Optional\nhip: Optional[str] = '7.0'\ncuda: Optional[str] = None\n")
    assert found(tmp_path) == ("rocm", f"{path}: hip = 7.0", ())


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("hip = '7.0'", "rocm"),
        ("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None", "cuda"),
        ("xpu: Optional[str] = '20250301'\ncuda = None", "xpu"),
        ("hip = '7.0'\ncuda = '12.8'", "rocm"),
        ("hip = ''\ncuda = '12.8'", "cuda"),
        ("hip = None", "cpu"),
        ("cuda = None\nhip = None\nxpu = None", "cpu"),
    ],
)
def test_plain_and_annotated_assignments(tmp_path: Path, text: str, kind: str) -> None:
    """The first of hip, cuda and xpu that holds a text decides, however it is assigned."""
    torch(tmp_path, text)
    assert found(tmp_path)[0] == kind


@pytest.mark.parametrize("text", ["hip = get()", "hip = None\nhip = f'7'", "cuda = None\nif 1:\n    cuda = '12.8'"])
def test_a_build_that_is_no_plain_text_to_the_end_is_unknown(tmp_path: Path, text: str) -> None:
    """What a call or a branch may have changed is not read as a CPU build."""
    name = text.partition(" ")[0]
    path = torch(tmp_path, text)
    told = f"{name}: not a plain text or None to the end of the file"
    assert found(tmp_path) == ("unknown", str(path), (told,))


@pytest.mark.parametrize("text", ["", "__version__ = '2.9.1'", "hip: str"])
def test_a_version_file_that_names_no_build(tmp_path: Path, text: str) -> None:
    """A file that names neither hip, cuda nor xpu tells nothing, and is noted."""
    path = torch(tmp_path, text)
    assert found(tmp_path) == ("unknown", str(path), ("names neither hip, cuda nor xpu",))


def test_a_missing_version_file(tmp_path: Path) -> None:
    """A torch without a version file is unknown."""
    torch(tmp_path, "").unlink()
    assert found(tmp_path)[0] == "unknown"


def test_a_version_file_that_is_no_python(tmp_path: Path) -> None:
    """A file that cannot be parsed is unknown, and the note says why."""
    path = torch(tmp_path, "hip = (")
    kind, source, (note,) = found(tmp_path)
    assert (kind, source) == ("unknown", str(path))
    assert "cannot parse it" in note


def test_a_version_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder in the place of the file is unknown, and the note says what it is."""
    path = torch(tmp_path, "")
    path.unlink()
    path.mkdir()
    assert found(tmp_path) == ("unknown", str(path), ("not a regular file",))


def test_no_torch(tmp_path: Path) -> None:
    """Without torch there is no build to be a fact of."""
    assert found(tmp_path) == ("unknown", None, ())


def test_a_plugin_beside_a_cuda_build_counts_where_no_nvidia_driver_is(tmp_path: Path) -> None:
    """The index's torch on x86 is CUDA's, on an Ascend host too; beside NVIDIA's driver it stays what it is."""
    lay_out_packages(tmp_path / "npu", platform="npu", torch="2.9.1")
    lay_out_packages(tmp_path / "cuda", platform="cuda", torch="2.9.1")
    host = Host({}, (str(tmp_path / "cuda"), str(tmp_path / "npu")), {}, str(tmp_path))
    assert platform(host)["platform"] == "npu"
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    assert platform(host)["platform"] == "cuda"


@pytest.mark.parametrize(
    ("build", "version", "kind"),
    [
        ("hip = '7.0'", "2.7.1+das.opt1", "dcu"),
        ("hip = '6.3'", "2.5.1+dtk2504", "dcu"),
        ("hip = '7.0'", "2.9.1+rocm7.0.2", "rocm"),
        ("cuda = '11.6'", "2.6.0+metax3.2.1.3", "metax"),
        ("cuda = '12.8'", "2.9.1+cu128", "cuda"),
    ],
)
def test_a_build_that_passes_for_anothers_is_told_by_its_version(
    tmp_path: Path, build: str, version: str, kind: str
) -> None:
    """inference-cookbook-das#17, xllm#1851: Hygon's and MetaX's builds set hip and cuda."""
    torch(tmp_path, f"__version__ = '{version}'\n{build}\n")
    assert found(tmp_path)[0] == kind


def test_the_release_of_cuda_or_rocm(tmp_path: Path) -> None:
    """What torch was built for has a release, which DeepGEMM's must match; a CPU build has none."""
    for text, release in (
        ("cuda = '12.8'", "12.8"),
        ("hip = '7.0.5'", "7.0.5"),
        ("xpu = '1'", None),
        ("hip = None", None),
    ):
        torch(tmp_path, text)
        assert platform(Host({}, (str(tmp_path),), {}, "/nowhere"))["build"] == release


def test_an_imported_torch_tells_for_itself(tmp_path: Path) -> None:
    """What this process imported counts, whatever lies on disk."""
    torch(tmp_path, "hip = '7.0'")
    module = types.ModuleType("torch")
    vars(module)["version"] = types.SimpleNamespace(hip=None, cuda="12.8")
    kind, source, _ = found(tmp_path, torch=module)
    assert (kind, source) == ("cuda", "torch.version, as imported: cuda = 12.8")


def test_a_half_imported_torch_is_read_from_disk(tmp_path: Path) -> None:
    """A torch in the middle of its import has no version module yet."""
    torch(tmp_path, "hip = '7.0'")
    assert found(tmp_path, torch=types.ModuleType("torch"))[0] == "rocm"


def test_a_star_may_bring_what_the_file_does_not_name(tmp_path: Path) -> None:
    """`from ._build import *` before a plain None leaves open what torch was built for: never a CPU's."""
    folder = tmp_path / "torch"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "version.py").write_text("from ._build import *\ncuda = None\n")
    assert probe(Host({}, (str(tmp_path),), {}, "/nowhere")).platform == "unknown"
