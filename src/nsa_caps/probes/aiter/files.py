"""The files of the installed aiter as Python would load them: read once, and never what Python would not take."""

from __future__ import annotations

import hashlib
import importlib.machinery
import math
import os
from typing import TYPE_CHECKING

from nsa_caps.capabilities.records import Note
from nsa_caps.probes.aiter.segments import segments
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.process_start import process_start
from nsa_caps.probes.regular_file import decoded

if TYPE_CHECKING:
    from nsa_caps.probes.aiter.segments import Segment
    from nsa_caps.probes.host import Host

__all__ = ["EXCERPTS", "PackageFiles"]

EXCERPTS = "nsa_caps_testing_excerpts.txt"
"""A file beside the package: it may be an excerpt of aiter, with modules left out that every release has."""

_PACKAGE = "aiter"
_INIT = "__init__.py"


class PackageFiles:
    """One package's files.

    Attributes:
        notes: what could not be read.
        shadowed: files that Python loads something else for: an extension module beside a source, a module that this
            process was told is not there, or that it loaded from another place.
    """

    def __init__(self, host: Host, package: str) -> None:
        self.notes: list[Note] = []
        self.shadowed: dict[str, str] = {}
        self._host = host
        self._package = package
        self._began: float | None = None
        self._listings: dict[str, frozenset[str]] = {}
        self._modules: dict[str, str | None] = {}
        self._digests: dict[str, str] = {}
        self._raw: dict[str, bytes | None] = {}
        self._texts: dict[str, str | None] = {}
        self._segments: dict[str, list[Segment]] = {}

    def listing(self, folder: str) -> frozenset[str]:
        """Return the names in a folder of the package."""
        if folder not in self._listings:
            path = f"{self._package}/{folder}" if folder else self._package
            try:
                self._listings[folder] = frozenset(self._host.list_folder(path))
            except UnreadableError as error:
                self.notes.append(Note("aiter_source", path, error.why))
                self._listings[folder] = frozenset()
        return self._listings[folder]

    def module(self, dotted: str) -> str | None:
        """Return the file of a module, below the package; empty: a folder without one; None: it is not there."""
        if dotted not in self._modules:
            self._modules[dotted] = self._find(dotted)
        return self._modules[dotted]

    def asked(self) -> frozenset[str]:
        """Return the modules that were asked for, those that are not there too."""
        return frozenset(self._modules)

    def opened(self) -> frozenset[str]:
        """Return those of them whose bytes were asked for."""
        return frozenset(name for name, path in self._modules.items() if path in self._raw)

    def is_package(self, dotted: str) -> bool:
        """Return whether a module may have others in it: a folder, with `__init__.py` or without."""
        path = self.module(dotted)
        return path is not None and (not path or _is_init(path))

    def _find(self, dotted: str) -> str | None:
        loaded = self._host.modules.get(dotted, self)
        if loaded is None:
            # What `sys.modules[name] = None` says: importing it raises.
            self.shadowed[dotted] = "sys.modules holds None for it"
            return None
        path = self._place(dotted)
        if path is not None and loaded is not self:
            problem = self._loaded_otherwise(dotted, path)
            if problem is not None:
                self.shadowed[dotted] = problem
                return None
        return path

    def _loaded_otherwise(self, dotted: str, path: str) -> str | None:
        """Return why a module that this process has imported is not what its file now is; None: it is."""
        whole = f"{self._package}/{path}"
        file = self._host.attribute(dotted, "__file__")
        if not isinstance(file, str) and (not path or dotted == _PACKAGE):
            # A bare folder has no file; where the package itself is, the host has found out.
            return None
        if not isinstance(file, str) or os.path.realpath(file) != os.path.realpath(whole):
            return f"this process imported it from {file if isinstance(file, str) else 'no file'}"
        if self._began is None:
            self._began = process_start(self._host) or math.inf
        changed = self._host.changed_at(whole)
        if changed is not None and changed > self._began:
            return "this process has imported it, and the file has changed since the process began"
        return None

    def _place(self, dotted: str) -> str | None:
        if dotted == _PACKAGE:
            return _INIT
        parent, _, name = dotted.rpartition(".")
        if not self.is_package(parent):
            return None
        folder = parent.removeprefix(_PACKAGE).replace(".", "/").removeprefix("/")
        path = f"{folder}/{name}" if folder else name
        names = self.listing(folder)
        inner = self.listing(path) if name in names else frozenset()
        # The order of Python's own finder: a package, an extension module, a source, bytecode alone, a bare folder.
        if _INIT in inner:
            return f"{path}/{_INIT}"
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            if f"{name}{suffix}" in names:
                self.shadowed[dotted] = f"{name}{suffix} is loaded, which is no source"
                return None
        if f"{name}.py" in names:
            return f"{path}.py"
        if f"{name}.pyc" in names:
            self.shadowed[dotted] = f"{name}.pyc is loaded, without a source"
            return None
        return "" if name in names and self._host.is_folder(f"{self._package}/{path}") else None

    def raw(self, name: str) -> bytes | None:
        """Return the bytes of a file as they are; None where there is none, or none that may be read."""
        if name not in self._raw:
            path = f"{self._package}/{name}"
            try:
                self._raw[name] = self._host.read_bytes(path)
            except UnreadableError as error:
                self.notes.append(Note("aiter_source", path, error.why))
                self._raw[name] = None
        return self._raw[name]

    def place(self, dotted: str) -> str:
        """Return what Python would load for a module, as one line: where it is, or what is in its way."""
        return f"{dotted}={self.module(dotted)}:{self.shadowed.get(dotted, '')}\n"

    def digest(self, dotted: str) -> str:
        """Return a digest of the bytes of a module, as one line; of one without any, an empty line."""
        if dotted not in self._digests:
            path = self.module(dotted)
            data = self.raw(path) if path else None
            self._digests[dotted] = "\n" if data is None else f"{hashlib.sha256(data).hexdigest()}\n"
        return self._digests[dotted]

    def text(self, name: str) -> str | None:
        """Return the text of a file; None where there is none, or none that Python would read."""
        if name not in self._texts:
            self._texts[name] = self._read(name)
        return self._texts[name]

    def _read(self, name: str) -> str | None:
        data = self.raw(name)
        if data is None:
            return None
        path = f"{self._package}/{name}"
        try:
            text = decoded(path, data)
        except UnreadableError as error:
            self.notes.append(Note("aiter_source", path, error.why))
            return None
        # As a crash leaves a file: Python does not read it.
        if "\0" in text:
            self.notes.append(Note("aiter_source", path, "has NUL bytes, which Python does not read"))
            return None
        if (not text or text.isspace()) and not _is_init(name):
            self.notes.append(Note("aiter_source", path, "is empty"))
            return None
        return text

    def segments(self, name: str) -> list[Segment]:
        """Return a file's statements; none where there is no text. Each is parsed once, whoever asks for it."""
        if name not in self._segments:
            self._segments[name] = segments(self.text(name) or "")
        return self._segments[name]

    def excerpt(self, dotted: str) -> bool:
        """Return whether the package says to be an excerpt, and the folder that lacks a module is one.

        `EXCERPTS` beside the package says so, which `nsa_caps.testing` writes. A folder of an excerpt holds no modules
        but those that decide.
        """
        if dotted in _NEVER_LEFT_OUT or not self._host.is_file(f"{os.path.dirname(self._package)}/{EXCERPTS}"):
            return False
        folder = dotted.removeprefix(_PACKAGE).lstrip(".").replace(".", "/").rpartition("/")[0]
        return self.listing(folder) <= _DECIDING_NAMES


def _is_init(name: str) -> bool:
    return name.rpartition("/")[2] == _INIT


# What every excerpt has.
_NEVER_LEFT_OUT = frozenset({
    "aiter.ops.attention", "aiter.ops.cache", "aiter.jit.utils.chip_info", "aiter.utility.dtypes",
})  # fmt: skip
# All that a folder of an excerpt holds: see `PackageFiles.excerpt`.
_DECIDING_NAMES = frozenset({
    _INIT, "_version.py", "__pycache__", "jit", "ops", "utility", "utils", "triton", "gluon", "attention",
    "_triton_kernels", "_triton", "configs", "flydsl", "core.py", "build_targets.py", "chip_info.py", "attention.py",
    "cache.py", "dtypes.py", "pa_mqa_logits.py", "pa_decode_gluon.py", "fp8_mqa_logits.py", "device_info.py",
    "arch_info.py", "triton_metadata_redirect.py", "triton_version.py", "utils.py",
})  # fmt: skip
