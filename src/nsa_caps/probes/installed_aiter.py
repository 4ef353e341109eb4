"""What the installed aiter's source shows: of a release, what is kept of it; of any other, what a reading comes to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.aiter.files import PackageFiles
from nsa_caps.probes.aiter.releases import known_facts, known_part, part_table, release_table
from nsa_caps.probes.packages import aiter_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["aiter_source"]


def aiter_source(host: Host) -> Mapping[str, Any]:
    """Find what the installed aiter's source shows; nothing where there is no aiter, or not AMD's."""
    package = aiter_folder(host)
    if package is None:
        return {}
    files = PackageFiles(host, package)
    known = known_facts(files, release_table())
    if known is not None:
        return {"aiter_source": replace(known, location=package), "notes": ()}
    from nsa_caps.probes.aiter.reader import read_in_full  # noqa: PLC0415 needed for no release, and 20 ms

    return read_in_full(files, package, lambda part: known_part(files, part_table(), part))
