"""Which Python is asked, and which other ones have a torch."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from nsa_caps.capabilities.system import System

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsa_caps.probes.host import Host

__all__ = ["package_folders", "pythons_with_torch", "this_python"]


def this_python() -> System:
    """Return the Python that this runs in."""
    return System(python=sys.executable, python_version=sys.version.split()[0], folders=package_folders(sys.path))


def pythons_with_torch(host: Host) -> Iterator[str]:
    """Return the Pythons of other environments that have a torch: the active one, PATH's, and that of ROCm's images.

    No file is opened and nothing is started.
    """
    path = (os.path.dirname(folder) for folder in host.environ.get("PATH", "").split(os.pathsep) if folder)
    active = (host.environ.get(name, "") for name in ("VIRTUAL_ENV", "CONDA_PREFIX"))
    for prefix in dict.fromkeys((*active, *path, "/opt/venv")):
        if not prefix or os.path.realpath(prefix) == os.path.realpath(sys.prefix):
            continue
        python, libraries = os.path.join(prefix, "bin", "python3"), os.path.join(prefix, "lib")
        if host.exists(python) and any(map(host.is_folder, _torch_folders(host, libraries))):
            yield python


def _torch_folders(host: Host, libraries: str) -> Iterator[str]:
    try:
        names = host.list_folder(libraries, frozenset({"py"}))
    except OSError:
        return
    for name in names:
        for packages in ("site-packages", "dist-packages"):
            yield os.path.join(libraries, name, packages, "torch")


def package_folders(path: Iterable[str]) -> tuple[str, ...]:
    """Return where packages are installed, without the standard library and the folder of the script."""
    return tuple(entry for entry in path if entry.endswith("-packages"))
