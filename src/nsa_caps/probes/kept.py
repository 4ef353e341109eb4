"""Verdicts of rows that were run here before, where there are any."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["kept", "kept_folder"]

_VARIABLE = "NSA_CAPS_PROOFS"


def kept_folder(environ: Mapping[str, str]) -> str | None:
    """Return the folder of kept verdicts: `NSA_CAPS_PROOFS`, else that of `platformdirs`; None: there is no place.

    It may not be there.
    """
    given = environ.get(_VARIABLE, "").strip()
    if given:
        return given
    cache, home = environ.get("XDG_CACHE_HOME", "").strip(), environ.get("HOME", "").strip()
    base = cache or (os.path.join(home, ".cache") if home else "")
    return os.path.join(base, "nsa_caps", "proofs") if base else None


def kept(host: Host) -> Mapping[str, Any]:
    """Find the kept verdicts that hold here."""
    folder = kept_folder(host.environ)
    if folder is None or not host.is_folder(folder):
        return {}
    from nsa_caps.probes.kept_files import kept_in  # noqa: PLC0415 most machines have none

    return kept_in(host, folder)
