"""Modules that import one another, read and really imported, on each of three Tritons: what is known is so."""

from __future__ import annotations

import importlib
import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import Host
from nsa_caps.probes.aiter.calling import call_function
from nsa_caps.probes.aiter.files import PackageFiles
from nsa_caps.probes.aiter.modules import Modules
from nsa_caps.probes.aiter.run import Run
from nsa_caps.probes.aiter.space import Space, Thing, is_known, parts_of
from nsa_caps.probes.aiter.values import Later, Where

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MODULE = "aiter.ops.triton.utils.core"
TRITONS = ("3.3.1", "3.4.0", "3.5.0")
SPACE = Space({"triton": TRITONS})
UTILS = "ops/triton/utils"
FOLDERS = ("", "ops", "ops/triton", UTILS, "jit", "jit/utils", "utility")
# The first Triton of each module that is no part of the older ones.
SINCE = {"triton.experimental": "3.4.0", "triton.experimental.gluon": "3.4.0"}
AMD = ("triton.experimental.gluon.language", "triton.experimental.gluon.language.amd")
SINCE.update(dict.fromkeys(AMD, "3.4.0"))
SINCE[AMD[1]] = "3.5.0"


def triton(version: str) -> dict[str, ModuleType]:
    """Return the modules of a Triton."""
    found = {}
    for name in ("triton", *(name for name, since in SINCE.items() if version >= since)):
        found[name] = ModuleType(name)
        found[name].__path__ = []
    found["triton"].__version__ = version  # type: ignore[attr-defined]  # as Triton has it
    return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an import folder with an aiter of empty packages; what is imported from it is forgotten."""
    for folder in FOLDERS:
        (tmp_path / "aiter" / folder).mkdir(exist_ok=True)
        (tmp_path / "aiter" / folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "aiter/jit/utils"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    _forget()


def _forget() -> None:
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("aiter", "triton", "build_targets", "bare_one")
    ]:
        del sys.modules[name]
    importlib.invalidate_caches()


def imported(version: str) -> tuple[str | None, Mapping[str, Any]]:
    """Return the error that an import of the module ends in, if it does, and what the module has bound."""
    _forget()
    sys.modules.update(triton(version))
    try:
        return None, vars(importlib.import_module(MODULE))
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        return type(error).__name__, {}


def compared(site: Path, files: Mapping[str, str]) -> tuple[int, int]:
    """Compare a reading of the module with its import; return how many Tritons and values are known."""
    for name, text in files.items():
        (site / "aiter" / f"{name}.py").write_text(text)
    modules = Modules(PackageFiles(Host({}, (str(site),), {}, str(site)), str(site / "aiter")))
    run = Run(SPACE, modules, call_function)
    frame = modules.frame(run, MODULE, Where(MODULE, 0))
    raised = doubt = 0
    for event in run.events:
        doubt |= event.may & ~event.must
        raised |= event.must if event.kind == "raise" else 0
    alive = run.may & run.must & ~run.doubt & ~doubt
    machines = values = 0
    for version in TRITONS:
        mask = SPACE.has("triton", version)
        error, real = imported(version)
        if mask & raised & ~doubt:
            machines += 1
            assert error in [event.detail for event in run.events if event.must & mask]
        elif mask & alive:
            machines += 1
            assert error is None, (version, error)
            assert frame is not None
            for name in "abc":
                value = frame.names.get(name)
                if name in real and not isinstance(real[name], (FunctionType, ModuleType)):
                    ((_, here),) = parts_of(modules.resolve(run, value) if isinstance(value, Later) else value, mask)
                    if not isinstance(here, Thing) and is_known(here):
                        values += 1
                        assert here == real[name], (version, name)
    return machines, values


INFO, CORE, TYPES, BARE = f"{UTILS}/device_info", f"{UTILS}/core", "utility/dtypes", "jit/utils/build_targets"
OTHER = "ops/other"
X = "x = 1\n"
# Files, and how many values are known on each of the three Tritons.
KNOWN: dict[str, tuple[dict[str, str], int]] = {
    "a name by its module's whole name": ({INFO: X, CORE: "from aiter.ops.triton.utils.device_info import x as a"}, 1),
    "a name of a neighbour": ({INFO: X, CORE: "from .device_info import x as a"}, 1),
    "a neighbour": ({INFO: X, CORE: "from . import device_info\na = device_info.x"}, 1),
    "a neighbour under another name": ({INFO: X, CORE: "from . import device_info as d\na = d.x"}, 1),
    "a name of a cousin": ({TYPES: X, CORE: "from ....utility.dtypes import x as a"}, 1),
    "a cousin": ({TYPES: X, CORE: "from ....utility import dtypes\na = dtypes.x"}, 1),
    "a package above": ({"ops/triton/__init__": X, CORE: "from .. import x as a"}, 1),
    "by its whole name": ({INFO: X, CORE: "import aiter.ops.triton.utils.device_info\na = 1"}, 1),
    "an attribute of the whole name": (
        {INFO: X, CORE: "import aiter.ops.triton.utils.device_info as d\na = d.x\nb = d.x + 1"}, 2,
    ),
    "a bare name": ({BARE: X, CORE: "from build_targets import x as a"}, 1),
    "a module that is new under its bare name": ({"jit/utils/bare_one": X, CORE: "import bare_one\nfrom bare_one import x as a"}, 1),
    "a module in what is none, under its bare name": ({"jit/utils/bare_one": X, CORE: "a = 1\nimport bare_one.more"}, 0),
    "a function of either of two": (
        {
            OTHER: "def f(): return 1\n", "ops/more": "def f(): return 2\n",
            CORE: "import triton\nif triton.__version__ == '3.4.0':\n    from aiter.ops.other import f\nelse:\n    from aiter.ops.more import f\na = f()\n",
        }, 1,
    ),
    "a module that is not understood and decides nothing": ({OTHER: "for x in (1,): pass\n", CORE: "from aiter.ops import other\na = 1"}, 1),
    "a module under its bare name": ({BARE: X, CORE: "import build_targets\na = 2"}, 1),
    "a function of a neighbour": ({INFO: "x = 2\ndef f(): return x", CORE: "from .device_info import f\nx = 3\na = f()"}, 1),
    "a function that asks for a neighbour": (
        {INFO: X, CORE: "def f():\n    from .device_info import x\n    return x\na = f()"}, 1,
    ),
    "a name that differs": (
        {INFO: "import triton\nif triton.__version__ == '3.4.0':\n    x = 1\nelse:\n    x = 2\n", CORE: "from .device_info import x as a"}, 1,
    ),
    "a name of a module that is not executed first": ({OTHER: X, CORE: "from aiter.ops.other import x as a\nb = a"}, 2),
    "a name that a module passes on": ({OTHER: X, INFO: "from aiter.ops.other import x", CORE: "from .device_info import x as a"}, 1),
    "a package's own name": ({"ops/triton/__init__": "x = 1\nfrom . import utils\n", CORE: "from aiter.ops.triton import x as a"}, 1),
    "two modules that import one another": (
        {INFO: "x = 1\nfrom . import core\n", CORE: "from .device_info import x as a\nb = 2"}, 2,
    ),
    "a file of its own": ({CORE: "a = __name__"}, 1),
    "a module that is not there": ({CORE: "a = 1\nimport aiter.nothing"}, 0),
    "a neighbour that is not there": ({CORE: "from .nothing import x"}, 0),
    "a name that is not there": ({INFO: X, CORE: "from .device_info import y"}, 0),
    "a name that a package has not": ({CORE: "from . import nothing\nnothing.x"}, 0),
    "a missing one, passed over": ({CORE: "try:\n    from .nothing import x\nexcept ImportError:\n    a = 1"}, 1),
    "a missing one, told by its name": ({CORE: "try:\n    from .nothing import x\nexcept ModuleNotFoundError:\n    a = 1"}, 1),
    "a missing name, passed over": ({INFO: X, CORE: "try:\n    from .device_info import y\nexcept ImportError:\n    a = 1"}, 1),
    "a missing name is no missing module": (
        {INFO: X, CORE: "try:\n    from .device_info import y\nexcept ModuleNotFoundError:\n    a = 1"}, 0,
    ),
    "a neighbour that refuses": ({INFO: "raise OSError", CORE: "from . import device_info"}, 0),
    "a package that refuses": ({"ops/triton/__init__": "raise OSError", CORE: "a = 1"}, 0),
    "a neighbour that refuses some": (
        {INFO: "import triton\nassert triton.__version__ != '3.4.0'\nx = 1\n", CORE: "from .device_info import x as a"}, 1,
    ),
    "a cousin that refuses": ({TYPES: "raise KeyError", CORE: "from aiter.utility import dtypes"}, 0),
    "a module of Triton's that is new": ({CORE: "import triton.experimental\na = 1"}, 1),
    "a newer module of Triton's": ({CORE: "import triton.experimental.gluon.language.amd\na = 1"}, 1),
    "a new module, passed over": (
        {CORE: "try:\n    import triton.experimental.gluon\n    a = 1\nexcept ImportError:\n    a = 2"}, 1,
    ),
    "a newer module, passed over": (
        {CORE: "try:\n    from triton.experimental.gluon.language import amd\n    a = 1\nexcept ImportError:\n    a = 2"}, 1,
    ),
    "a module of Python's": ({CORE: "import json, math as m\na = 1"}, 1),
}  # fmt: skip
# ruff: noqa: E501
TOLD_ELSEWHERE = {
    "a neighbour that refuses some": (3, 2), "a module of Triton's that is new": (3, 2), "a newer module of Triton's": (3, 1),
}  # fmt: skip


@pytest.mark.parametrize("what", KNOWN)
def test_what_modules_bring_is_known(site: Path, what: str) -> None:
    """On each Triton it is known that the import ends, or how, and what the names hold."""
    files, values = KNOWN[what]
    found = compared(site, files)
    assert found == TOLD_ELSEWHERE.get(what, (3, 3 * values))


UNKNOWN: dict[str, dict[str, str]] = {
    "a star": {OTHER: X, CORE: "from aiter.ops.other import *\na = x"},
    "a package that nobody knows": {CORE: "import nobody_has_this\na = 1"},
    "a loop": {INFO: "for x in (1,): pass", CORE: "from .device_info import x as a"},
    "a file that cannot be parsed": {INFO: "x = (", CORE: "from .device_info import x as a"},
    "an empty file": {INFO: "", CORE: "from . import device_info\na = 1"},
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_followed_is_not_known(site: Path, what: str) -> None:
    """Nothing is known of any Triton."""
    assert compared(site, UNKNOWN[what]) == (0, 0)
