"""Files that this library keeps: written atomically, for the owner alone, in a folder that nobody else may write."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsa_caps.probes.host import Host

__all__ = ["own_folder", "write_own"]


def own_folder(host: Host, folder: str) -> str:
    """Return a folder, made if it is not there.

    Raises:
        UnreadableError: others may write it.
        OSError: it could not be made.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    host.kept_from_others(folder)
    return folder


def write_own(path: str, document: Any) -> None:
    """Write a JSON document, whole or not at all.

    Raises:
        OSError: it could not be written.
    """
    part = f"{path}.{os.getpid()}.part"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(document, stream, indent=1, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
