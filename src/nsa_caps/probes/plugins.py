"""Third-party probes and rows, by entry points; read only when asked."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.records import Note
from nsa_caps.probes.host import Host, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.probes.timeout import TimeLimit

__all__ = ["keeping_path", "load_plugins"]


def load_plugins(group: str, notes: list[Note], limit: TimeLimit) -> list[tuple[str, Any]]:
    """Return what the entry points of a group name, each with where it comes from; one that does not load is a note.

    Args:
        group: the entry-point group.
        notes: where to leave notes.
        limit: how long the imports are waited for.
    """
    loaded: list[tuple[str, Any]] = []
    for distribution, name, value in _entry_points(group, notes):
        source = f"{distribution}: {value}"
        with keeping_path(source, notes):
            found, problem = limit.call(partial(_load, group, name, value))
        if found is None:
            notes.append(Note("plugins", source, f"did not load: {problem}"))
        else:
            loaded.append((source, found[0]))
    return loaded


@contextmanager
def keeping_path(source: str, notes: list[Note]) -> Iterator[None]:
    """Put back, with a note, what a third party's code takes out of `sys.path`; what it adds, or its order, stays."""
    before = list(sys.path)
    try:
        yield
    finally:
        gone = [entry for entry in before if entry not in sys.path]
        if gone:
            sys.path[:] = [*before, *(entry for entry in sys.path if entry not in before)]
            notes.append(Note("plugins", source, f"took {len(gone)} entries out of sys.path, which are back"))


def _load(group: str, name: str, value: str) -> tuple[Any]:
    """Return what an entry point names, in a tuple: it may be None."""
    from importlib_metadata import EntryPoint  # noqa: PLC0415 costs 30 ms, and few start-ups ask for plugins

    return (EntryPoint(name, value, group).load(),)


def _entry_points(group: str, notes: list[Note]) -> Iterator[tuple[str, str, str]]:
    """Return distribution, name and value of every entry point of a group.

    Read as any other file is, not by `importlib_metadata.entry_points()`: that opens pipes and devices, and one broken
    file of a package that has nothing to do with us would take all others with it.
    """
    host = Host.current()
    seen: set[str] = set()
    for entry in dict.fromkeys(host.search_path):
        try:
            folders = [name for name in host.list_folder(entry) if name.endswith((".dist-info", ".egg-info"))]
        except UnreadableError as error:
            notes.append(Note("plugins", error.path, error.why))
            continue
        for folder in folders:
            # As Python has it, the first of a name counts.
            distribution = folder.rpartition(".")[0].partition("-")[0].replace("_", "-").lower()
            if distribution in seen:
                continue
            seen.add(distribution)
            path = os.path.join(entry, folder, "entry_points.txt")
            try:
                text = host.read_text(path) or ""
            except UnreadableError as error:
                notes.append(Note("plugins", error.path, error.why))
                continue
            for line in _lines_of(group, text):
                name, equals, value = (part.strip() for part in line.partition("="))
                if equals:
                    yield distribution, name, value
                else:
                    notes.append(Note("plugins", path, f"{line!r} is no entry point, which has the form NAME = VALUE"))


def _lines_of(group: str, text: str) -> Iterator[str]:
    """Return the lines of one section of an entry_points.txt."""
    is_within = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            is_within = line == f"[{group}]"
        elif is_within and line and line[0] not in "#;":
            yield line
