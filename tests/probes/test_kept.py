"""Reading kept verdicts: strictly, from nobody else, and only while the files whose code ran are the same."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from nsa_caps import Host, probe
from nsa_caps.capabilities.kept import BoundPackage, KeptVerdict
from nsa_caps.probes.kept import kept, kept_folder
from nsa_caps.probes.kept_files import bound_variables, digest_of
from nsa_caps.selfcheck.kept import NotKeptError, forget, keep, package_files
from nsa_caps.testing import machine

VERDICT = KeptVerdict(
    row="reference",
    verdict="wrong",
    format=("page_size=64",),
    heads=64,
    device="cpu",
    driver=None,
    packages=(BoundPackage("torch", "2.9.1"),),
    variables=(),
    told="gather: 3 of 9 differ",
    made="2026-11-25",
    limit=300.0,
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a machine with a torch, and a folder of verdicts that holds one."""
    laid_out = machine(tmp_path / "machine", platform="cpu")
    environ = MappingProxyType({"NSA_CAPS_PROOFS": str(tmp_path / "proofs")})
    found = replace(laid_out, environ=environ)
    keep(found, VERDICT, package_files(found, {"torch": ["version.py"], "triton": []}), {})
    return found


def file_of(host: Host) -> Path:
    """Return the one kept file."""
    (path,) = Path(host.environ["NSA_CAPS_PROOFS"]).glob("*.json")
    return path


def notes_of(host: Host) -> list[str]:
    """Return what is noted where nothing is taken."""
    found = kept(host)
    assert found["kept"] == ()
    return [note.text for note in found["notes"]]


def test_it_is_a_fact_of_the_machine(host: Host) -> None:
    """With its file as the source."""
    assert probe(host).kept == (replace(VERDICT, source=str(file_of(host))),)


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    """A machine that never proved anything has no facts and no notes of it."""
    assert kept(machine(tmp_path, platform="cpu")) == {}


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_not_read(host: Host, mode: int) -> None:
    """Whoever may write it could have any row chosen or refused."""
    file_of(host).chmod(mode)
    assert "others than its owner and root may write it" in notes_of(host)[0]


def test_a_folder_that_others_may_write_is_not_read(host: Host) -> None:
    """They could put a file of this user's into it: no sticky bit helps the folder itself."""
    for mode in (0o770, 0o1777):
        file_of(host).parent.chmod(mode)
        assert "others than its owner and root may write it" in notes_of(host)[0]


def test_a_folder_above_that_others_may_write_is_not_trusted(host: Host, tmp_path: Path) -> None:
    """They could put another folder in its place, unless the one above is sticky, as /tmp is."""
    tmp_path.chmod(0o777)
    assert "others than its owner and root may write it" in notes_of(host)[0]
    tmp_path.chmod(0o1777)
    assert len(kept(host)["kept"]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_of_another_user_is_not_read(host: Host) -> None:
    """Root's is, as in an image that root made."""
    os.chown(file_of(host), 12345, -1)
    assert "others than its owner and root may write it" in notes_of(host)[0]


def test_a_link_is_not_read(host: Host, tmp_path: Path) -> None:
    """It may lead anywhere."""
    real = tmp_path / "real.json"
    file_of(host).rename(real)
    (Path(host.environ["NSA_CAPS_PROOFS"]) / "a.json").symlink_to(real)
    assert "a link, and a kept verdict is a file" in notes_of(host)[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[:-30], "no JSON"),
        (lambda _: "", "no JSON"),
        (lambda _: "[" * 100_000, "no JSON"),
        (lambda _: "[]", "needs an object"),
        (lambda text: text.replace('"wrong"', '"probably"'), "needs one of 'proven'"),
        (lambda text: text.replace('"heads": 64', '"heads": "64"'), "needs int"),
        (lambda text: text.replace('"told"', '"tells"'), "unknown field 'tells'"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "this release reads 1"),
        (lambda text: text + " " * 3 * 2**20, "more than the"),
    ],
)  # fmt: skip
def test_what_is_no_verdict_is_noted(host: Host, change: Any, told: str) -> None:
    """And decides nothing."""
    path = file_of(host)
    path.write_text(change(path.read_text()))
    assert told in notes_of(host)[0]


def test_a_changed_file_makes_it_void(host: Host) -> None:
    """Without a note: after an upgrade that is as it should be."""
    (Path(host.search_path[0]) / "torch/version.py").write_text("__version__ = '2.9.1'\nhip = None\n# another build\n")
    assert kept(host) == {}


def test_a_file_that_is_gone_makes_it_void(host: Host) -> None:
    """As does a package."""
    (Path(host.search_path[0]) / "torch/version.py").unlink()
    assert kept(host) == {}


def test_another_time_of_change_alone_does_not(host: Host) -> None:
    """An image that is unpacked gives its files new times; the contents count."""
    os.utime(Path(host.search_path[0]) / "torch/version.py", (1, 1))
    assert len(kept(host)["kept"]) == 1


@pytest.mark.parametrize(
    "name", ["TRITON_INTERPRET", "HSA_OVERRIDE_GFX_VERSION", "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS"]
)
def test_another_variable_makes_it_void(host: Host, name: str) -> None:
    """What kernels, compilers and drivers read may change what they do."""
    assert kept(replace(host, environ={**host.environ, name: "1"})) == {}


@pytest.mark.parametrize("name", ["TRITON_CACHE_DIR", "HIP_VISIBLE_DEVICES", "AITER_LOG_LEVEL", "PATH", "RANK"])
def test_variables_that_change_no_kernel_do_not(host: Host, name: str) -> None:
    """Ranks have folders and devices of their own."""
    assert len(kept(replace(host, environ={**host.environ, name: "1"}))["kept"]) == 1
    assert bound_variables({name: "1"}) == ()


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"NSA_CAPS_PROOFS": "/a", "HOME": "/h"}, "/a"),
        ({"NSA_CAPS_PROOFS": " ", "XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/nsa_caps/proofs"),
        ({"HOME": "/h"}, "/h/.cache/nsa_caps/proofs"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/nsa_caps/proofs"),
        ({}, None),
    ],
)
def test_where_they_are_kept(environ: dict[str, str], folder: str | None) -> None:
    """The user's cache folder, as `platformdirs.user_cache_dir("nsa_caps")` has it on Linux, unless a variable says."""
    assert kept_folder(environ) == folder


def test_forgetting_removes_files_and_nothing_else(host: Host) -> None:
    """Of one row, or all, those that cannot be read included."""
    folder = Path(host.environ["NSA_CAPS_PROOFS"])
    (folder / "broken.json").write_text("{")
    (folder / "of-somebody.txt").write_text("")
    assert forget(host, ["portable"]) == []
    assert len(forget(host, ["reference"])) == 1
    assert [Path(path).name for path in forget(host)] == ["broken.json"]
    assert [path.name for path in folder.iterdir()] == ["of-somebody.txt"]


def test_it_is_not_kept_where_others_may_write(host: Host) -> None:
    """They would be believed."""
    file_of(host).parent.chmod(0o777)
    with pytest.raises(NotKeptError, match="others than its owner"):
        keep(host, VERDICT, (), {})


def test_writing_leaves_the_old_verdict_or_the_new_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails half-way changes nothing and leaves no part behind."""
    before = file_of(host).read_text()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotKeptError, match="No space left on device"):
        keep(host, VERDICT, (), {})
    assert file_of(host).read_text() == before
    assert len(list(file_of(host).parent.iterdir())) == 1


def test_a_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    """Two files that swap their contents are not the same; one that is gone has none."""
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    before = digest_of(str(tmp_path), ["a", "b"])
    (tmp_path / "a").write_text("2")
    (tmp_path / "b").write_text("1")
    assert digest_of(str(tmp_path), ["a", "b"]) != before
    assert digest_of(str(tmp_path), ["a", "c"]) is None


def test_the_file_is_json_for_people(host: Host) -> None:
    """One field a line."""
    document = json.loads(file_of(host).read_text())
    assert document["verdict"]["told"] == VERDICT.told
    assert [package["name"] for package in document["packages"]] == ["torch", "triton"]
