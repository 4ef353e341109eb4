"""Verdicts of rows that were run here before: read strictly, and held against the files whose code ran then."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping  # noqa: TC003 base/serial.py resolves the annotations at run time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nsa_caps.base.serial import SnapshotError, from_plain
from nsa_caps.capabilities.kept import KeptVerdict  # noqa: TC001 as above
from nsa_caps.capabilities.records import Note
from nsa_caps.probes.host import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsa_caps.probes.host import Host

__all__ = ["FILE_VERSION", "KeptFile", "PackageFiles", "bound_variables", "digest_of", "files_changed", "kept_in",
    "own_document", "read_kept", "stamps_of"]  # fmt: skip

FILE_VERSION = 1
# Of this many start-ups read every one; a machine of one kind has fewer than ten.
_MOST_FILES = 256
# Read by the packages whose kernels run, their compilers and their drivers.
_PREFIXES = ("AITER_", "AMDGCN_", "DG_", "DISABLE_LLVM", "FLYDSL_", "GPU_ARCHS", "HIP_", "HSA_", "LLVM_", "TRITON_")
# Among them: where things lie, which GPUs are seen (the device tells) and what is logged change no kernel.
_HARMLESS = ("_CACHE_DIR", "_CACHE_PATH", "_DUMP_DIR", "_HOME", "_LOG_LEVEL", "_PATH", "_VISIBLE_DEVICES")
_ASSEMBLERS = ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH")
# Beyond this a file counts by its size: libraries of hundreds of megabytes, which their package's version names.
_LARGEST_DIGESTED = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class PackageFiles:
    """The files of one package whose code ran.

    Attributes:
        name: the import name.
        files: path below the package's folder, size and time of change of each.
        digest: SHA-256 over the paths and contents.
    """

    name: str
    files: tuple[str, ...]
    digest: str


@dataclass(frozen=True, kw_only=True)
class KeptFile:
    """What one file of the folder holds.

    Attributes:
        schema_version: `FILE_VERSION`.
        verdict: the verdict; its `source` is not written.
        packages: the files that it is bound to.
        check: the whole check, by `SelfCheck.to_dict`.
    """

    schema_version: int
    verdict: KeptVerdict
    packages: tuple[PackageFiles, ...]
    check: Mapping[str, Any]


def kept_in(host: Host, folder: str) -> Mapping[str, Any]:
    """Find the verdicts of a folder that hold for the files here; of versions, device and driver the policy sees to."""
    notes: list[Note] = []
    found = tuple(
        replace(file.verdict, source=path)
        for path, file in read_kept(host, folder, notes)
        if files_changed(host, file) is None
    )
    return {"kept": found, "notes": tuple(notes)} if found or notes else {}


def read_kept(host: Host, folder: str | None, notes: list[Note]) -> Iterator[tuple[str, KeptFile]]:
    """Yield every verdict of a folder with the path of its file, oldest name first; what is not taken leaves a note."""
    if folder is None or not host.is_folder(folder):
        return
    try:
        names = [name for name in host.list_folder(folder) if name.endswith(".json")]
        if names:
            host.kept_from_others(folder)
    except UnreadableError as error:
        notes.append(Note("kept", error.path, error.why))
        return
    if len(names) > _MOST_FILES:
        text = f"holds {len(names)} verdicts, of which {_MOST_FILES} are read: nsa-caps prove --forget"
        notes.append(Note("kept", folder, text))
    for name in names[:_MOST_FILES]:
        path = os.path.join(folder, name)
        try:
            yield path, _read(host, path)
        except (UnreadableError, SnapshotError) as error:
            notes.append(Note("kept", path, f"is not taken: {error}"))


def _read(host: Host, path: str) -> KeptFile:
    return from_plain(KeptFile, own_document(host, path), "verdict", version=FILE_VERSION)


def own_document(host: Host, path: str) -> Any:
    """Return the JSON document of a file that nobody but its owner and root may have written.

    Raises:
        UnreadableError: others may have, or it cannot be read.
        SnapshotError: it is no JSON.
    """
    if os.path.islink(path):
        raise UnreadableError(path, "a link, and a kept verdict is a file")
    host.kept_from_others(path)
    try:
        return json.loads(host.read_text(path) or "")
    except (ValueError, RecursionError) as error:
        raise SnapshotError(f"no JSON: {error}") from error


def bound_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables that a verdict is bound to, each as `NAME=text`."""
    return tuple(
        f"{name}={text}"
        for name, text in sorted(environ.items())
        if name in _ASSEMBLERS or (name.startswith(_PREFIXES) and not name.endswith(_HARMLESS))
    )


def files_changed(host: Host, file: KeptFile) -> str | None:
    """Return what is otherwise here than when a verdict was made, of variables and files; None: nothing."""
    if bound_variables(host.environ) != file.verdict.variables:
        changed = {*bound_variables(host.environ)} ^ {*file.verdict.variables}
        return f"made under another {min(changed).partition('=')[0]}"
    for package in file.packages:
        if not _same_files(host, package):
            return f"the files of {package.name} changed"
    return None


def _same_files(host: Host, package: PackageFiles) -> bool:
    try:
        folder = _folder_of(host, package.name)
    except UnreadableError:
        return False
    if folder is None:
        return not package.files
    paths = [entry.rsplit(" ", 2)[0] for entry in package.files]
    if stamps_of(host, folder, paths) == package.files:
        return True
    # Copied, or unpacked from an image: the times changed, and the contents count.
    return digest_of(folder, paths) == package.digest


def _folder_of(host: Host, name: str) -> str | None:
    found = host.find_package(name)
    return os.path.dirname(found) if found is not None and host.is_file(found) else found


def stamps_of(host: Host, folder: str, paths: Iterable[str]) -> tuple[str, ...]:
    """Return path, size and time of change of each file below a folder."""
    return tuple(f"{path} {host.stamp(os.path.join(folder, path))}" for path in paths)


def digest_of(folder: str, paths: Iterable[str]) -> str | None:
    """Return SHA-256 over paths and contents; None where a file cannot be read."""
    from hashlib import sha256  # noqa: PLC0415 few start-ups come here

    whole = sha256()
    for path in paths:
        try:
            with open(os.path.join(folder, path), "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                content = stream.read() if size <= _LARGEST_DIGESTED else str(size).encode()
        except OSError:
            return None
        whole.update(f"{path}\0{size}\0".encode() + sha256(content).digest())
    return whole.hexdigest()
