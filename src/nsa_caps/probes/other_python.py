"""Another Python of this machine: what it would find, asked of itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from types import MappingProxyType, SimpleNamespace

from nsa_caps.capabilities.system import System
from nsa_caps.errors import NsaCapsError
from nsa_caps.probes.host import Host
from nsa_caps.probes.import_system import EDITABLE
from nsa_caps.probes.interpreter import package_folders

__all__ = ["PythonError", "host_of_python"]

# What another Python is asked: its search path, and what its finders of editable installs map.
_QUESTION = f"""
import json, sys
maps = {{name: dict(getattr(module, "MAPPING", {{}})) for name, module in list(sys.modules.items())
    if name.startswith({EDITABLE!r})}}
print(json.dumps([sys.executable, sys.version.split()[0], [entry for entry in sys.path if entry], maps]))
"""
_SECONDS = 20


class PythonError(NsaCapsError, ValueError):
    """A Python cannot be asked; the message says which and why."""


def host_of_python(python: str) -> tuple[Host, System]:
    """Return this machine as another Python sees it, which is started to tell where it looks packages up.

    Args:
        python: a path, a name on PATH, or the folder of an environment.

    Raises:
        PythonError: there is no such Python, or it does not answer.
    """
    found = shutil.which(os.path.join(python, "bin", "python") if os.path.isdir(python) else python)
    if found is None:
        why = "is no program that can be run" if os.path.exists(python) else "there is no such program"
        raise PythonError(f"--python {python}: {why}")
    try:
        done = subprocess.run(  # noqa: S603 the program that the user names
            [found, "-c", _QUESTION], capture_output=True, text=True, check=True, timeout=_SECONDS
        )
        executable, version, path, maps = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise PythonError(f"--python {python}: does not answer as a Python does: {error}") from error
    modules = {name: SimpleNamespace(MAPPING=mapping) for name, mapping in maps.items()}
    host = Host(MappingProxyType(dict(os.environ)), tuple(path), MappingProxyType(modules))
    return host, System(python=executable, python_version=version, folders=package_folders(path))
