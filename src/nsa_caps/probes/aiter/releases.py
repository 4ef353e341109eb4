"""Sources that are known whole: where all that a reading asks for is as a release has it, so are the facts.

`releases.json` is written by `tools/aiter_releases.py` from a checkout of aiter; `pytest --aiter-checkout DIR` holds it
against the full reading of every release.
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
    from collections.abc import Iterable, Mapping

    from nsa_caps.probes.aiter.files import PackageFiles

__all__ = ["TABLE", "known_facts", "release_table", "state_digest"]

TABLE = os.path.join(os.path.dirname(__file__), "releases.json")


@cache
def release_table() -> Mapping[str, Any]:
    """Return the table: modules asked for, by digest the facts' index and a name, facts, Pythons that came to them."""
    try:
        with open(TABLE, encoding="utf-8") as stream:
            found: dict[str, Any] = json.load(stream)
    except OSError:
        # As in a zip file: every source is then read in full.
        return {"pythons": [], "modules": [], "releases": {}, "facts": []}
    return found


def known_facts(files: PackageFiles, table: Mapping[str, Any]) -> AiterSource | None:
    """Return what a source shows that is a release's in all that a reading of it asks for; None: it is no release's.

    The facts are those of this interpreter: with another one a full reading may come to others.
    """
    if list(sys.version_info[:2]) not in table["pythons"]:
        return None
    at, name = table["releases"].get(state_digest(files, table["modules"]), (None, None))
    if at is None or files.notes:
        return None
    facts: dict[str, Any] = {"as_in": name}
    for fact, value in table["facts"][at].items():
        facts[fact] = tuple(value) if isinstance(value, list) else value
    return AiterSource(**facts)


def state_digest(files: PackageFiles, modules: Iterable[str]) -> str:
    """Return a digest of what Python would load for each of some modules: if it is there, where, and its bytes."""
    state = hashlib.sha256()
    for name in modules:
        path = files.module(name)
        data = files.raw(path) if path else None
        state.update(f"{name}={path}:{-1 if data is None else len(data)}\n".encode("utf-8", "surrogatepass"))
        state.update(data or b"")
    return state.hexdigest()[:16]
