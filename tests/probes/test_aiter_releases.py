"""What is known of a source by its digest is what a full reading of it comes to, and nothing else is known by it."""

from __future__ import annotations

import importlib.machinery
import subprocess
import sys
import tarfile
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import Host, decide, probe
from nsa_caps.base.serial import to_plain
from nsa_caps.probes.aiter.files import PackageFiles
from nsa_caps.probes.aiter.reader import PARTS, read_in_full
from nsa_caps.probes.aiter.releases import known_facts, known_part, part_table, release_table, state_digest
from nsa_caps.probes.installed_aiter import aiter_source
from nsa_caps.testing import GENERATIONS, machine, write_aiter_tree

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]


def files_of(site: Path, **modules: object) -> PackageFiles:
    """Return the files of an aiter, in a process that has imported some modules."""
    return PackageFiles(Host({}, (str(site),), modules, str(site / "root")), str(site / "aiter"))


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """Return a table that knows one source, which lies in the folder."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    files = files_of(tmp_path)
    facts = to_plain(read_in_full(files, "")["aiter_source"])
    del facts["as_in"]
    asked = {"modules": sorted(files.asked()), "opened": sorted(files.opened())}
    digest = state_digest(files_of(tmp_path), asked)
    return {
        "pythons": [list(sys.version_info[:2])],
        **asked,
        "releases": {digest: [0, "v0.1.20"]},
        "facts": [facts],
    }


def test_a_known_source_has_the_facts_of_a_full_reading(tmp_path: Path, table: dict[str, Any]) -> None:
    """By the digest the same facts come as by reading, and the release that they are known from."""
    assert known_facts(files_of(tmp_path), table) == replace(GENERATIONS["04907edc"], as_in="v0.1.20")


def test_the_report_names_the_release_that_a_source_is_as_in(tmp_path: Path) -> None:
    """Beneath aiter's version stands the release whose files these are; of a source that is none's, nothing."""
    caps = probe(machine(tmp_path / "m", archs=["gfx942"], aiter="04907edc"))
    assert caps.aiter_source is not None
    known = caps.replace(aiter_source=replace(caps.aiter_source, as_in="v0.1.16"))
    assert "as in v0.1.16" in decide(known).explain()
    assert "as in" not in decide(caps).explain()


# A file below the package, and its new bytes; None: it is gone.
CHANGES: dict[str, tuple[str, bytes | None]] = {
    "another text in a deciding file": ("utility/dtypes.py", b"import torch\n"),
    "a file is gone": ("ops/attention.py", None),
    "bytes that are no text": ("jit/core.py", b"\xff"),
    "an extension module beside a source": (f"ops/cache{SUFFIX}", b""),
    "a package beside a module": ("ops/cache/__init__.py", b""),
    "a module that a bare import would find": ("jit/utils/torch.py", b""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_is_read_in_full(tmp_path: Path, table: dict[str, Any], change: str) -> None:
    """Whatever a reading would meet otherwise makes another digest."""
    name, data = CHANGES[change]
    path = tmp_path / "aiter" / name
    if data is None:
        path.unlink()
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    assert known_facts(files_of(tmp_path), table) is None


def test_what_a_process_has_imported_counts_too(tmp_path: Path, table: dict[str, Any]) -> None:
    """A module that was taken from elsewhere, or out of reach, is not the release's."""
    assert known_facts(files_of(tmp_path, **{"aiter.utility.dtypes": None}), table) is None
    assert known_facts(files_of(tmp_path, **{"aiter.utility.dtypes": object()}), table) is None


def test_another_python_reads_in_full(tmp_path: Path, table: dict[str, Any]) -> None:
    """The facts are those that the interpreters of the table came to: another may parse, or know, other things."""
    assert known_facts(files_of(tmp_path), {**table, "pythons": [[3, 9]]}) is None


def test_files_that_are_not_read_change_nothing(tmp_path: Path, table: dict[str, Any]) -> None:
    """What aiter builds and tunes beside its sources is no other source."""
    (tmp_path / f"aiter/jit/module_cache{SUFFIX}").touch()
    (tmp_path / "aiter/configs").mkdir()
    assert known_facts(files_of(tmp_path), table) is not None


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Any]:
    """Return a table of the parts of one source, which lies in the folder."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    entries = {}
    for name, look in PARTS.items():
        files = files_of(tmp_path)
        facts, lines = look(files)
        assert lines == []
        entry = {"modules": sorted(files.asked()), "opened": sorted(files.opened())}
        entries[name] = {**entry, "known": {state_digest(files_of(tmp_path), entry): to_plain(facts)}}
    return {"pythons": [list(sys.version_info[:2])], "parts": entries}


# What is changed below the package, and the parts that must then be read.
READ = {
    "utility/dtypes.py": {"trim", "fp8", "imports"},
    "ops/cache.py": {"cache", "takes"},
    "ops/triton/attention/pa_mqa_logits.py": {"imports", "logits"},
    "ops/triton/gluon/pa_mqa_logits.py": {"kernels", "logits", "imports"},
    "__init__.py": {"trim", "imports"},
}


@pytest.mark.parametrize("name", READ)
def test_of_a_changed_source_the_parts_that_ask_for_it_are_read(
    tmp_path: Path, parts: dict[str, Any], name: str
) -> None:
    """What does not ask for the changed file is known, and the facts are those of a full reading."""
    path = tmp_path / "aiter" / name
    path.write_text(path.read_text(encoding="utf-8") + "\nraise OSError\n", encoding="utf-8")
    files = files_of(tmp_path)
    assert {part for part in PARTS if known_part(files, parts, part) is None} == READ[name]
    found = read_in_full(files, "", lambda part: known_part(files, parts, part))
    assert found == read_in_full(files_of(tmp_path), "")


def test_what_stands_where_a_release_has_nothing_is_no_release(tmp_path: Path, parts: dict[str, Any]) -> None:
    """An extension module in the place of a module that no release has is not the same as nothing."""
    (tmp_path / f"aiter/jit/utils/triton{SUFFIX}").touch()
    assert known_part(files_of(tmp_path), parts, "logits") is None
    (tmp_path / f"aiter/jit/utils/triton{SUFFIX}").unlink()
    assert known_part(files_of(tmp_path), parts, "logits") is not None


def test_parts_are_known_to_the_pythons_of_the_table(tmp_path: Path, parts: dict[str, Any]) -> None:
    """Another interpreter reads every part, and so does one that could not read a file."""
    assert known_part(files_of(tmp_path), {**parts, "pythons": [[3, 9]]}, "gate") is None
    path = tmp_path / "aiter/ops/triton/gluon/__init__.py"
    path.unlink()
    path.mkdir()
    assert known_part(files_of(tmp_path), parts, "gate") is None


def releases(checkout: Path) -> list[str]:
    """Return the tags of aiter's releases."""
    told = subprocess.check_output(["git", "-C", str(checkout), "tag", "--list", "v0.1.*"], text=True)
    return told.split()


@pytest.mark.slow
def test_every_release_is_known_as_it_is_read(tmp_path: Path, aiter_checkout: Path) -> None:
    """Of each release tag, what its digest tells and what a full reading comes to are the same (`--aiter-checkout`)."""
    known = 0
    for tag in releases(aiter_checkout):
        archive = subprocess.check_output(["git", "-C", str(aiter_checkout), "archive", tag, "aiter"])
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            sources = [member for member in tar if member.name.endswith(".py")]
            tar.extractall(tmp_path / tag, sources, filter="data")
        package = str(tmp_path / tag / "aiter")
        full = read_in_full(files_of(tmp_path / tag), package)
        by_digest = known_facts(files_of(tmp_path / tag), release_table())
        if by_digest is not None:
            known += 1
            assert replace(by_digest, location=package, as_in=None) == full["aiter_source"], tag
            assert full["notes"] == ()
            told = aiter_source(Host({}, (str(tmp_path / tag),), {}, "/nowhere"))
            assert told == {**full, "aiter_source": replace(by_digest, location=package)}
            assert by_digest.as_in in GENERATIONS or str(by_digest.as_in) <= tag
    assert known >= 50


@pytest.mark.slow
def test_a_release_with_a_change_is_known_as_it_is_read(tmp_path: Path, aiter_checkout: Path) -> None:
    """Of releases with one file changed, the known parts and a full reading come to the same (`--aiter-checkout`)."""
    known = 0
    for tag in ("v0.1.13", "v0.1.16", "v0.1.20"):
        archive = subprocess.check_output(["git", "-C", str(aiter_checkout), "archive", tag, "aiter"])
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            tar.extractall(tmp_path / tag, [each for each in tar if each.name.endswith(".py")], filter="data")
        for path in sorted((tmp_path / tag / "aiter").rglob("*.py")):
            relative = str(path.relative_to(tmp_path / tag / "aiter"))
            if relative not in READ and not relative.startswith(("jit/utils", "ops/triton/utils")):
                continue
            text = path.read_bytes()
            for change in (b"\n# a comment\n", b"\nraise OSError\n"):
                path.write_bytes(text + change)
                files = files_of(tmp_path / tag)
                parts = {part: known_part(files, part_table(), part) for part in PARTS}
                known += sum(facts is not None for facts in parts.values())
                found = read_in_full(files, "", parts.get)
                assert found == read_in_full(files_of(tmp_path / tag), ""), (tag, relative)
            path.write_bytes(text)
    assert known > 500


def test_the_tables_are_read_once_and_tell_of_releases() -> None:
    """Two calls give one table."""
    assert release_table() is release_table()
    assert part_table() is part_table()
    assert release_table()["releases"]
    assert part_table()["parts"].keys() == PARTS.keys()


def test_a_state_has_sixteen_digits(tmp_path: Path) -> None:
    """As those of the tables."""
    digests = [
        *release_table()["releases"],
        *(each for part in part_table()["parts"].values() for each in part["known"]),
    ]
    assert {len(digest) for digest in digests} == {16}
    assert len(state_digest(files_of(tmp_path), {"modules": [], "opened": []})) == 16


def test_without_the_tables_every_source_is_read_in_full(tmp_path: Path) -> None:
    """As where the library lies in a zip file: nothing is known by a digest, and nothing fails."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    nowhere = str(tmp_path / "nothing.json")
    assert known_facts(files_of(tmp_path), release_table(nowhere)) is None
    assert all(known_part(files_of(tmp_path), part_table(nowhere), name) is None for name in PARTS)
