"""What `import aiter` runs, as it is scanned: small packages are really imported, and nothing that fails is called fine."""

from __future__ import annotations

import ast
import importlib
import sys
import traceback
from typing import TYPE_CHECKING, NamedTuple

import pytest

from nsa_caps import Host
from nsa_caps.probes.aiter.chain import Chain, chain
from nsa_caps.probes.aiter.files import PackageFiles
from nsa_caps.probes.aiter.normal import text_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# What is imported after the package, as the module of the logits is.
MODULE = "aiter.ops.last"
BASE = {"__init__": "", "ops/__init__": "", "ops/last": "x = 1\n"}


class Really(NamedTuple):
    """What came of an import.

    Attributes:
        error: the name of the error that ended it, if one did.
        file: the module's file that was executed last when it was raised, below the package.
        line: the line of that module's.
        modules: what was looked for, of the package.
    """

    error: str | None
    file: str
    line: int
    modules: frozenset[str]


class _Seen:
    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(self, name: str, *_: object) -> None:
        self.names.append(name)


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no module of these packages behind, and write no bytecode that could be taken for a later one."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    own = {name: module for name, module in sys.modules.items() if _is_own(name)}
    for name in own:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if _is_own(name)]:
        del sys.modules[name]
    sys.modules.update(own)


def _is_own(name: str) -> bool:
    return name.partition(".")[0] == "aiter"


def lay_out(site: Path, files: Mapping[str, str]) -> None:
    """Write a package: of each file its text, without `.py` in its name."""
    for name, text in {**BASE, **files}.items():
        path = site / "aiter" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def really(site: Path) -> Really:
    """Import the package, and then the module."""
    seen = _Seen()
    sys.path.insert(0, str(site))
    sys.meta_path.insert(0, seen)
    importlib.invalidate_caches()
    error, file, line = None, "", 0
    try:
        importlib.import_module("aiter")
        importlib.import_module(MODULE)
    except (Exception, SystemExit) as raised:  # noqa: BLE001 - whatever it raises is the answer
        error = type(raised).__name__
        own = [each for each in traceback.extract_tb(raised.__traceback__) if each.name == "<module>"]
        inside = [each for each in own if each.filename.startswith(str(site))]
        if inside:
            file, line = inside[-1].filename.removeprefix(f"{site}/aiter/"), inside[-1].lineno or 0
    finally:
        sys.path.remove(str(site))
        sys.meta_path.remove(seen)
    return Really(error, file, line, frozenset(filter(_is_own, seen.names)))


def scanned(site: Path) -> Chain:
    """Scan what the import runs."""
    return chain(PackageFiles(Host({}, (str(site),), {}, str(site / "root")), str(site / "aiter")), MODULE)


def begin(site: Path, file: str, line: int) -> int:
    """Return the first line of the statement at the left edge that a line is part of."""
    body = ast.parse((site / "aiter" / file).read_text()).body
    return max(node.lineno for node in body if node.lineno <= line)


OTHER, PACK = "ops/other", "ops/pack"
X = "x = 1\n"
# Files of a package, and the modules among those that are imported whatever happens.
FINE: dict[str, tuple[dict[str, str], set[str]]] = {
    "a module": ({"__init__": "import aiter.ops.other\n", OTHER: X}, {"ops.other"}),
    "under another name": ({"__init__": "import aiter.ops.other as o\no.x\n", OTHER: X}, {"ops.other"}),
    "several at once": ({"__init__": "import os, aiter.ops.other as o, aiter.ops.more\n", OTHER: X, "ops/more": X}, {"ops.other", "ops.more"}),
    "of the package": ({"__init__": "from aiter.ops import other\n", OTHER: X}, {"ops.other"}),
    "a neighbour": ({"__init__": "from .ops import other\n", OTHER: X}, {"ops.other"}),
    "a neighbour of the package": ({"__init__": "from . import ops\n"}, {"ops"}),
    "a name of a neighbour": ({"__init__": "from .ops.other import x\n", OTHER: X}, {"ops.other"}),
    "all of a neighbour": ({"__init__": "from .ops.other import *\nx\n", OTHER: X}, {"ops.other"}),
    "a neighbour of a module": ({"ops/last": "from . import other\n", OTHER: X}, {"ops.other"}),
    "a cousin": ({"ops/last": "from ..utility import types\n", "utility/__init__": "", "utility/types": X}, {"utility", "utility.types"}),
    "a name of a cousin": ({"ops/last": "from ..utility.types import x\n", "utility/types": X}, {"utility", "utility.types"}),
    "two up from a package": ({"ops/pack/__init__": "from ... import more\n", "ops/last": "from . import pack\n", "more": X}, {"more", "ops.pack"}),
    "three up": ({"ops/last": "from .pack import in_\n", "ops/pack/in_": "from ...more import x\n", "more": X}, {"more", "ops.pack", "ops.pack.in_"}),
    "a name of its own package": ({"ops/__init__": X, "ops/last": "from . import x\n"}, {"ops"}),
    "a package's own neighbour": ({"ops/__init__": "from .other import x\n", OTHER: X}, {"ops.other"}),
    "some in brackets": ({"ops/last": "from . import (\n    other,  # this one\n    more as m,\n)\n", OTHER: X, "ops/more": X}, {"ops.other", "ops.more"}),
    "a bracket in a comment": ({"ops/last": "from . import (\n    other,  # as f() has it\n    more,\n)\n", OTHER: X, "ops/more": X}, {"ops.other", "ops.more"}),
    "some in two lines": ({"ops/last": "from . import other, \\\n    more\n", OTHER: X, "ops/more": X}, {"ops.other", "ops.more"}),
    "spaces": ({"ops/last": "from .   import   other\n", OTHER: X}, {"ops.other"}),
    "a tab": ({"ops/last": "from\t.\timport\tother\nimport\taiter.ops.more\n", OTHER: X, "ops/more": X}, {"ops.other", "ops.more"}),
    "one that imports another": ({"__init__": "from .ops import other\n", OTHER: "from .more import x\n", "ops/more": X}, {"ops.other", "ops.more"}),
    "two that import one another": ({"__init__": "from .ops import other\n", OTHER: "from . import more\n", "ops/more": "from . import other\n"}, {"ops.other", "ops.more"}),
    "a folder without __init__": ({"ops/last": "from .pack.inner import x\n", "ops/pack/inner": X}, {"ops.pack", "ops.pack.inner"}),
    "a package beside a module": ({"ops/last": "from .pack import x\n", "ops/pack": "raise OSError\n", "ops/pack/__init__": X}, {"ops.pack"}),
    "others' modules": ({"ops/last": "import os.path\nfrom json import loads\nimport math as m\nfrom aiterating import *\n", "../aiterating": ""}, set()),
    "a missing one that is passed over": ({"ops/last": "try:\n    from . import other\nexcept ImportError:\n    other = None\n"}, set()),
    "a missing module that is passed over": ({"__init__": "try:\n    import aiter.nothing\nexcept ImportError:\n    pass\n"}, set()),
    "one that is there, where a missing one is passed over": ({"ops/last": "try:\n    from .other import x\nexcept ImportError:\n    x = 0\n", OTHER: X}, set()),
    "passed over in what is passed over": ({"ops/last": "try:\n    from .other import x\nexcept ImportError:\n    x = 0\n", OTHER: "from .nothing import x\n"}, set()),
    "passed over first, and needed then": ({"__init__": "try:\n    from .ops.other import x\nexcept ImportError:\n    x = 0\n", OTHER: "from .more import x\n", "ops/more": X, "ops/last": "from .other import x\n"}, {"ops.other", "ops.more"}),
    "a missing one in a function": ({"ops/last": "def f():\n    from . import nothing\n"}, set()),
    "a missing one in a text": ({"ops/last": 's = """\n  from . import nothing\n"""\n'}, set()),
    "a missing one for type checkers": ({"ops/last": "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from .nothing import x\n"}, set()),
    "a branch of the package": ({"__init__": "if True:\n    from .ops import other\n", OTHER: X}, {"ops.other"}),
    "a branch of the package's, with a tab": ({"__init__": "if True:\n\tfrom .ops import other\n", OTHER: X}, {"ops.other"}),
    "else": ({"__init__": "if False:\n    pass\nelse:\n    from .ops import other\n", OTHER: X}, {"ops.other"}),
    "a try in a branch of the package": ({"__init__": "if True:\n    try:\n        from .nothing import x\n    except ImportError:\n        pass\n"}, set()),
    "a module in a branch of a branch": ({"__init__": "if True:\n    if True:\n        import aiter.ops.other\n", OTHER: X}, set()),
    "an assert in a function": ({"ops/last": "def f(x):\n    assert x\n    raise OSError\n"}, set()),
    "an assert in a method": ({"ops/last": "class A:\n    def f(self):\n        assert self.x\n"}, set()),
    "a method that refuses in a branch": ({"ops/last": "class A:\n    if True:\n        x = 1\n    async def f(self):\n        raise OSError\n"}, set()),
    "a comment with two statements": ({"ops/last": "x = 1  # y; assert x\ndef f():\n    x = 2; raise OSError\n"}, set()),
    "two statements that do nothing": ({"ops/last": "x = 1; y = 2\n"}, set()),
    "a call of a function that refuses nothing": ({"ops/last": "def f():\n    return 1\nx = f()\nf()\n"}, set()),
    "a call of a function that is told to refuse": ({"ops/last": "def f():\n    return 'raise'\nf()\n"}, set()),
    "a branch that is told to refuse": ({"ops/last": "if True:\n    # raise, or assert\n    x = 'exit'\n"}, set()),
    "a branch whose names are not those": ({"ops/last": "raised, exits = 1, 2\nif raised:\n    y = exits\n"}, set()),
    "a function under another name refuses": ({"ops/last": "def f():\n    return 1\ndef ff():\n    raise OSError\nf()\n"}, set()),
    "a function that is called before it is defined anew": ({"ops/last": "def f():\n    return 1\nclass f_(object):\n    pass\nf()\n"}, set()),
    "more branches than are judged": ({"ops/last": "x = 1\n" + "if x:\n    y = 1\n" * 250}, set()),
    "others that are called": ({"ops/last": "import os\nx = len('a')\ny: int = len('b')\nprint\n"}, set()),
}  # fmt: skip
# ruff: noqa: E501


@pytest.mark.parametrize("what", FINE)
def test_what_an_import_runs_is_found(tmp_path: Path, what: str) -> None:
    """An import that ends is known to, every module that it runs is found, and those that none passes over are certain."""
    files, certain = FINE[what]
    lay_out(tmp_path, files)
    found, real = scanned(tmp_path), really(tmp_path)
    assert real.error is None, real
    assert (found.missing, found.refusals) == ({}, [])
    assert real.modules <= found.modules.keys() | {"aiter.nothing", "aiter.ops.nothing", "aiter.ops.other"}
    assert found.certain <= real.modules
    assert found.certain == {"aiter", "aiter.ops", MODULE, *(f"aiter.{name}" for name in certain)}
    assert not found.gluon


@pytest.mark.parametrize("what", FINE)
def test_a_module_is_found_at_its_file(tmp_path: Path, what: str) -> None:
    """Each module has the file that Python loads it from."""
    lay_out(tmp_path, FINE[what][0])
    found = scanned(tmp_path)
    really(tmp_path)
    for name, path in found.modules.items():
        loaded = sys.modules.get(name)
        if loaded is not None:
            assert getattr(loaded, "__file__", None) == (str(tmp_path / "aiter" / path) if path else None)


# Files of a package whose import fails, and what is missing, or the file of the statement that refuses.
FAILS: dict[str, tuple[dict[str, str], str]] = {
    "a missing module": ({"__init__": "import aiter.nothing\n"}, "aiter.nothing"),
    "a missing module behind another": ({"ops/last": "import os, aiter.nothing\n"}, "aiter.nothing"),
    "a missing module with another name": ({"ops/last": "import aiter.nothing as n\n"}, "aiter.nothing"),
    "a name of a missing module": ({"ops/last": "from .nothing import x\n"}, "aiter.ops.nothing"),
    "a missing module of the package": ({"ops/last": "from aiter.nothing import x\n"}, "aiter.nothing"),
    "a missing cousin": ({"ops/last": "from ..nothing.inner import x\n"}, "aiter.nothing.inner"),
    "a missing module in a module": ({"ops/last": "from .other import x\n", OTHER: "from .nothing import x\n"}, "aiter.ops.nothing"),
    "a module in what is none": ({"ops/last": "from .other.inner import x\n", OTHER: X}, "aiter.ops.other.inner"),
    "a missing one after one that is passed over": ({"ops/last": "try:\n    from .nothing import x\nexcept ImportError:\n    x = 0\nfrom .nothing import x\n"}, "aiter.ops.nothing"),
    "a missing one that was passed over within": ({"__init__": "try:\n    from .ops.other import x\nexcept ImportError:\n    x = 0\n", OTHER: "from .nothing import x\n", "ops/last": "from .other import x\n"}, "aiter.ops.nothing"),
    "a missing one in a branch of the package": ({"__init__": "if True:\n    from .nothing import x\n"}, "aiter.nothing"),
    "a missing one in else": ({"__init__": "if False:\n    pass\nelse:\n    from .nothing import x\n"}, "aiter.nothing"),
    "a missing one in a branch, with a tab": ({"__init__": "if True:\n\tfrom .nothing import x\n"}, "aiter.nothing"),
    "a file that is empty": ({"ops/last": "from .other import x\n", OTHER: ""}, "ops/other.py"),
    "a file that is no text": ({"ops/last": "from .other import x\n", OTHER: "\0"}, "ops/other.py"),
    "raise": ({"ops/last": "x = 1\nraise OSError\n"}, "ops/last.py"),
    "assert": ({"ops/last": "assert not 1\n"}, "ops/last.py"),
    "raise in a branch": ({"ops/last": "x = 1\n\n\nif x:\n    y = 2\n    raise OSError\n"}, "ops/last.py"),
    "assert in else": ({"ops/last": "x = 0\nif x:\n    y = 2\nelse:\n    assert x\n"}, "ops/last.py"),
    "raise in elif": ({"ops/last": "x = 0\nif x:\n    y = 2\nelif not x:\n    raise OSError\n"}, "ops/last.py"),
    "raise in a loop": ({"ops/last": "for x in (1, 2):\n    if x:\n        raise OSError\n"}, "ops/last.py"),
    "raise in another loop": ({"ops/last": "while 1:\n    raise OSError\n"}, "ops/last.py"),
    "raise in with": ({"ops/last": "from contextlib import suppress\nwith suppress(KeyError):\n    raise OSError\n"}, "ops/last.py"),
    "raise in try": ({"ops/last": "try:\n    raise OSError\nexcept KeyError:\n    pass\n"}, "ops/last.py"),
    "raise in except": ({"ops/last": "try:\n    x\nexcept NameError:\n    raise\n"}, "ops/last.py"),
    "raise in finally": ({"ops/last": "try:\n    x = 1\nfinally:\n    raise OSError\n"}, "ops/last.py"),
    "raise in a try's else": ({"ops/last": "try:\n    x = 1\nexcept OSError:\n    pass\nelse:\n    raise OSError\n"}, "ops/last.py"),
    "raise on the line of its branch": ({"ops/last": "if True: raise OSError\n"}, "ops/last.py"),
    "exit": ({"ops/last": "import sys\nif sys:\n    sys.exit(1)\n"}, "ops/last.py"),
    "quit": ({"ops/last": "from sys import exit as quit\nif 1:\n    quit()\n"}, "ops/last.py"),
    "a function that raises": ({"ops/last": "def f():\n    raise OSError\n\nx = 1\nf()\n"}, "ops/last.py"),
    "a function that raises gives something": ({"ops/last": "x = 0\ndef f(y):\n    assert y\nz: int = f(x)\n"}, "ops/last.py"),
    "a function that raises, at the file's begin": ({"ops/last": "def f():\n    raise OSError\nx = f()\n"}, "ops/last.py"),
    "the second of two calls": ({"ops/last": "def f():\n    pass\ndef g():\n    raise OSError\nf()\ng()\n"}, "ops/last.py"),
    "a function with a text at the left edge": ({"ops/last": 'def f():\n    """A\n    text."""\n    raise OSError\nf()\n'}, "ops/last.py"),
    "after a branch": ({"ops/last": "if 0:\n    x = 1\nassert not 1\n"}, "ops/last.py"),
    "after a branch and a comment": ({"ops/last": "if 0:\n    x = 1\n# else\nassert not 1\n"}, "ops/last.py"),
    "after brackets at the left edge": ({"ops/last": "x = (\n1,\n)\nassert not 1\n"}, "ops/last.py"),
    "a second statement of a line": ({"ops/last": "x = 1; raise OSError\n"}, "ops/last.py"),
    "a second statement under an empty line": ({"ops/last": "\nx = 1; raise OSError\n"}, "ops/last.py"),
    "a second statement after an import": ({"ops/last": "import os; assert not os\n"}, "ops/last.py"),
    "a second statement behind an empty line": ({"ops/last": "\nx = 1; raise OSError\n"}, "ops/last.py"),
    "in a class": ({"ops/last": "class A:\n    x = 1\n    assert not x\n"}, "ops/last.py"),
    "a second statement in the first line": ({"ops/last": "import os; raise OSError(os)\nx = 1\n"}, "ops/last.py"),
    "a second statement in the last line": ({"ops/last": "x = 1\ny = 'a'; assert y == x"}, "ops/last.py"),
    "in a class of a class": ({"ops/last": "class A:\n    class B:\n        x = 1\n        assert not x\n"}, "ops/last.py"),
    "in a class with a tab": ({"ops/last": "class A(\n    object\n):\n\tx = 1\n\n\tdef f(self):\n\t\traise KeyError\n\tassert not x\n"}, "ops/last.py"),
    "in a class, by exit": ({"ops/last": "import sys\nclass A:\n  sys.exit(3)\n"}, "ops/last.py"),
    "in a class in the line of its head": ({"ops/last": "class A: assert not 1\n"}, "ops/last.py"),
    "in a class under a text that is indented less": ({"ops/last": "class A:\n    \'\'\'A\n  text.\'\'\'\n    assert not 1\n"}, "ops/last.py"),
    "in a class under comments": ({"ops/last": "class A:  # a:\n\n# b\n  # c\n    assert not 1\n"}, "ops/last.py"),
    "in a class with a head in lines": ({"ops/last": "class A(\n        object,\n        metaclass=type):\n    assert not 1\n"}, "ops/last.py"),
    "a call that ends the process": ({"ops/last": "import sys\nsys.exit(3)\n"}, "ops/last.py"),
    "a call that ends the process, in lines": ({"ops/last": "import sys\nx = sys.exit(\n    3\n)\n"}, "ops/last.py"),
    "what is executed": ({"ops/last": "exec('raise OSError')\n"}, "ops/last.py"),
    "a module by its name": ({"ops/last": "import importlib\nx = importlib.import_module('aiter.nope')\n"}, "ops/last.py"),
    "in a match": ({"ops/last": "match 1:\n    case 1:\n        raise OSError\n"}, "ops/last.py"),
    "a second statement behind a backslash": ({"ops/last": "x = \\\n1; raise OSError\n"}, "ops/last.py"),
    "a second statement behind a bracket": ({"ops/last": "x = (1,\n2); raise OSError\n"}, "ops/last.py"),
    "behind a form feed": ({"ops/last": "x = 1\n\x0craise OSError\n"}, "ops/last.py"),
    "behind an end of a line of old": ({"ops/last": "x = 1\rraise OSError\r"}, "ops/last.py"),
    "in a branch in a class": ({"ops/last": "class A:\n    x = 1\n    if x:\n        raise OSError\n"}, "ops/last.py"),
    "in a module that is passed over only for what is missing": ({"ops/last": "try:\n    from .other import x\nexcept ImportError:\n    x = 0\n", OTHER: "raise OSError\n"}, "ops/other.py"),
    "a loop of modules": ({"ops/last": "from . import other\n", OTHER: "from . import more\n", "ops/more": "from . import other\nassert not other\n"}, "ops/more.py"),
}  # fmt: skip


@pytest.mark.parametrize("what", FAILS)
def test_an_import_that_fails_is_not_called_fine(tmp_path: Path, what: str) -> None:
    """What is missing is told with who imports it; a statement that refuses with its file, and the line that it begins at."""
    files, blamed = FAILS[what]
    lay_out(tmp_path, files)
    found, real = scanned(tmp_path), really(tmp_path)
    assert real.error is not None
    if blamed.startswith("aiter."):
        assert real.error == "ModuleNotFoundError"
        assert blamed in found.missing
        assert found.modules[found.missing[blamed]] == real.file
        assert not found.refusals
    else:
        assert not found.missing
        ((path, line, _),) = found.refusals
        assert path == blamed
        if real.line and real.file == blamed and line:
            assert line == begin(tmp_path, blamed, real.line)


@pytest.mark.parametrize("text", ["import not_there\n", "from not_there.x import y\n", "import os, not_there as n\n"])
def test_a_package_that_no_release_needs_is_told(tmp_path: Path, text: str) -> None:
    """Whether it is there is not known; Python's own, those of releases, and aiter's own on `sys.path` are none."""
    usual = "import os, torch.nn as nn\nimport chip_info\nfrom torch_guard import x\nfrom . import other\n"
    passed = "try:\n    import passed_over\nexcept ImportError:\n    pass\n"
    own = {"jit/__init__": "", "jit/utils/__init__": "", "jit/utils/chip_info": "", "ops/other": passed}
    lay_out(tmp_path, {**own, "ops/last": f"{usual}{text}"})
    assert scanned(tmp_path).others == {"not_there": MODULE}


def test_a_statement_that_may_refuse_is_told_by_its_digest(tmp_path: Path) -> None:
    """A branch as it stands; a function that is called with the line that calls it. History is known by these."""
    body = "def f():\n    raise OSError"
    lay_out(tmp_path, {"ops/last": f"x = 1\nif x:\n    raise OSError\n{body}\ny = f()\nz = f()\n"})
    assert scanned(tmp_path).refusals == [
        ("ops/last.py", 2, text_digest("if x:\n    raise OSError")),
        ("ops/last.py", 6, text_digest(f"{body}\ny = f()")),
        ("ops/last.py", 7, text_digest(f"{body}\nz = f()")),
    ]


def test_each_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """As a whole, and what it would import is not looked for."""
    lay_out(
        tmp_path,
        {"ops/last": "from . import other, more\nfrom . import pack\n", OTHER: "\0", "ops/more": "", "ops/pack": X},
    )
    found = scanned(tmp_path)
    assert sorted(found.refusals) == [("ops/more.py", 0, "cannot be read"), ("ops/other.py", 0, "cannot be read")]
    assert "aiter.ops.pack" in found.modules


def test_a_branch_that_cannot_be_parsed_may_refuse(tmp_path: Path) -> None:
    """A text that comes back to the left edge ends it for the scan, and what is left is no Python."""
    lay_out(tmp_path, {"ops/last": "if 1:\n    # raise\n    s = '''\ntext\n'''\n"})
    assert really(tmp_path).error is None
    assert [(path, line) for path, line, _ in scanned(tmp_path).refusals] == [("ops/last.py", 1)]
