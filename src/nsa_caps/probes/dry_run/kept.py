"""What dry runs came to, kept by a digest of all that they read: one file for each aiter and each Python."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from nsa_caps.base.serial import SnapshotError, from_plain, to_plain
from nsa_caps.capabilities.aiter_source import AiterSource  # noqa: TC001 base/serial.py resolves the annotations
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.kept import kept_folder
from nsa_caps.probes.kept_files import own_document
from nsa_caps.probes.own_file import own_folder, write_own

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["Ran", "digest_of_task", "keep", "kept_run"]

FILE_VERSION = 1
_FOLDER = "dry-runs"
_HERE = os.path.dirname(os.path.abspath(__file__))
# Whose code answers: what is asked and how facts fit what ran is the reader's. Another answer is another digest.
_ANSWERS = (_HERE, os.path.join(os.path.dirname(_HERE), "aiter"))


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a dry run came to.

    Attributes:
        schema_version: `FILE_VERSION`.
        digest: of all that it read.
        shows: the facts that what ran shows; None: not known, or nothing that a dry run can see.
        refutes: calls of which something else became than these facts foretell.
        unsaid: what could not be said, in words.
    """

    schema_version: int
    digest: str
    shows: AiterSource
    refutes: tuple[str, ...]
    unsaid: tuple[str, ...]


def digest_of_task(task: Mapping[str, Any], python: str) -> str:
    """Return a digest of what is asked, of the sources, and of what answers."""
    whole = sha256(f"{FILE_VERSION}\0{python}\0{json.dumps(task, sort_keys=True)}".encode("utf-8", "surrogatepass"))
    for folder in _ANSWERS:
        for name in sorted(os.listdir(folder)):
            if name.endswith(".py"):
                with open(os.path.join(folder, name), "rb") as stream:
                    whole.update(stream.read())
    return whole.hexdigest()


def _place(host: Host, package: str, python: str) -> tuple[str, str] | None:
    folder = kept_folder(host.environ)
    if folder is None:
        return None
    name = sha256(f"{package}\0{python}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return os.path.join(folder, _FOLDER), f"aiter-{name}.json"


def kept_run(host: Host, package: str, python: str, digest: str) -> tuple[Ran | None, str | None]:
    """Return what is kept of a digest, and why a file is not taken: one that others may have written is not."""
    place = _place(host, package, python)
    path = os.path.join(*place) if place else None
    if path is None or not os.path.lexists(path):
        return None, None
    try:
        found = from_plain(Ran, own_document(host, path), "dry run", version=FILE_VERSION)
    except (UnreadableError, SnapshotError) as error:
        return None, f"{path}: is not taken: {error}"
    return (found if found.digest == digest else None), None


def keep(host: Host, package: str, python: str, ran: Ran) -> str | None:
    """Write what a dry run came to; return why it could not be written."""
    place = _place(host, package, python)
    if place is None:
        return "neither NSA_CAPS_PROOFS, XDG_CACHE_HOME nor HOME says where it is kept"
    folder, name = place
    try:
        write_own(os.path.join(own_folder(host, folder), name), to_plain(ran))
    except UnreadableError as error:
        return f"{error.path}: {error.why}"
    except OSError as error:
        return f"{folder}: {error.strerror or error}"
    return None
