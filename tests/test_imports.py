"""What asking the machine imports, opens, starts and prints: seen by an audit hook in a process of its own."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nsa_caps import AotKernel
from nsa_caps.testing import lay_out_packages
from tests import imported
from tests.house import PACKAGE, CircleError, arrows, floors, imports, module_name, package_of
from tests.watched import SOURCES, watch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.house import Import

HEAVY = {
    "torch",
    "triton",
    "aiter",
    "numpy",
    "rich",
    "importlib_metadata",
    "deep_gemm",
    "pynvml",
    "hypothesis",
    "pytest",
}
ASK = "import nsa_caps; nsa_caps.decide(nsa_caps.probe(engine='sglang'))"
COMMAND = "from nsa_caps.cli import main; code = main(['--json']); assert code == 0, code"


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """Return an import folder with a whole ROCm stack that would leave a trace wherever it were imported."""
    site = tmp_path / "site"
    kernel = AotKernel("paged_mqa_logits_preshuffle_64x256x128_B64PFW2", complete=True, arch="gfx942")
    lay_out_packages(
        site,
        platform="rocm",
        torch="2.9.1",
        triton="3.6.0",
        aiter="04907edc",
        aiter_version="0.1.16",
        bundle=[kernel],
        deep_gemm="2",
    )
    for file in (*site.rglob("*.py"),):
        trace = f"open({str(tmp_path / 'executed')!r}, 'a').write({file.name!r})\n"
        file.write_text(file.read_text() + trace)
    return site


@pytest.mark.parametrize(
    "options", [(), ("-O",), ("-OO",), ("-X", "importtime")], ids=["plain", "O", "OO", "importtime"]
)
@pytest.mark.parametrize("body", [ASK, COMMAND], ids=["probe and decide", "nsa-caps --json"])
def test_asking_imports_nothing_heavy(tmp_path: Path, poisoned: Path, body: str, options: tuple[str, ...]) -> None:
    """Neither torch, triton, aiter, numpy nor rich is imported, however Python is run; nor is any of it executed."""
    seen = watch(tmp_path, body, site=poisoned, options=options)
    assert seen.imported & HEAVY == set()
    assert not (tmp_path / "executed").exists()
    assert any(path.startswith(str(poisoned)) for path in seen.opened), "the stack was looked at"


@pytest.mark.parametrize("body", [ASK, COMMAND], ids=["probe and decide", "nsa-caps --json"])
def test_asking_touches_nothing(tmp_path: Path, poisoned: Path, body: str) -> None:
    """No device is opened, no process started, no file written, no library loaded and no environment changed."""
    seen = watch(tmp_path, body, site=poisoned)
    # DeepGEMM's extension is read as a file; what is loaded as a library is told by another event.
    libraries = [path for path in seen.opened if path.endswith(".so") and "/deep_gemm/" not in path]
    assert [path for path in seen.opened if path.startswith("/dev/")] == libraries == seen.loaded == []
    assert seen.started == []
    assert seen.written == []


@pytest.mark.parametrize("body", [ASK, COMMAND], ids=["probe and decide", "nsa-caps --json"])
def test_asking_imports_nothing_of_a_dry_run(tmp_path: Path, poisoned: Path, body: str) -> None:
    """What executes aiter's code is not even loaded where nobody asks for it."""
    seen = watch(tmp_path, body, site=poisoned)
    assert not [name for name in seen.imported if name.startswith("nsa_caps.probes.dry_run")]


def test_probing_and_deciding_print_nothing(tmp_path: Path, poisoned: Path) -> None:
    """A library that is asked at start-up keeps quiet."""
    seen = watch(tmp_path, ASK, site=poisoned)
    assert (seen.stdout, seen.stderr) == ("", "")


def test_the_command_prints_one_document(tmp_path: Path, poisoned: Path) -> None:
    """`nsa-caps --json` puts a single JSON document on stdout, and nothing else."""
    document = json.loads(watch(tmp_path, COMMAND, site=poisoned).stdout)
    assert isinstance(document, dict)


def test_importing_reads_no_machine(tmp_path: Path, poisoned: Path) -> None:
    """`import nsa_caps` alone looks at nothing of the machine: no package, no sysfs, no environment."""
    seen = watch(tmp_path, "import nsa_caps", site=poisoned)
    looked_at = [path for path in seen.opened if path.startswith((str(poisoned), "/sys", "/proc", "/dev"))]
    assert looked_at == []
    assert {name.partition(".")[0] for name in seen.imported} & HEAVY == set()
    assert "nsa_caps" in seen.imported


def test_the_engines_shims_import_no_engine(tmp_path: Path, poisoned: Path) -> None:
    """`nsa_caps.engines` brings neither the engines nor anything heavy, before it is asked to patch one."""
    seen = watch(tmp_path, "from nsa_caps.engines import atom, sglang, vllm", site=poisoned)
    assert seen.imported & {*HEAVY, "sglang", "vllm"} == set()


def test_the_test_kit_needs_no_test_library(tmp_path: Path) -> None:
    """`nsa_caps.testing` imports neither pytest nor hypothesis; its strategies bring the latter."""
    assert watch(tmp_path, "import nsa_caps.testing").imported & HEAVY == set()
    assert "hypothesis" in watch(tmp_path, "import nsa_caps.testing.strategies").imported


def test_the_module_runs_as_a_command(tmp_path: Path) -> None:
    """`python -m nsa_caps` is the command, with asserts stripped too."""
    environ = {**os.environ, "PYTHONPATH": str(SOURCES)}
    for options in ((), ("-O",)):
        done = subprocess.run(
            [sys.executable, *options, "-m", "nsa_caps", "--json"],
            env=environ, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr
        assert isinstance(json.loads(done.stdout), dict)


def test_a_start_up_imports_the_modules_that_are_recorded() -> None:
    """A module more costs every engine's start-up: whoever means it runs `python -m tests.imported`."""
    recorded = imported.RECORD.read_text(encoding="utf-8").splitlines()
    assert imported.lines() == recorded
    # What is asked has nothing left to import, so that its budget is whole.
    assert recorded[recorded.index("probe and select") + 1] == "nsa-caps --json"


@pytest.mark.parametrize("asked", imported.RECORDED)
def test_of_the_standard_library_a_start_up_imports_what_it_stands_on(tmp_path: Path, asked: str) -> None:
    """Whatever else comes in, as `traceback`, `tempfile` or `html` would, is for what was not asked."""
    allowed = watch(tmp_path, imported.STANDS_ON.strip().replace("\n", ";")).imported
    found = imported.imported(tmp_path, imported.RECORDED[asked])
    assert {name for name in found - allowed if name.partition(".")[0] != "nsa_caps"} == set()


def test_the_reader_of_aiter_comes_in_where_its_source_is_no_releases(tmp_path: Path) -> None:
    """It is a quarter of what there is to import, and an aiter that is known by its digest needs none of it."""
    reader = "nsa_caps.probes.aiter.reader"
    assert reader in imported.imported(tmp_path / "patched", imported.ASK, "04907edc")
    known = (
        "from nsa_caps.probes import installed_aiter as probe; from nsa_caps import AiterSource;"
        "probe.known_facts = lambda files, table: AiterSource(as_in='v0.1.16');" + imported.ASK
    )
    assert reader not in imported.imported(tmp_path / "known", known, "04907edc")


# --- The house: packages stand on floors, and import only what lies below.

# Each package on its floor. A package may import those on lower floors, and none beside or above.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("_version", "archs", "errors"),
    ("base", "page_table"),
    ("capabilities", "pages"),
    ("kernels", "policy", "probes", "switches"),
    ("reasons", "requirements", "rows", "selfcheck"),
    ("layout",),
    ("agreement", "engines", "report", "testing"),
    ("__init__", "cli"),
    ("__main__",),
)
MOST_FLOORS = 9


def above_or_beside(found: Iterable[Import]) -> list[str]:
    """Return the imports that do not lead down."""
    order = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    return [
        f"{each.module}:{each.line} imports {each.imported}"
        for each in found
        if (left := package_of(each.module)) != (right := package_of(each.imported)) and order[left] <= order[right]
    ]


def test_every_import_leads_down() -> None:
    """No package imports one beside or above it: not at module level, nor in a function, nor for type checkers."""
    found = list(imports())
    assert {package_of(name) for each in found for name in each[:2]} == {name for names in FLOORS for name in names}
    assert above_or_beside(found) == []
    assert len(FLOORS) <= MOST_FLOORS
    assert max(floors(arrows(found, packages=True)).values()) <= MOST_FLOORS


def test_no_modules_import_each_other() -> None:
    """There is no circle of modules, and so none of packages."""
    found = list(imports())
    floors(arrows(found, packages=False))
    floors(arrows(found, packages=True))


@pytest.mark.parametrize(
    "text",
    [
        "from nsa_caps.layout.layout import IndexerLayout",
        "import nsa_caps.layout.layout",
        "from nsa_caps.layout import layout",
        "def f():\n    from nsa_caps.layout.layout import IndexerLayout",
        "if TYPE_CHECKING:\n    from nsa_caps.layout.layout import IndexerLayout",
        "class C:\n    def f(self):\n        if 1:\n            import nsa_caps.layout.layout as late",
    ],
)
def test_an_import_that_leads_up_is_found_wherever_it_stands(tmp_path: Path, text: str) -> None:
    """Put into `policy/rows.py`, an import of the layout is both a way up and a circle."""
    copy = tmp_path / "nsa_caps"
    shutil.copytree(PACKAGE, copy)
    file = copy / "policy" / "rows.py"
    file.write_text(f"{file.read_text()}\n{text}\n")
    found = list(imports(copy))
    assert [line.partition(" imports ")[2].partition(".")[0] for line in above_or_beside(found)] == ["layout"]
    with pytest.raises(CircleError, match="policy -> "):
        floors(arrows(found, packages=True))


# Imported late as they cost an engine's start-up: heavy packages, what needs one at its top, and what starts a process.
LATE = {"torch", "triton", "rich", "importlib_metadata", "numpy", "pynvml", "subprocess"}
# The only other modules of our own that a function may import: who does, what, and which calls need it.
LATE_OF_OURS = {
    ("layout.cached", "nsa_caps.selfcheck.proof"): "those with `prove=`",
    ("layout.cached", "nsa_caps.selfcheck.prove"): "those with `prove=`",
    ("probes.installed_aiter", "nsa_caps.probes.aiter.reader"): "those that find an aiter which is no known release's",
    ("probes.kept", "nsa_caps.probes.kept_files"): "those that find a folder of kept verdicts",
    ("selfcheck.prove", "nsa_caps.selfcheck.task"): "those that find no kept verdict",
}


def late_imports() -> Iterator[tuple[str, str]]:
    """Return the imports of the package's own that stand in a function: the module, and what it imports there."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(function):
                    if isinstance(node, ast.ImportFrom) and str(node.module).startswith("nsa_caps"):
                        yield module_name(file), str(node.module)


def test_late_imports_of_our_own_bring_something_heavy() -> None:
    """A function imports a module of our own only for torch or Triton, for a whole command, or as the list says."""
    light = {
        (module, late)
        for module, late in late_imports()
        if package_of(module) != "cli" and not (set(top_level_imports(late)) & LATE)
    }
    assert light == set(LATE_OF_OURS)


def top_level_imports(module: str) -> Iterator[str]:
    """Return the packages that a module of this package imports at its top, or those of its own that it imports."""
    base = SOURCES.joinpath(*module.split("."))
    file = base.with_suffix(".py") if base.with_suffix(".py").exists() else base / "__init__.py"
    for node in ast.parse(file.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            yield name.partition(".")[0]
            if name.startswith("nsa_caps."):
                yield from top_level_imports(name)


@pytest.mark.parametrize("package", ["policy", "capabilities"])
def test_the_policy_is_pure(package: str) -> None:
    """From capabilities to decision nothing imports the operating system, a clock, or the machine."""
    forbidden = {"os", "sys", "io", "pathlib", "subprocess", "time", "datetime", "random", "socket", "torch", "triton"}
    found = {
        (module_name(file), alias.name if isinstance(node, ast.Import) else str(node.module))
        for file in (PACKAGE / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    # os.path is arithmetic on text.
    assert {(module, name) for module, name in found if name.partition(".")[0] in forbidden} <= {
        ("policy.fact_lines", "os")
    }


def test_no_module_is_long() -> None:
    """A module is read in one sitting: none is over 350 lines."""
    long = {module_name(file): len(file.read_text().splitlines()) for file in PACKAGE.rglob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > 350} == {}
