"""The folder of kept verdicts, as it is written: atomically, for the owner alone, one prover at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nsa_caps.base.serial import to_plain
from nsa_caps.errors import NsaCapsError
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.kept import kept_folder
from nsa_caps.probes.kept_files import FILE_VERSION, KeptFile, PackageFiles, digest_of, read_kept, stamps_of
from nsa_caps.probes.own_file import own_folder, write_own

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nsa_caps.capabilities.kept import KeptVerdict
    from nsa_caps.capabilities.records import Note
    from nsa_caps.probes.host import Host

__all__ = ["NotKeptError", "file_name", "forget", "keep", "one_at_a_time", "package_files"]


# Seconds between two looks at a lock.
_LOOK = 0.1


class NotKeptError(NsaCapsError, OSError):
    """A verdict could not be written; the message says where to, and why."""


def package_files(host: Host, loaded: Mapping[str, Iterable[str]]) -> tuple[PackageFiles, ...]:
    """Return the files that a verdict is bound to.

    Args:
        host: this machine.
        loaded: the files of each package whose code ran, below its folder.

    Raises:
        NotKeptError: one of them is no longer there.
    """
    found = []
    for name, paths in loaded.items():
        place = host.find_package(name)
        folder = os.path.dirname(place) if place is not None and host.is_file(place) else place
        listed = tuple(paths) if folder is not None else ()
        digest = digest_of(folder or "", listed)
        if digest is None:
            raise NotKeptError(f"the files of {name} changed while its kernels were proven")
        found.append(PackageFiles(name=name, files=stamps_of(host, folder or "", listed), digest=digest))
    return tuple(found)


def keep(host: Host, verdict: KeptVerdict, packages: tuple[PackageFiles, ...], check: Mapping[str, Any]) -> KeptVerdict:
    """Write a verdict, and return it with its file as the source.

    Raises:
        NotKeptError: there is no place for it, or it could not be written.
    """
    document = to_plain(
        KeptFile(schema_version=FILE_VERSION, verdict=replace(verdict, source=None), packages=packages, check=check)
    )
    folder = _own_folder(host)
    bound = (verdict.format, verdict.heads, verdict.device, verdict.driver, verdict.variables, verdict.packages)
    name = file_name(verdict.row, *bound)
    path = os.path.join(folder, f"{name}.json")
    try:
        write_own(path, document)
    except OSError as error:
        raise NotKeptError(f"{path}: {error.strerror or error}") from error
    return replace(verdict, source=path)


def forget(host: Host, rows: Iterable[str] = ()) -> list[str]:
    """Remove kept verdicts and return their files.

    Args:
        host: this machine.
        rows: names of rows; none: every verdict, also those that cannot be read.

    Raises:
        NotKeptError: a file could not be removed.
    """
    folder, names = kept_folder(host.environ), frozenset(rows)
    if folder is None:
        return []
    notes: list[Note] = []
    if names:
        paths = [path for path, file in read_kept(host, folder, notes) if file.verdict.row in names]
    else:
        paths = [os.path.join(folder, name) for name in host.list_folder(folder) if name.endswith(".json")]
    try:
        for path in paths:
            os.unlink(path)
    except OSError as error:
        raise NotKeptError(f"{error.filename}: {error.strerror}") from error
    return paths


@contextlib.contextmanager
def one_at_a_time(host: Host, what: str, limit: float) -> Iterator[None]:
    """Wait until no other process of this user proves the same, which then finds what was kept.

    Where there is no folder to keep anything in, no lock to be had, or no end to the wait, each proves for itself.

    Args:
        host: this machine.
        what: what is to be proven: a file name.
        limit: seconds to wait.
    """
    try:
        import fcntl  # noqa: PLC0415 there is none on Windows

        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(os.path.join(_own_folder(host), f"{what}.lock"), flags, 0o600)
    except (ImportError, OSError):
        yield
        return
    try:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    break
                time.sleep(_LOOK)
        yield
    finally:
        os.close(descriptor)


def _own_folder(host: Host) -> str:
    """Return the folder, made if it is not there, and kept from others.

    Raises:
        NotKeptError: there is no place for it, or others may write it.
    """
    folder = kept_folder(host.environ)
    if folder is None:
        raise NotKeptError("neither NSA_CAPS_PROOFS, XDG_CACHE_HOME nor HOME says where verdicts are kept")
    try:
        return own_folder(host, folder)
    except UnreadableError as error:
        raise NotKeptError(f"{error.path}: {error.why}") from error
    except OSError as error:
        raise NotKeptError(f"{folder}: {error.strerror}") from error


def file_name(row: str, *bound: object) -> str:
    """Return a file name for what a verdict is bound to: of two that are bound alike the later takes the place."""
    from hashlib import sha256  # noqa: PLC0415 start-ups keep nothing

    safe = "".join(char if char.isalnum() or char in "-_" else "_" for char in row)
    return f"{safe}-{sha256(repr(bound).encode()).hexdigest()[:16]}"
