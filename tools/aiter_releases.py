"""Writes what is known of aiter's releases by digest: `python tools/aiter_releases.py CHECKOUT --python python3.13 …`.

Each tag of a release, and each commit with which the gates changed, is read in full. Where all of it is understood, its
facts are kept in `src/nsa_caps/probes/aiter/releases.json` with a digest of all that the reading asked for. Of these,
and of each commit of the checkout's branch that touches what a part of the reading opens, the facts of the part are
kept in `parts.json`, with a digest of what it asked for; the import chain is no reason to look at a commit, for nearly
all of them touch that. The tables are used by the interpreter that wrote them and those that `--python` names: they
read too, and must come to the same facts. Run it for each release of this library, and whenever the reader's code
changes: what it asks for may have changed with it.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsa_caps import Host
from nsa_caps.base.serial import to_plain
from nsa_caps.capabilities.aiter_history import GENERATIONS
from nsa_caps.probes import python_source
from nsa_caps.probes.aiter.files import PackageFiles
from nsa_caps.probes.aiter.logits import LOGITS
from nsa_caps.probes.aiter.reader import PARTS, read_in_full
from nsa_caps.probes.aiter.releases import PARTS as PART_TABLE
from nsa_caps.probes.aiter.releases import TABLE, state_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

_RELEASE = re.compile(r"v0\.1\.\d[\w.-]*")


def main() -> None:
    """Read every release, and write the table, or print what this interpreter reads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--python", action="append", default=[], help="another interpreter to read with")
    parser.add_argument("--print", action="store_true", help="only print the table of this interpreter")
    options = parser.parse_args()
    table, parts = read(options.checkout)
    if options.print:
        json.dump([table, parts], sys.stdout)
        return
    for python in options.python:
        told = subprocess.check_output([python, __file__, str(options.checkout), "--print"], text=True)
        other, other_parts = json.loads(told)
        table, parts = shared(table, other), shared_parts(parts, other_parts)
    Path(TABLE).write_text(written(table), encoding="utf-8")
    Path(PART_TABLE).write_text(written(parts), encoding="utf-8")


def read(checkout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tables of this interpreter: each release by its digest, with its facts; the same of each part."""
    names = [*sorted(filter(_RELEASE.fullmatch, _git(checkout, "tag").decode().split())), *GENERATIONS]
    with tempfile.TemporaryDirectory() as folder:
        facts: dict[str, str] = {}
        modules: set[str] = set()
        opened: set[str] = set()
        for name, files in _laid_out(checkout, names, Path(folder)):
            found = read_in_full(files, str(Path(folder, name, "aiter")))
            source = to_plain(found["aiter_source"])
            source["location"] = ""
            if source["unaccounted"] == [] and source["logits_module"] is not None and found["notes"] == ():
                facts[name] = json.dumps({field: value for field, value in source.items() if value is not None})
                modules |= files.asked()
                opened |= files.opened()
        asked = {"modules": sorted(modules), "opened": sorted(opened)}
        digests = {name: state_digest(_files(Path(folder, name)), asked) for name in facts}
        sites = [Path(folder, name) for name in facts]
        deciding = {module for part in PARTS if part != "imports" for module in read_part(part, sites)["opened"]}
        for name, files in _laid_out(checkout, _commits(checkout, deciding), Path(folder)):
            if any(map(files.module, LOGITS)):
                sites.append(Path(folder, name))
        parts = {part: read_part(part, sites) for part in PARTS}
    distinct = list(dict.fromkeys(facts.values()))
    known: dict[str, tuple[int, str]] = {}
    for name, each in facts.items():
        # Of several that differ in nothing that decides, the first.
        known.setdefault(digests[name], (distinct.index(each), name))
    table = {
        "pythons": [list(sys.version_info[:2])],
        **asked,
        "releases": known,
        "facts": [json.loads(each) for each in distinct],
    }
    return table, {"reader": [reader_digest()], "pythons": table["pythons"], "parts": parts}


def reader_digest() -> str:
    """Return a digest of the reader's code, comments aside, as this Python parses it."""
    whole = hashlib.sha256()
    for path in (*sorted(Path(TABLE).parent.glob("*.py")), Path(python_source.__file__)):
        whole.update(ast.dump(ast.parse(path.read_bytes())).encode())
    return whole.hexdigest()


def read_part(part: str, sites: list[Path]) -> dict[str, Any]:
    """Return what a part of the reading asks for, and its facts by the digest of that."""
    modules: set[str] = set()
    opened: set[str] = set()
    facts: dict[Path, dict[str, Any]] = {}
    for site in sites:
        files = _files(site)
        found, lines = PARTS[part](files)
        # What a whole reading has no use for, as the calls of an aiter without tiles.
        if not lines and not files.notes:
            facts[site] = to_plain(found)
            modules |= files.asked()
            opened |= files.opened()
    asked = {"modules": sorted(modules), "opened": sorted(opened)}
    return {**asked, "known": {state_digest(_files(site), asked): found for site, found in facts.items()}}


def shared(table: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return what two interpreters' tables agree in.

    Raises:
        SystemExit: they ask for other modules, or come to other facts of one release.
    """
    if any(table[key] != other[key] for key in ("modules", "opened")):
        raise SystemExit(f"Python {other['pythons'][0]} asks for other modules: read more releases with both")
    both = {digest: at for digest, at in table["releases"].items() if digest in other["releases"]}
    for digest, (at, _) in both.items():
        if table["facts"][at] != other["facts"][other["releases"][digest][0]]:
            raise SystemExit(f"Python {other['pythons'][0]} comes to other facts of {digest}")
    return {**table, "pythons": [*table["pythons"], *other["pythons"]], "releases": both}


def shared_parts(table: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return what two interpreters' tables of parts agree in.

    Raises:
        SystemExit: they ask for other modules, or come to other facts of one part.
    """
    parts = {}
    for part, entry in table["parts"].items():
        theirs = other["parts"][part]
        known = {digest: facts for digest, facts in entry["known"].items() if digest in theirs["known"]}
        same = all(entry[key] == theirs[key] for key in ("modules", "opened"))
        if not same or any(theirs["known"][each] != known[each] for each in known):
            raise SystemExit(f"Python {other['pythons'][0]} reads the part {part} otherwise")
        parts[part] = {**entry, "known": known}
    return {**table, "pythons": [*table["pythons"], *other["pythons"]], "parts": parts}


def written(table: dict[str, Any]) -> str:
    """Return the table as text, a line for each thing."""
    parts = []
    for key, value in table.items():
        if isinstance(value, dict):
            lines = [f"{json.dumps(name)}: {json.dumps(each)}" for name, each in value.items()]
            parts.append(f'"{key}": {{\n' + ",\n".join(lines) + "\n}")
        else:
            parts.append(f'"{key}": [\n' + ",\n".join(map(json.dumps, value)) + "\n]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _commits(checkout: Path, modules: set[str]) -> list[str]:
    """Return the commits of the branch that touch one of some modules."""
    places = [module.replace(".", "/") for module in sorted(modules)]
    files = [file for place in places for file in (f"{place}.py", f"{place}/__init__.py")]
    return _git(checkout, "log", "--format=%h", "HEAD", "--", *files).decode().split()


def _laid_out(checkout: Path, names: list[str], folder: Path) -> Iterator[tuple[str, PackageFiles]]:
    for name in names:
        archive = _git(checkout, "archive", name, "--", ":(glob)aiter/**/*.py")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder / name, filter="data")
        yield name, _files(folder / name)


def _files(site: Path) -> PackageFiles:
    return PackageFiles(Host({}, (str(site),), {}, str(site / "root")), str(site / "aiter"))


def _git(checkout: Path, *arguments: str) -> bytes:
    return subprocess.check_output(["/usr/bin/env", "git", "-C", str(checkout), *arguments])


if __name__ == "__main__":
    main()
