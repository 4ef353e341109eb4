"""How `import NAME` finds what it loads: Python's own rules, and who else has a say in this process."""

from __future__ import annotations

import os
import sys
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nsa_caps.errors import NsaCapsError
from nsa_caps.probes.exhaustion import is_exhaustion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["EDITABLE", "Finder", "UntoldPlaceError", "find", "other_finders", "package_file"]

EDITABLE = "__editable___"
"""How setuptools names the finders of editable installs, before the distribution; `find` reads their mappings."""

# What a module's file may end in, in the order that Python's finder looks (`importlib._bootstrap_external`).
_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)

_PATH_FINDER = "_frozen_importlib_external.PathFinder"
_OWN = frozenset({
    _PATH_FINDER,
    "_frozen_importlib.BuiltinImporter",
    "_frozen_importlib.FrozenImporter",
    "_frozen_importlib_external.FileFinder.path_hook.<locals>.path_hook_for_FileFinder",
    "_frozen_importlib_external.WindowsRegistryFinder",
    "zipimport.zipimporter",
})  # fmt: skip
# Others that leave a package where the other finders have it, by the end of their name: copies of six are many.
# Read in numba-cuda 0.30.4, newrelic 14.1, wandb 0.31, mlflow 3.17, comet_ml 3.58, ddtrace 4.16, jaxtyping 0.3.11 and
# typeguard 4.6.1.
_HARMLESS = (
    "_distutils_hack.DistutilsMetaFinder",  # setuptools: distutils and pip
    "_virtualenv._Finder",  # virtualenv and uv: distutils
    ".extern.VendorImporter",  # setuptools, pkg_resources: their own copies
    "six._SixMetaPathImporter",  # six.moves
    "importlib_metadata.MetadataPathFinder",  # metadata, and no module
    "_pytest.assertion.rewrite.AssertionRewritingHook",  # what Python's own has, rewritten
    "_numba_cuda_redirector.NumbaCudaFinder",  # numba.cuda alone; in every interpreter that has numba-cuda
    "wrapt.importer.ImportHookFinder",  # what the others have, watched, as the next five
    "newrelic.api.import_hook.ImportHookFinder",
    "wandb.sdk.lib.import_hooks.ImportHookFinder",
    "mlflow.utils.import_hooks.ImportHookFinder",
    "comet_ml.monkey_patching.CometModuleFinder",
    "ddtrace.internal.module.ModuleWatchdog",
    "jaxtyping._import_hook._JaxtypingFinder",  # what Python's own has, with its annotations checked
    "typeguard._importhook.TypeguardFinder",  # likewise
    "._EditableNamespaceFinder._path_hook",  # setuptools: namespaces
    ".MesonpyMetaFinder._path_hook",  # meson-python: the entry of its build folder alone
)
# Finders of editable installs, and where each keeps the names that it brings: as meson-python 0.22.1,
# scikit-build-core 1.1.2 and editables 0.6 (which hatchling uses) have it.
_EDITABLE: Mapping[str, tuple[str, ...]] = {
    "MesonpyMetaFinder": ("_top_level_modules",),
    "ScikitBuildRedirectingFinder": ("known_source_files", "known_wheel_files", "submodule_search_locations"),
    "RedirectingFinder": ("_redirections",),
}


class UntoldPlaceError(NsaCapsError, ImportError):
    """A package may come from a place that only importing it tells."""


class Files(Protocol):
    """What is asked of a host here."""

    @property
    def search_path(self) -> tuple[str, ...]:
        """Return the folders, in order."""

    @property
    def modules(self) -> Mapping[str, object]:
        """Return the modules already imported, by name."""

    @property
    def finders(self) -> tuple[Finder, ...]:
        """Return the finders that are not Python's own."""

    def exists(self, path: str) -> bool:
        """Return whether there is anything of this name."""

    def is_file(self, path: str) -> bool:
        """Return whether there is a regular file of this name."""

    def is_folder(self, path: str) -> bool:
        """Return whether there is a folder of this name."""


class Finder(NamedTuple):
    """A finder in `sys.meta_path` or `sys.path_hooks` that is not Python's own.

    Attributes:
        name: its class or function, with its module.
        is_first: it is asked before Python's own finder of what lies on the path.
        brings: the packages that it may bring; None: any.
    """

    name: str
    is_first: bool = True
    brings: frozenset[str] | None = None

    def may_bring(self, package: str) -> bool:
        """Return whether a package may come from here."""
        return self.brings is None or package in self.brings


def other_finders() -> tuple[Finder, ...]:
    """Return the finders of this process that may bring a package from elsewhere than the path."""
    found: list[Finder] = []
    is_first = True
    # Lists first: other threads may be importing.
    for each in list(sys.meta_path):
        name = _name(each)
        # Whoever is asked for the entries of the path stands where Python's finder of the path does.
        hooks: Iterable[object] = list(sys.path_hooks) if name == _PATH_FINDER else ()
        for one, told in ((each, name), *((hook, _name(hook)) for hook in hooks)):
            if told not in _OWN and not told.endswith(_HARMLESS) and not told.startswith(EDITABLE):
                found.append(Finder(told, is_first, _names(one, told)))
        is_first = is_first and name != _PATH_FINDER
    return tuple(found)


def _name(finder: object) -> str:
    """Return what a finder is called, asking nothing of the finder itself: it may answer anything."""
    if type(finder) is MethodType:
        finder = finder.__func__
    kind = finder if issubclass(type(finder), (type, FunctionType)) else type(finder)
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}"


def _names(finder: object, name: str) -> frozenset[str] | None:
    attributes = _EDITABLE.get(name.rpartition(".")[2])
    if attributes is None:
        return None
    held = object.__getattribute__(finder, "__dict__")
    kept = [held.get(attribute) for attribute in attributes]
    if not all(type(each) in (dict, set, frozenset, list) for each in kept):
        return None
    return frozenset(str(each).partition(".")[0] for names in kept for each in list(names))


def find(name: str, files: Files) -> str | None:
    """Return the folder, or the single file, that the import system would load a package from.

    Args:
        name: the package.
        files: where to look.

    Raises:
        UntoldPlaceError: the import system may bring it from a place that cannot be told.
    """
    _ask(files.finders, name, is_first=True)
    bare: str | None = None
    for entry in files.search_path:
        if not files.is_folder(entry):
            _ask_archive(entry, name, files)
            continue
        folder = os.path.join(entry, name)
        if files.is_folder(folder):
            if package_file(folder, files) is not None:
                return folder
            bare = bare or folder
        for suffix in _SUFFIXES:
            if files.is_file(folder + suffix):
                return folder + suffix
    found = bare or _editable(name, files)
    if found is None:
        _ask(files.finders, name, is_first=False)
    return found


def package_file(folder: str, files: Files) -> str | None:
    """Return which file makes a folder a package to Python; None: it is none."""
    names = (f"__init__{suffix}" for suffix in _SUFFIXES)
    return next((name for name in names if files.is_file(f"{folder}/{name}")), None)


def _editable(name: str, files: Files) -> str | None:
    """Return where a loaded finder of an editable install (`__editable___*_finder`) has a package or module."""
    # A list first: other threads may be importing.
    for module in list(files.modules):
        mapping = getattr(files.modules.get(module), "MAPPING", None) if module.startswith(EDITABLE) else None
        place = mapping.get(name) if isinstance(mapping, dict) else None
        if isinstance(place, str):
            return next((path for path in (place, place + ".py") if files.exists(path)), None)
    return None


def _ask(finders: Iterable[Finder], name: str, *, is_first: bool) -> None:
    for finder in finders:
        if finder.is_first == is_first and finder.may_bring(name):
            why = f"the import finder {finder.name} may bring it, from a place that only an import tells"
            raise UntoldPlaceError(f"{why}; import {name} before asking")


def _ask_archive(entry: str, name: str, files: Files) -> None:
    """Refuse a package that a zip file on the path brings: of its files nothing is read."""
    archive = entry
    while archive and not files.exists(archive):
        archive = os.path.dirname(archive)
    # Such as some.zip/lib.
    below = entry[len(archive) :].strip("/")
    if files.is_file(archive) and name in _names_in_archive(archive, f"{below}/" if below else ""):
        raise UntoldPlaceError(f"lies in the archive {archive}, of which nothing is read")


def _names_in_archive(path: str, below: str) -> frozenset[str]:
    """Return the names that may be imported from a folder of a zip file; none where `zipimport` could read none.

    Raises:
        OSError: this process has no descriptor left for it.
    """
    from zipfile import BadZipFile, ZipFile  # noqa: PLC0415 10 ms, and hardly any path has a zip file

    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (BadZipFile, ValueError, NotImplementedError):
        return frozenset()
    except OSError as error:
        if is_exhaustion(error):
            raise
        return frozenset()
    within = (name[len(below) :].partition("/")[0] for name in names if name.startswith(below))
    return frozenset(name.removesuffix(".pyc").removesuffix(".py") for name in within)
