"""Sources that are known, whole or in part: where all that a reading asks for is as a release has it, so are the facts.

A reading has parts, of which each asks for some modules. A source of which one file is another than every release's is
read where a part asks for that file; of the other parts the facts are known. `releases.json` and `parts.json` are
written by `tools/aiter_releases.py` from a checkout of aiter; `pytest --aiter-checkout DIR` holds them against the full
reading of every release, and of sources with a change.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.records import AiterSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.aiter.files import PackageFiles

__all__ = ["PARTS", "TABLE", "known_facts", "known_part", "part_table", "release_table", "state_digest"]

TABLE, PARTS = (os.path.join(os.path.dirname(__file__), name) for name in ("releases.json", "parts.json"))


@cache
def release_table(path: str = TABLE) -> Mapping[str, Any]:
    """Return the table; an empty one where there is no file of it.

    It has the modules asked for, those of them that were opened, by digest the facts' index and a name, the facts, and
    the Pythons that came to them.
    """
    return _kept(path) or {"pythons": [], "modules": [], "opened": [], "releases": {}, "facts": []}


@cache
def part_table(path: str = PARTS) -> Mapping[str, Any]:
    """Return the table of parts, each with its modules and, by digest, its facts; Pythons are as in the other."""
    return _kept(path) or {"pythons": [], "parts": {}}


def _kept(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as stream:
            found: dict[str, Any] = json.load(stream)
    except OSError:
        # As in a zip file: every source is then read in full.
        return None
    return found


def known_facts(files: PackageFiles, table: Mapping[str, Any]) -> AiterSource | None:
    """Return what a source shows that is a release's in all that a reading of it asks for; None: it is no release's.

    The facts are those of this interpreter: with another one a full reading may come to others.
    """
    if not _is_of_this_python(table):
        return None
    at, name = table["releases"].get(state_digest(files, table), (None, None))
    if at is None or files.notes:
        return None
    return AiterSource(as_in=name, **_facts(table["facts"][at]))


def known_part(files: PackageFiles, table: Mapping[str, Any], part: str) -> dict[str, Any] | None:
    """Return the facts of a part of which all that it asks for is as a release has it; None: it must be read."""
    if part not in table["parts"] or not _is_of_this_python(table):
        return None
    entry = table["parts"][part]
    found = entry["known"].get(state_digest(files, entry))
    return None if found is None or files.notes else _facts(found)


def _is_of_this_python(table: Mapping[str, Any]) -> bool:
    return list(sys.version_info[:2]) in table["pythons"]


def _facts(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {fact: tuple(value) if isinstance(value, list) else value for fact, value in plain.items()}


def state_digest(files: PackageFiles, entry: Mapping[str, Any]) -> str:
    """Return a digest of where Python would load `modules` of an entry from, and of the bytes of those in `opened`."""
    state = "".join((*map(files.place, entry["modules"]), *map(files.digest, entry["opened"])))
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()[:16]
