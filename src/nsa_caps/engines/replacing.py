"""Names of an engine that are replaced: each told, all or none, and put back."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from nsa_caps.errors import NsaCapsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = [
    "ABSENT",
    "InstallError",
    "Replacement",
    "find",
    "loaded_modules",
    "namespace",
    "need",
    "replace_all",
    "undo_all",
]

ABSENT = object()
"""What a name was that its owner did not have."""


class InstallError(NsaCapsError, RuntimeError):
    """The engine could not be made to follow the layout; nothing was replaced."""


class Replacement(NamedTuple):
    """One name of the engine's that was replaced.

    Attributes:
        owner: the module, the class, or `sys.modules`.
        name: the name in it.
        before: what it was; `ABSENT`: it was not there.
        after: what it is now; `ABSENT`: it is gone.
    """

    owner: Any
    name: str
    before: object
    after: object

    def __str__(self) -> str:
        """Return the place, and both values where they are no functions."""
        owner = self.owner
        place = (
            "sys.modules"
            if owner is sys.modules
            else f"{owner.__module__}.{owner.__qualname__}"
            if isinstance(owner, type)
            else owner.__name__
        )
        values = f": {self.before} -> {self.after}" if isinstance(self.after, bool) else ""
        return f"{place}.{self.name}{values}"


def replace_all(found: Iterable[Replacement]) -> tuple[Replacement, ...]:
    """Replace each name and return what was: all of them, or none.

    Raises:
        InstallError: an owner does not let a name be replaced; those before it are put back.
    """
    replaced: list[Replacement] = []
    for each in found:
        try:
            replaced.append(_replace(each))
        except Exception as error:
            undo_all(replaced)
            owner = getattr(each.owner, "__name__", each.owner)
            text = f"{owner} does not let its {each.name} be replaced ({type(error).__name__}: {error})"
            raise InstallError(f"{text}; nothing was replaced") from error
    return tuple(replaced)


def undo_all(replaced: Iterable[Replacement]) -> tuple[Replacement, ...]:
    """Put each name back, the last one first, and return what that was."""
    return replace_all(Replacement(each.owner, each.name, each.after, each.before) for each in reversed([*replaced]))


def _replace(each: Replacement) -> Replacement:
    if each.owner is sys.modules:
        if each.after is ABSENT:
            sys.modules.pop(each.name, None)
        else:
            sys.modules[each.name] = each.after
    elif each.after is ABSENT:
        delattr(each.owner, each.name)
    else:
        setattr(each.owner, each.name, each.after)
    return each


def loaded_modules(project: str, modules: Mapping[str, ModuleType] | None) -> list[ModuleType]:
    """Return the modules of a project that are loaded; None: among this process's."""
    # A copy, as another thread may import. None stands for a module that must not be imported.
    named = dict(sys.modules if modules is None else modules)
    start = f"{project}."
    return [module for name, module in named.items() if name.startswith(start) and isinstance(module, ModuleType)]


def find(names: Iterable[str], modules: Mapping[str, ModuleType] | None) -> ModuleType | None:
    """Return the first module of these names, imported where `modules` is None; None: there is none.

    Raises:
        ImportError: there is one, and it does not import.
    """
    for name in names:
        if modules is not None:
            if name in modules:
                return modules[name]
            continue
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            # A module that is there and fails to import another is the cause to tell.
            if not f"{name}.".startswith(f"{error.name}."):
                raise
    return None


# Whatever a lazy module's own class makes of `__dict__`.
_NAMESPACE: Any = vars(ModuleType)["__dict__"]


def namespace(owner: ModuleType | type) -> Mapping[str, Any]:
    """Return the names that a module or a class holds; none of its own code runs."""
    held: Mapping[str, Any] = vars(owner) if isinstance(owner, type) else _NAMESPACE.__get__(owner)
    return held


def need(module: ModuleType | type, name: str) -> object:
    """Return what an owner has under a name, as it stands there.

    Raises:
        InstallError: it has no such name.
    """
    try:
        return namespace(module)[name]
    except KeyError:
        place = module.__qualname__ if isinstance(module, type) else module.__name__
        raise InstallError(f"{place} has no {name}, which this library's kernels go in the place of") from None
