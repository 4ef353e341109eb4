"""The packages that a layout rests on: found, missing, broken or an impostor, and which version, without an import."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.capabilities.engines import ENGINE_TABLE
from nsa_caps.capabilities.records import Note, Package
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.import_system import EDITABLE
from nsa_caps.probes.python_source import SourceError, parse, string_literals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsa_caps.probes.host import Host

__all__ = ["aiter_folder", "deep_gemm_folder", "packages"]


class _Wanted(NamedTuple):
    """A package to look for.

    Attributes:
        name: the import name.
        version_files: files below the package whose `__version__` literal counts, in order.
        distributions: the distributions that bring it; several may be installed at once.
        hallmarks: files or folders that only the package meant has; without them it is an impostor.
        names_version: every release's version file has the literal, so that one without it is worth a note.
    """

    name: str
    version_files: tuple[str, ...]
    distributions: tuple[str, ...]
    hallmarks: tuple[str, ...] = ()
    names_version: bool = True


_WANTED: tuple[_Wanted, ...] = (
    _Wanted("torch", ("version.py",), ("torch",)),
    _Wanted(
        "triton",
        ("__init__.py",),
        ("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-rocm", "amd-triton", "triton-windows"),
    ),
    # AMD's distribution was `aiter` until v0.1.7.post5; the public index's `aiter` is an async-iterator library.
    _Wanted("aiter", ("_version.py",), ("amd-aiter", "aiter"), ("jit/core.py", "ops/triton")),
    # What the public index has under the name deep-gemm (1.0.0, 2025-02) is not DeepSeek's upload: DeepGEMM#232.
    _Wanted(
        "deep_gemm",
        ("version.py", "__init__.py"),
        ("sgl-deep-gemm", "deep-gemm"),
        ("include/deep_gemm",),
        names_version=False,
    ),
    _Wanted("flydsl", ("__init__.py",), ("flydsl",), ("utils/smem_allocator.py",)),
)
# An engine without a version literal has it in its metadata.
_ENGINES: tuple[_Wanted, ...] = tuple(
    _Wanted(engine.package, engine.version_files, engine.distributions, engine.hallmarks, names_version=False)
    for engine in ENGINE_TABLE.values()
    if engine.package is not None
)

# By the name that a metadata folder begins with.
_DISTRIBUTIONS = {name.replace("-", "_"): name for wanted in (*_WANTED, *_ENGINES) for name in wanted.distributions}
_BEGINNINGS = frozenset({EDITABLE[:2]}).union(
    first + second
    for name in _DISTRIBUTIONS
    for first in (name[0], name[0].upper())
    for second in (name[1], name[1].upper())
)


def packages(host: Host) -> Mapping[str, Any]:
    """Find torch, triton, aiter, deep_gemm, flydsl, the engines, and the Triton that torch asks for."""
    notes: list[Note] = []
    listing = _metadata_folders(host, notes)
    found: dict[str, Any] = {wanted.name: _find(host, wanted, listing, notes) for wanted in _WANTED}
    engines = (_find(host, wanted, listing, notes) for wanted in _ENGINES)
    found["engines"] = tuple(package for package in engines if package.state in ("found", "broken"))
    found["torch_triton"] = _torch_triton(host, listing, notes)
    found["notes"] = tuple(notes)
    return found


def aiter_folder(host: Host) -> str | None:
    """Return the folder of AMD's aiter; None where there is none, or another project of that name."""
    return _folder(host, "aiter")


def deep_gemm_folder(host: Host) -> str | None:
    """Return the folder of DeepSeek's DeepGEMM, or a build of it; None where there is none, or another project."""
    return _folder(host, "deep_gemm")


def _folder(host: Host, name: str) -> str | None:
    (wanted,) = (wanted for wanted in _WANTED if wanted.name == name)
    try:
        location = host.find_package(name)
    except UnreadableError:
        # `packages` leaves the note.
        return None
    return location if location is not None and _is_meant(host, wanted, location) else None


def _is_meant(host: Host, wanted: _Wanted, location: str) -> bool:
    return all(host.exists(f"{location}/{mark}") for mark in wanted.hallmarks)


def _find(host: Host, wanted: _Wanted, listing: Sequence[_Metadata], notes: list[Note]) -> Package:
    try:
        location = host.find_package(wanted.name)
    except UnreadableError as error:
        notes.append(Note("packages", wanted.name, error.why))
        return Package(wanted.name, "unknown")
    candidates = [metadata for metadata in listing if metadata.name in wanted.distributions]
    if location is None:
        notes.extend(
            Note("packages", metadata.path, f"metadata of {metadata.name} without the package {wanted.name}")
            for metadata in candidates
        )
        return Package(wanted.name, "missing")
    if not _is_meant(host, wanted, location):
        owner = candidates[0] if len(candidates) == 1 else None
        return Package(
            wanted.name, "impostor", owner.version if owner else None, owner.name if owner else None, location, location
        )
    version, source, broken = _own_version(host, wanted, location, notes)
    metadata = _owner(wanted, location, version, candidates, notes)
    if version is None and metadata is not None:
        version, source = metadata.version, metadata.path
    elif metadata is not None and metadata.version is not None and not _same_version(metadata.version, version):
        text = f"says {metadata.version}, the package itself {version}; the package counts"
        notes.append(Note("packages", metadata.path, text))
    return Package(
        wanted.name, "broken" if broken else "found", version, metadata.name if metadata else None, location, source
    )


def _own_version(host: Host, wanted: _Wanted, location: str, notes: list[Note]) -> tuple[str | None, str | None, bool]:
    """Return the version by the package's own word, where it stands, and whether the package is broken."""
    on_disk, path, broken = _version_on_disk(host, wanted, location, notes)
    problem = host.stands_in(wanted.name)
    if problem is not None:
        notes.append(Note("packages", wanted.name, problem))
        return None, None, True
    loaded = host.attribute(wanted.name, "__version__")
    if not isinstance(loaded, str):
        return on_disk, path, broken
    if on_disk is not None and on_disk != loaded:
        text = f"says {on_disk}, but {loaded} is what this process imported; that counts"
        notes.append(Note("packages", path or location, text))
    return loaded, f"{wanted.name}.__version__, as imported", False


def _version_on_disk(
    host: Host, wanted: _Wanted, location: str, notes: list[Note]
) -> tuple[str | None, str | None, bool]:
    if not host.is_folder(location):
        return None, None, False
    first = host.package_file(location)
    if first is None:
        notes.append(Note("packages", location, "a folder without __init__.py: an import gets an empty namespace"))
        return None, None, True
    problem = None if first in wanted.version_files else _import_problem(host, f"{location}/{first}")
    if problem is not None:
        notes.append(Note("packages", f"{location}/{first}", problem))
        return None, None, True
    return _version_in_files(host, wanted, location, first, notes)


def _version_in_files(
    host: Host, wanted: _Wanted, location: str, first: str, notes: list[Note]
) -> tuple[str | None, str | None, bool]:
    for name in wanted.version_files:
        path = f"{location}/{name}"
        if name == "__init__.py" and name != first:
            notes.append(Note("packages", f"{location}/{first}", "is compiled: what it says of itself is not read"))
            continue
        try:
            text = host.read_text(path)
            literals = string_literals(parse(text or "")).values
        except UnreadableError as error:
            notes.append(Note("packages", path, error.why))
            return None, path, True
        except SourceError as error:
            notes.append(Note("packages", path, str(error)))
            return None, path, True
        if name == "__init__.py" and text is not None and not text.strip():
            notes.append(Note("packages", path, "is empty: an import gets nothing of the package"))
            return None, path, True
        # An empty text is the package's own word too: aiter's comparison fails on it.
        version = literals.get("__version__", literals.get("version"))
        if version is not None:
            return version, path, False
        if text is not None and wanted.names_version:
            notes.append(Note("packages", path, "names no __version__"))
    return None, None, False


def _import_problem(host: Host, path: str) -> str | None:
    """Return why a package's first file cannot be imported, where it is a source; None: nothing is known against it.

    A source that this Python compiled as it is now needs no second look: parsing torch's takes 25 ms.
    """
    if not path.endswith(".py") or host.is_compiled(path):
        return None
    try:
        parse(host.read_text(path) or "")
    except (UnreadableError, SourceError) as error:
        return error.why if isinstance(error, UnreadableError) else str(error)
    return None


# As torch's metadata have it: `Requires-Dist: triton==3.8.0; platform_system == "Linux"`.
_REQUIRES = re.compile(r"^Requires-Dist: *([\w.-]+) *\(?([^;)\n]*)", re.MULTILINE)


def _torch_triton(host: Host, listing: Sequence[_Metadata], notes: list[Note]) -> str | None:
    """Return the Triton that the one torch installed asks for, such as `triton==3.8.0`."""
    (tritons,) = (wanted.distributions for wanted in _WANTED if wanted.name == "triton")
    own = [metadata.path for metadata in listing if metadata.name == "torch" and metadata.path.endswith(".dist-info")]
    try:
        text = (host.read_text(f"{own[0]}/METADATA") if len(own) == 1 else None) or ""
    except UnreadableError as error:
        notes.append(Note("packages", error.path, error.why))
        return None
    asked = [match[1] + match[2].strip() for match in _REQUIRES.finditer(text) if match[1].lower() in tritons]
    return asked[0] if asked else None


class _Metadata(NamedTuple):
    """An installed distribution, as its metadata folder's name tells; a development install's tells no version."""

    name: str
    version: str | None
    path: str


def _metadata_folders(host: Host, notes: list[Note]) -> list[_Metadata]:
    """Return the distributions by the names of their folders: one listing a path entry, and no file opened.

    Names are such as `triton-3.5.1+rocm7.2.4.gita272dfa8.dist-info` or `aiter-0.1.5-py3.12.egg-info`.
    """
    found: list[_Metadata] = []
    for entry in dict.fromkeys(host.search_path):
        try:
            folders = host.list_folder(entry, _BEGINNINGS)
        except UnreadableError as error:
            notes.append(Note("packages", error.path, error.why))
            continue
        for folder in folders:
            # Such as __editable___amd_aiter_0_1_13_finder.py.
            told = folder.removeprefix(EDITABLE).lower()
            unloaded = told != folder and folder.removesuffix(".py") not in host.modules
            if unloaded and any(told.startswith(f"{name}_") for name in _DISTRIBUTIONS):
                text = "the finder of an editable install, which this process has not loaded: what it maps is not found"
                notes.append(Note("packages", os.path.join(entry, folder), text))
            # Older installers kept dashes and dots in the name; before the version there is always a dash and a digit.
            stem, _, kind = folder.rpartition(".")
            if kind not in ("dist-info", "egg-info"):
                continue
            name, _, version = stem.partition("-")
            while version and not version[0].isdigit():
                more, _, version = version.partition("-")
                name = f"{name}_{more}"
            distribution = _DISTRIBUTIONS.get(name.replace(".", "_").lower())
            if distribution is not None:
                found.append(_Metadata(distribution, version.partition("-py")[0] or None, os.path.join(entry, folder)))
    return found


def _owner(
    wanted: _Wanted, location: str, version: str | None, candidates: Sequence[_Metadata], notes: list[Note]
) -> _Metadata | None:
    """Return the distribution that the package at `location` belongs to, as far as its metadata tell."""
    beside = [metadata for metadata in candidates if os.path.dirname(metadata.path) == os.path.dirname(location)]
    candidates = beside or candidates
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    names = ", ".join(f"{metadata.name} {metadata.version or 'of unknown version'}" for metadata in candidates)
    notes.append(Note("packages", location, f"several distributions bring {wanted.name}: {names}"))
    # Whoever installed last owns the files: its own version is the one that the files name.
    same = [metadata for metadata in candidates if _same_version(metadata.version, version)]
    return same[0] if len(same) == 1 else None


def _same_version(metadata: str | None, own: str | None) -> bool:
    if metadata is None or own is None:
        return False
    # Folder names escape `-` as `_`, builds differ in case, and torch's CUDA wheels leave the local part out of one.
    told, known = metadata.replace("_", "-").lower(), own.replace("_", "-").lower()
    return told in (known, known.partition("+")[0]) or known == told.partition("+")[0]
