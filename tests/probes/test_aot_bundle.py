"""aiter's ahead-of-time kernels: a folder proves nothing, each kernel's two files are looked at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from nsa_caps import AotBundle, AotKernel, Host, Note
from nsa_caps.probes.aot_bundle import aot_bundle
from nsa_caps.testing import AOT_FOLDER, lay_out_packages

if TYPE_CHECKING:
    from pathlib import Path

TILED = "paged_mqa_logits_preshuffle_64x256x128_B64PFW2"
TOKEN = "paged_mqa_logits_64x256x128_B1PFW2"  # noqa: S105 a page of one token
VARCTX = "paged_mqa_logits_preshuffle_varctx_64x128x128_B64PFW5"
STEM = "_gluon_deepgemm_fp8_paged_mqa_logits_preshuffle"


def found(site: Path) -> tuple[AotBundle, tuple[Note, ...]]:
    """Return the bundle of the aiter in this import folder, and the notes."""
    result = aot_bundle(Host({}, (str(site),), {}, "/nowhere"))
    return result["aot_bundle"], result["notes"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return an import folder with an aiter that has one whole tiled kernel for gfx942."""
    lay_out_packages(tmp_path, aiter="914dcee3", bundle=[AotKernel(TILED, complete=True, arch="gfx942")])
    return tmp_path


def test_a_whole_kernel(site: Path) -> None:
    """Both files and a readable arch make a kernel complete."""
    bundle, notes = found(site)
    assert bundle == AotBundle(str(site / AOT_FOLDER), (AotKernel(TILED, complete=True, arch="gfx942"),))
    assert notes == ()


def test_every_kernel_of_the_loader_is_told_by_its_name(tmp_path: Path) -> None:
    """The folder's name tells the function whose files the loader opens: base, preshuffle, and its varctx form."""
    kernels = [AotKernel(name, complete=True, arch="gfx950") for name in (TOKEN, TILED, VARCTX)]
    lay_out_packages(tmp_path, aiter="914dcee3", bundle=kernels)
    bundle, notes = found(tmp_path)
    assert set(bundle.kernels or ()) == set(kernels)
    assert notes == ()
    names = {path.name for path in (tmp_path / AOT_FOLDER / VARCTX).iterdir()}
    assert names == {f"{STEM}_varctx.json", f"{STEM}_varctx.hsaco"}


def test_no_bundle(tmp_path: Path) -> None:
    """No release ships a bundle: there is a place where it would be, and nothing in it."""
    lay_out_packages(tmp_path, aiter="a6bb4993")
    assert found(tmp_path) == (AotBundle(str(tmp_path / AOT_FOLDER), ()), ())


@pytest.mark.parametrize("installed", [None, "impostor"])
def test_no_aiter_of_amds(tmp_path: Path, installed: str | None) -> None:
    """Without AMD's aiter there is nothing to look at."""
    lay_out_packages(tmp_path, aiter=installed)
    assert aot_bundle(Host({}, (str(tmp_path),), {}, "/nowhere")) == {}


def test_other_folders_beside_the_kernels(site: Path) -> None:
    """What the loader never asks for is passed over."""
    (site / AOT_FOLDER / "readme").mkdir()
    assert len(found(site)[0].kernels or ()) == 1


@pytest.mark.parametrize("ending", [".json", ".hsaco"])
def test_a_kernel_that_lacks_a_file(site: Path, ending: str) -> None:
    """Either file missing makes the kernel incomplete, and the note says which."""
    (site / AOT_FOLDER / TILED / (STEM + ending)).unlink()
    bundle, (note,) = found(site)
    assert bundle.kernels == (AotKernel(TILED, complete=False),)
    assert note == Note("aot_bundle", str(site / AOT_FOLDER / TILED), f"has no {STEM}{ending}")


def test_a_folder_in_the_place_of_the_code(site: Path) -> None:
    """A folder named like the code object is none."""
    path = site / AOT_FOLDER / TILED / f"{STEM}.hsaco"
    path.unlink()
    path.mkdir()
    assert found(site)[0].kernels == (AotKernel(TILED, complete=False),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"target": {}}',
        '{"target": 3}',
        '{"target": "gfx942"}',
        json.dumps({"target": {"arch": 942}}),
        json.dumps({"target": {"arch": None}}),
        "[" * 100_000,
        '{"target": {"arch": ' + "9" * 5000 + "}}",
    ],
)
def test_a_json_without_an_arch(site: Path, text: str) -> None:
    """A document that tells no arch makes the kernel incomplete, and the note names the file."""
    path = site / AOT_FOLDER / TILED / f"{STEM}.json"
    path.write_text(text)
    bundle, (note,) = found(site)
    assert bundle.kernels == (AotKernel(TILED, complete=False),)
    assert note.source == str(path)


def test_a_json_that_cannot_be_read(site: Path) -> None:
    """A json that is no text makes the kernel incomplete."""
    path = site / AOT_FOLDER / TILED / f"{STEM}.json"
    path.write_bytes(b"\xff")
    bundle, (note,) = found(site)
    assert bundle.kernels == (AotKernel(TILED, complete=False),)
    assert note == Note("aot_bundle", str(path), "not UTF-8 at byte 0")


def test_a_bundle_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    """A folder that cannot be listed is unknown, not empty."""
    lay_out_packages(tmp_path, aiter="914dcee3")
    path = tmp_path / AOT_FOLDER
    path.parent.mkdir(parents=True)
    path.symlink_to(path)
    bundle, (note,) = found(tmp_path)
    assert bundle == AotBundle(str(path), None)
    assert note.source == str(path)
