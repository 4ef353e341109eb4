"""The one door to the machine: probes see a `Host` and nothing else.

A host is data: an environment, a search path, the modules already loaded and a file-system root. Any machine can
therefore be laid out in a folder and asked about, and nothing that a probe does can reach past it.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from types import FunctionType, MappingProxyType, ModuleType
from typing import TYPE_CHECKING

from nsa_caps.probes.exhaustion import is_exhaustion
from nsa_caps.probes.import_system import UntoldPlaceError, find, other_finders, package_file
from nsa_caps.probes.regular_file import (
    LARGEST_SEARCHED,
    PIECE,
    UnreadableError,
    decoded,
    open_regular,
    read_regular,
    status_of,
    unreadable,
)
from nsa_caps.probes.silent_mounts import mount_of, silent_mounts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsa_caps.probes.import_system import Finder

__all__ = ["Host", "UnreadableError"]


@dataclass(frozen=True)
class Host:
    """A machine as probes may see it.

    Attributes:
        environ: the environment variables.
        search_path: the folders that packages are looked up in, in order (`sys.path`).
        modules: modules already imported, by name (`sys.modules`); their attributes are read, nothing is imported.
        root: path of the file-system root, below which `/sys` and `/proc` are read.
        finders: the import finders beside Python's own that may bring a package from elsewhere than the search path.
        silent: mounts that do not answer; nothing on them is touched.
    """

    environ: Mapping[str, str]
    search_path: tuple[str, ...]
    modules: Mapping[str, object]
    root: str = "/"
    finders: tuple[Finder, ...] = ()
    silent: tuple[str, ...] = ()

    @classmethod
    def current(cls) -> Host:
        """Return the machine and process that this runs in."""
        # What is no text the import system passes over, too.
        entries: Sequence[object] = sys.path or ()
        # A dot, not its name: the working folder may have been deleted.
        search_path = tuple(entry or os.curdir for entry in entries if isinstance(entry, str))
        return cls(
            environ=MappingProxyType(dict(os.environ)),
            search_path=search_path,
            modules=sys.modules,
            finders=other_finders(),
            silent=silent_mounts("/", search_path),
        )

    @property
    def is_this_machine(self) -> bool:
        """Whether `root` is this machine's own: only then may a driver library be asked."""
        return self.root == "/"

    def system_path(self, *parts: str) -> str:
        """Return the path of a system file such as `sys`, `class`, `kfd` below this host's root."""
        return os.path.join(self.root, *parts)

    def _touch(self, path: str) -> str:
        """Return a path that may be looked at.

        Raises:
            UnreadableError: it leads to a mount that does not answer.
        """
        mount = mount_of(path, self.silent) if self.silent else None
        if mount is not None:
            raise UnreadableError(path, f"lies on the FUSE mount {mount}, which does not answer: nothing on it is read")
        return path

    def read_text(self, path: str) -> str | None:
        """Return the text of a regular file, or None where there is no such file.

        Raises:
            UnreadableError: the file is there, but is no regular file, is larger than 2 MiB, is not UTF-8 or
                may not be read.
        """
        data = self.read_bytes(path)
        return None if data is None else decoded(path, data)

    def read_bytes(self, path: str) -> bytes | None:
        """Return the bytes of a regular file, or None where there is no such file.

        Raises:
            UnreadableError: the file is there, but is no regular file, is larger than 2 MiB or may not be read.
        """
        try:
            return read_regular(self._touch(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnreadableError:
            raise
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from error

    def list_folder(self, path: str, beginnings: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Return the names in a folder, sorted; nothing where there is no such folder.

        Args:
            path: the folder.
            beginnings: the first two characters of the names wanted; empty: all. Of the 2,000 names of a large
                site-packages, few then need to be sorted and looked at.

        Raises:
            UnreadableError: the folder is there but may not be read.
        """
        self._touch(path)
        try:
            names = os.listdir(path)
            return tuple(sorted([name for name in names if name[:2] in beginnings] if beginnings else names))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from error

    def texts_after(self, path: str, *markers: bytes) -> tuple[str | None, ...]:
        """Return the 16 bytes behind each marker in a compiled file, as ASCII; None: no such file, or no such marker.

        The file is searched by the piece, so that one which shrinks meanwhile does no harm, and never executed.

        Raises:
            UnreadableError: the file is there, but is no regular file, is larger than 512 MiB or may not be read.
        """
        found: dict[bytes, bytes] = {}
        overlap = max(map(len, markers)) + 16
        try:
            with open_regular(self._touch(path), LARGEST_SEARCHED) as stream:
                rest = b""
                is_last = False
                while len(found) < len(markers) and not is_last:
                    piece = stream.read(PIECE)
                    is_last = len(piece) < PIECE
                    data = rest + piece
                    for marker in set(markers) - set(found):
                        at = data.find(marker)
                        # One at the end of a piece is looked for again, with what follows.
                        if at >= 0 and (is_last or at + overlap <= len(data)):
                            found[marker] = data[at + len(marker) : at + len(marker) + 16]
                    rest = data[-2 * overlap :]
        except (FileNotFoundError, NotADirectoryError):
            return (None,) * len(markers)
        except UnreadableError:
            raise
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from error
        return tuple(found[marker].decode("ascii", "replace") if marker in found else None for marker in markers)

    def may_open(self, path: str) -> bool:
        """Return whether this process may read and write a file that is there, by its permissions; it is not opened."""
        return os.access(path, os.R_OK | os.W_OK)

    def group_of(self, path: str) -> tuple[str | None, int | None]:
        """Return the name and the number of a file's group; None: it has no name here, or there is no such file."""
        try:
            number = os.stat(path).st_gid
            lines = (self.read_text(self.system_path("etc", "group")) or "").splitlines()
        except OSError:
            return None, None
        names = {fields[2]: fields[0] for fields in (line.split(":") for line in lines) if len(fields) > 2}
        return names.get(str(number)), number

    def exists(self, path: str) -> bool:
        """Return whether there is anything of this name, also a link that leads nowhere; nothing is opened."""
        return status_of(self._touch(path), os.lstat) is not None

    def is_file(self, path: str) -> bool:
        """Return whether there is a regular file of this name."""
        status = status_of(self._touch(path))
        return status is not None and stat.S_ISREG(status.st_mode)

    def is_folder(self, path: str) -> bool:
        """Return whether there is a folder of this name."""
        status = status_of(self._touch(path))
        return status is not None and stat.S_ISDIR(status.st_mode)

    def kept_from_others(self, path: str) -> None:
        """Refuse a file or folder that others than this process's user and root may have written, or any above it.

        A folder that all may write is taken where it is sticky, as /tmp is: what lies in it is its owner's.

        Raises:
            UnreadableError: others may write it, or it cannot be looked at.
        """
        if not hasattr(os, "geteuid"):  # Windows
            raise UnreadableError(path, "whose it is cannot be asked on this system, so it is not read")
        path = os.path.realpath(self._touch(path))
        trusted = (0, os.geteuid())
        first = True
        while True:
            try:
                status = os.stat(path)
            except (OSError, ValueError) as error:
                raise unreadable(path, error) from error
            sticky = not first and status.st_mode & stat.S_ISVTX
            if status.st_uid not in trusted or (status.st_mode & 0o022 and not sticky):
                raise UnreadableError(path, "others than its owner and root may write it, so it is not read")
            first, parent = False, os.path.dirname(path)
            if parent == path:
                return
            path = parent

    def stamp(self, path: str) -> str | None:
        """Return a file's size and time of change, which tell cheaply that it may be another; None: no such file."""
        try:
            status = os.stat(self._touch(path))
        except (OSError, ValueError):
            return None
        # Layers of an image keep whole seconds.
        return f"{status.st_size} {int(status.st_mtime)}"

    def is_compiled(self, path: str) -> bool:
        """Return whether this Python has compiled a source as it is now, and has the bytecode beside it."""
        folder, name = os.path.split(path)
        tag = sys.implementation.cache_tag
        compiled = f"{folder}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc"
        source = status_of(self._touch(path))
        try:
            with open_regular(compiled, LARGEST_SEARCHED) as stream:
                head = stream.read(16)
        except (OSError, ValueError) as error:
            if is_exhaustion(error):
                raise
            return False
        # Bytes 4 to 16 (PEP 552): flags, none where the next two count, then time of change and size of the source.
        numbers = () if source is None else (0, int(source.st_mtime), source.st_size)
        low = (number & 0xFFFFFFFF for number in numbers)
        return source is not None and head[4:] == b"".join(number.to_bytes(4, "little") for number in low)

    def changed_at(self, path: str) -> float | None:
        """Return when a file was last changed, in seconds since 1970: its contents, name or owner; None: not known."""
        status = status_of(self._touch(path))
        return None if status is None else status.st_ctime

    def stands_in(self, module: str) -> str | None:
        """Return what an object is that stands in for an imported module and answers anything, as a mock; else None."""
        found = self.modules.get(module)
        hooks = (vars(kind).get(name) for kind in type(found).__mro__ for name in ("__getattr__", "__getattribute__"))
        if isinstance(found, ModuleType) or not any(isinstance(hook, FunctionType) for hook in hooks):
            return None
        return f"is imported as a {type(found).__qualname__}, which is no module: what it is cannot be known"

    def attribute(self, module: str, *names: str) -> object:
        """Return what an imported module holds by a name, or what that holds by another; None where it has none.

        Only what stands in its own dictionary counts. A lazy module, a property or a mock would run code, raise, or
        answer anything.
        """
        found = self.modules.get(module)
        for name in names:
            try:
                held = object.__getattribute__(found, "__dict__")
            except Exception:  # noqa: BLE001 a class may put a property of its own there
                return None
            found = held.get(name) if type(held) is dict else None
        # torch's version is a text of a class of its own.
        return str.__str__(found) if isinstance(found, str) else found

    def find_package(self, name: str) -> str | None:
        """Return the folder (or the single file) that `import name` would load, without importing anything.

        A module that is already imported tells its own place. A folder without `__init__.py` counts only where no
        entry of the search path has a regular package, as the import system has it. What setuptools installed as
        editable stands in no entry: its finder, which the interpreter loads at its start, maps names to places.

        Raises:
            UnreadableError: the import system of this process may bring it from a place that cannot be told.
        """
        if name in self.modules and self.modules[name] is None:
            # The import system's own mark for a name that is not to be found.
            return None
        loaded = self.attribute(name, "__file__")
        if isinstance(loaded, str):
            return os.path.dirname(loaded) if os.path.basename(loaded).startswith("__init__.") else loaded
        try:
            return find(name, self)
        except UntoldPlaceError as error:
            raise UnreadableError(name, str(error)) from error

    def package_file(self, folder: str) -> str | None:
        """Return which file makes a folder a package to Python: `__init__.py` or a compiled one; None: it is none."""
        return package_file(folder, self)
