"""The files of the installed aiter as Python would load them: read once, and never what Python would not take."""

from __future__ import annotations

import importlib.machinery
from typing import TYPE_CHECKING

from nsa_caps.capabilities.records import Note
from nsa_caps.probes.host import UnreadableError

if TYPE_CHECKING:
    from nsa_caps.probes.host import Host

__all__ = ["PackageFiles"]

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
        self._listings: dict[str, frozenset[str]] = {}
        self._modules: dict[str, str | None] = {}
        self._texts: dict[str, str | None] = {}

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

    def _find(self, dotted: str) -> str | None:
        loaded = self._host.modules.get(dotted, self)
        if loaded is None:
            # What `sys.modules[name] = None` says: importing it raises.
            self.shadowed[dotted] = "sys.modules holds None for it"
            return None
        if dotted == _PACKAGE:
            return _INIT
        path = dotted.removeprefix(f"{_PACKAGE}.").replace(".", "/")
        folder, _, name = path.rpartition("/")
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

    def text(self, name: str) -> str | None:
        """Return the text of a file; None where there is none, or none that Python would read."""
        if name not in self._texts:
            self._texts[name] = self._read(name)
        return self._texts[name]

    def data(self, name: str) -> bytes | None:
        """Return the bytes of a file."""
        text = self.text(name)
        return None if text is None else text.encode("utf-8", "surrogatepass")

    def _read(self, name: str) -> str | None:
        path = f"{self._package}/{name}"
        try:
            text = self._host.read_text(path)
        except UnreadableError as error:
            self.notes.append(Note("aiter_source", path, error.why))
            return None
        # As a crash leaves a file: Python does not read it.
        if text is not None and "\0" in text:
            self.notes.append(Note("aiter_source", path, "has NUL bytes, which Python does not read"))
            return None
        if text is not None and not text.strip() and not name.endswith(_INIT):
            self.notes.append(Note("aiter_source", path, "is empty"))
            return None
        return text

    def excerpt(self, dotted: str) -> bool:
        """Return whether the folder that lacks a module holds none but those that decide, as an excerpt does."""
        if dotted in _NEVER_LEFT_OUT:
            return False
        folder = dotted.removeprefix(_PACKAGE).lstrip(".").replace(".", "/").rpartition("/")[0]
        return self.listing(folder) <= _DECIDING_NAMES


# What every excerpt has.
_NEVER_LEFT_OUT = frozenset({
    "aiter.ops.attention", "aiter.ops.cache", "aiter.jit.utils.chip_info", "aiter.utility.dtypes",
})  # fmt: skip
# All that a folder of an excerpt holds: see `PackageFiles.excerpt`.
_DECIDING_NAMES = frozenset({
    _INIT, "_version.py", "__pycache__", "jit", "ops", "utility", "utils", "triton", "gluon", "attention",
    "_triton_kernels", "_triton", "configs", "flydsl", "core.py", "build_targets.py", "chip_info.py", "attention.py",
    "cache.py", "dtypes.py", "pa_mqa_logits.py", "pa_decode_gluon.py", "fp8_mqa_logits.py", "device_info.py",
    "arch_info.py", "triton_metadata_redirect.py", "triton_version.py",
})  # fmt: skip
