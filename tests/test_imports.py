"""What asking the machine imports, opens, starts and prints: seen by an audit hook in a process of its own."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nsa_caps import AotKernel
from nsa_caps.testing import lay_out_packages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SOURCES = Path(__file__).parents[1] / "src"
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
# Only what was opened, started or written by the code under test counts, not what Python's own start did.
HOOK = """
import json, sys
seen = {"open": [], "write": [], "start": [], "import": []}
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "pty.spawn")
WRITES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "shutil.copyfile", "os.utime", "os.putenv", "os.unsetenv", "socket.connect", "socket.bind")
def hook(event, args):
    if event == "open":
        path, mode, flags = args
        seen["open"].append(str(path))
        # O_WRONLY and O_RDWR
        if flags & 3 and not str(path).endswith((".pyc", "/seen")) and "__pycache__" not in str(path):
            seen["write"].append(str(path))
    elif event in STARTS:
        seen["start"].append(event)
    elif event in WRITES:
        seen["write"].append(f"{event} {args}")
    elif event in ("ctypes.dlopen",):
        seen["open"].append(str(args[0]))
sys.addaudithook(hook)
try:
    {body}
finally:
    seen["import"] = sorted(sys.modules)
    json.dump(seen, open({place!r}, "w"))
"""
ASK = "import nsa_caps; nsa_caps.decide(nsa_caps.probe(engine='sglang'))"
COMMAND = "from nsa_caps.cli import main; code = main(['--json']); assert code == 0, code"


@dataclass(frozen=True)
class Seen:
    """What a process did."""

    opened: list[str]
    written: list[str]
    started: list[str]
    imported: set[str]
    stdout: str
    stderr: str


def watch(folder: Path, body: str, *, site: Path | None = None, options: Iterable[str] = ()) -> Seen:
    """Run a statement in a process of its own and return what it did; `site` comes first on its import path."""
    place = folder / "seen"
    code = HOOK.replace("{body}", body).replace("{place!r}", repr(str(place)))
    path = os.pathsep.join(str(entry) for entry in (site, SOURCES) if entry)
    environ = {**os.environ, "PYTHONPATH": path, "SGLANG_USE_AITER": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for variable in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        environ.pop(variable, None)
    done = subprocess.run(
        [sys.executable, *options, "-c", code], env=environ, capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(place.read_text())
    return Seen(seen["open"], seen["write"], seen["start"], set(seen["import"]), done.stdout, done.stderr)


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
    assert [path for path in seen.opened if path.startswith("/dev/") or path.endswith(".so")] == []
    assert seen.started == []
    assert seen.written == []


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


# --- Layers: each module may import those before it at module level, and none behind it.

LAYERS = (
    ("errors", "_version", "frozen"),
    ("versions", "bounded"),
    ("host",),
    ("capabilities",),
    ("records",),
    ("pages",),
    ("switches",),
    ("aiter_releases",),
    ("request",),
    ("probes", "plugins"),
    ("changes",),
    ("reasons",),
    ("aiter_gates",),
    ("caveats",),
    ("requirements",),
    ("aiter_requirements", "gluon_requirements"),
    ("rows",),
    ("explain",),
    ("policy",),
    ("layout", "page_table"),
    ("once",),
    ("kernels", "engines"),
    ("stance",),
    ("apart",),
    ("handshake",),
    ("selfcheck", "agreement"),
    ("matrix", "fleet"),
    ("report", "svg", "console", "arguments", "options"),
    ("fleet_svg",),
    ("cli",),
    ("__main__", "__init__", "testing"),
)
ORDER = {name: level for level, names in enumerate(LAYERS) for name in names}
# Modules whose names begin alike belong together.
GROUPS = ("selfcheck", "agreement")
PACKAGE = SOURCES / "nsa_caps"


def layer(file: Path) -> str:
    """Return the name that a module counts under: its folder's below the package, its group's, else its own."""
    name = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return next((group for group in GROUPS if name.startswith(group)), name)


def imports(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Return the modules that statements import when they are run, those for type checkers left out."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from nsa_caps import requirements` imports the module of that name.
            yield from (
                f"{node.module}.{alias.name}" if node.module == "nsa_caps" else str(node.module) for alias in node.names
            )
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from imports([*node.body, *node.orelse])
        elif isinstance(node, (ast.Try, ast.With, ast.ClassDef)):
            yield from imports(node.body)


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


@pytest.mark.parametrize("file", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_upstream_imports_downstream(file: Path) -> None:
    """At module level a module imports only what lies before it on the way from the machine to the layout."""
    assert layer(file) in ORDER, "a new module needs its place in LAYERS"
    wrong = [
        name
        for name in imports(ast.parse(file.read_text()).body)
        if name.startswith("nsa_caps.") and ORDER.get(layer(PACKAGE / name.split(".")[1]), -1) > ORDER[layer(file)]
    ]
    assert wrong == []


PURE: tuple[str, ...] = (
    "policy",
    "rows",
    "requirements",
    "aiter_requirements",
    "gluon_requirements",
    "aiter_gates",
    "changes",
)
PURE += ("reasons", "request", "switches", "capabilities", "explain", "pages", "versions")


@pytest.mark.parametrize("name", PURE)
def test_the_policy_is_pure(name: str) -> None:
    """From capabilities to decision nothing imports the operating system, a clock, or the machine."""
    allowed_os = {"explain"}  # os.path, which is arithmetic on text
    modules = {each.partition(".")[0] for each in imports(ast.parse((PACKAGE / f"{name}.py").read_text()).body)}
    forbidden = {"os", "sys", "io", "pathlib", "subprocess", "time", "datetime", "random", "socket", "torch", "triton"}
    if name in allowed_os:
        forbidden -= {"os"}
    assert modules & forbidden == set()
