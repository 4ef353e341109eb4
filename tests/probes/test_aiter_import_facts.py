"""The facts of what `import aiter` meets, and what is told where they are not known: its file, its line, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import Host
from nsa_caps.probes.aiter.files import PackageFiles
from nsa_caps.probes.aiter.imports import fp8_facts, gate_facts, trim_facts
from nsa_caps.probes.aiter.machines import page_sizes
from nsa_caps.probes.installed_aiter import aiter_source
from nsa_caps.testing import GENERATIONS, write_aiter_tree

if TYPE_CHECKING:
    from pathlib import Path

GATE, TYPES = "ops/triton/gluon/__init__.py", "utility/dtypes.py"
FNUZ, FN = "torch.float8_e4m3fnuz", "torch.float8_e4m3fn"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return an import folder with the newest generation of aiter."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    return tmp_path


def facts(site: Path, find: Any, name: str, text: str) -> tuple[dict[str, Any], list[tuple[str, int, str]]]:
    """Return what is found where one file has this text, and what is told: file, line and detail."""
    (site / "aiter" / name).write_text(text)
    found, events = find(PackageFiles(Host({}, (str(site),), {}, "/nowhere"), str(site / "aiter")))
    return found, [(event.file, event.line, event.detail) for event in events]


PACKAGE = "from .utility import dtypes\n"
UNLESS = "import os\nif os.getenv('{}') != '1':\n    from .utility import dtypes\n"


@pytest.mark.parametrize(
    ("text", "trimmed"),
    [
        (PACKAGE, ()),
        (
            "import os\nif os.getenv('AITER_AOT_IMPORT') != '1':\n    from .utility import dtypes\n",
            ("AITER_AOT_IMPORT",),
        ),
        (
            "import os\nif os.getenv('AITER_TRITON_ONLY') != '1':\n    from .utility import dtypes\n",
            ("AITER_TRITON_ONLY",),
        ),
        ("import os\nos.getenv('AITER_AOT_IMPORT')\nfrom .utility import dtypes\n", ()),
    ],
)
def test_a_variable_that_leaves_dtypes_out_is_named(site: Path, text: str, trimmed: tuple[str, ...]) -> None:
    """One that is read for something else is not."""
    assert facts(site, trim_facts, "__init__.py", text) == ({"trimmed_by": trimmed}, [])


@pytest.mark.parametrize(
    "text",
    [
        "x = 1\n",
        "import triton\nif triton.__version__ == '3.7.0':\n    from .utility import dtypes\n",
        "import os\nif os.getenv('AITER_AOT_IMPORT') != '0':\n    from .utility import dtypes\n",
        "from .jit import core as dtypes\n",
    ],
)
def test_another_way_to_leave_dtypes_out_is_not_known(site: Path, text: str) -> None:
    """It is told of the file as a whole."""
    told = [("__init__.py", 0, "another way to leave dtypes out")]
    assert facts(site, trim_facts, "__init__.py", text) == ({}, told)


@pytest.mark.parametrize(
    ("text", "line", "detail"),
    [
        ("from .utility import dtypes\nraise OSError\n", 2, "OSError"),
        ("from .utility import dtypes\n\nfor x in (1,):\n    pass\n", 3, None),
        ("from .utility import dtypes\nimport aiter.nothing\n", 2, "ModuleNotFoundError"),
        ("import os\nfrom .utility import dtypes\nassert os.getenv('AITER_AOT_IMPORT') is None\n", 3, "AssertionError"),
    ],
)
def test_a_package_that_may_refuse_has_no_facts(site: Path, text: str, line: int, detail: str | None) -> None:
    """What refuses, or is not understood, is told at its line."""
    found, told = facts(site, trim_facts, "__init__.py", text)
    assert found == {}
    assert [each[:2] for each in told] == [("__init__.py", line)]
    assert detail is None or told[0][2] == detail


def test_what_is_not_understood_is_blamed_before_what_is_raised(site: Path) -> None:
    """A statement that raises behind one that is not understood may never run."""
    _, told = facts(site, trim_facts, "__init__.py", "for x in (1,):\n    pass\nraise OSError\n")
    assert [line for _, line, _ in told] == [1]


@pytest.mark.parametrize("find", [trim_facts, fp8_facts, gate_facts])
def test_a_source_without_an_end_is_told_by_its_module(site: Path, find: Any) -> None:
    """More steps than any aiter takes: nothing is known, and no line is blamed."""
    name = {trim_facts: "__init__.py", fp8_facts: TYPES, gate_facts: GATE}[find]
    module = {trim_facts: "aiter", fp8_facts: "aiter.utility.dtypes", gate_facts: "aiter.ops.triton.gluon"}[find]
    deep = f"x = {'(1 + ' * 70}1{')' * 70}\n"
    assert facts(site, find, name, deep) == ({}, [(module, 0, "deeper than any aiter nests")])


TABLE = "import torch\nfrom ..jit.utils.chip_info import get_gfx\nfp8 = {{{}}}.get(get_gfx(), torch.uint8)\n"


@pytest.mark.parametrize(
    ("entries", "archs"),
    [
        (f"'gfx942': {FNUZ}, 'gfx950': {FN}", ("gfx942", "gfx950")),
        (f"'gfx950': {FN}", ("gfx950",)),
        ("", ()),
    ],
)
def test_the_archs_with_the_fp8_type_of_their_gpu_are_found(site: Path, entries: str, archs: tuple[str, ...]) -> None:
    """An arch without one has uint8."""
    assert facts(site, fp8_facts, TYPES, TABLE.format(entries)) == ({"fp8_archs": archs}, [])


@pytest.mark.parametrize(("arch", "kind"), [("gfx942", FN), ("gfx950", FNUZ), ("gfx1250", "torch.int8")])
def test_another_type_than_that_of_the_gpu_is_not_known(site: Path, arch: str, kind: str) -> None:
    """The arch is told, and its type."""
    found, told = facts(site, fp8_facts, TYPES, TABLE.format(f"'{arch}': {kind}"))
    assert (found, told) == ({}, [(TYPES, 0, f"{kind} for {arch}")])


def test_types_that_refuse_an_arch_are_not_known(site: Path) -> None:
    """The line that refuses is told."""
    text = TABLE.format(f"'gfx942': {FNUZ}") + "assert get_gfx() != 'gfx942'\n"
    assert facts(site, fp8_facts, TYPES, text) == ({}, [(TYPES, 4, "AssertionError")])


def read(site: Path) -> tuple[Any, tuple[str, ...]]:
    """Return what a whole reading comes to, and what it does not account for."""
    source = aiter_source(Host({}, (str(site),), {}, "/nowhere"))["aiter_source"]
    return source, source.unaccounted


@pytest.mark.parametrize(
    "name", ["utility/dtypes.py", "ops/cache.py", "jit/utils/chip_info.py", "ops/triton/gluon/pa_mqa_logits.py"]
)
def test_a_deciding_module_that_is_gone_is_named(site: Path, name: str) -> None:
    """Its facts are unknown for want of the file."""
    (site / "aiter" / name).unlink()
    assert any(line.startswith(f"{name}: is not there") for line in read(site)[1])
    write_aiter_tree(site, GENERATIONS["04907edc"])
    assert read(site)[1] == ()


def test_a_newer_package_without_the_logits_is_told_by_its_newest_place(site: Path) -> None:
    """It may have moved the module, of which nothing is known."""
    (site / "aiter/ops/triton/attention/pa_mqa_logits.py").unlink()
    told = ("ops/triton/attention/pa_mqa_logits.py: is not there: there is no logits module",)
    assert read(site)[1] == told


def test_who_imports_what_is_missing_is_told(site: Path) -> None:
    """By the file, of a package too."""
    path = site / "aiter/ops/attention.py"
    path.write_text(f"from .other.inner import x\n{path.read_text()}")
    (path.parent / "other").mkdir()
    (path.parent / "other/more.py").write_text("x = 1\n")
    source, told = read(site)
    assert source.imports is None
    assert "ops/other/inner.py: is not there, and ops/attention.py imports it" in told


def test_a_package_that_no_release_needs_makes_the_import_unknown(site: Path) -> None:
    """It may not be there, or refuse: told with the file that imports it."""
    path = site / "aiter/ops/attention.py"
    path.write_text(f"import xformers.ops\n{path.read_text()}")
    source, told = read(site)
    assert source.imports is None
    assert "ops/attention.py: imports xformers, which no release of aiter needs" in told


@pytest.mark.parametrize("text", ["GFX_MAP = 3", "GFX_MAP = {0: 1}", "GFX_MAP = {0: 'gfx942', 1: None}", "x = 1"])
def test_an_arch_map_that_is_none_is_not_known(site: Path, text: str) -> None:
    """Of a map from numbers to names its names are the archs."""
    path = site / "aiter/jit/utils/build_targets.py"
    path.write_text(text)
    assert read(site)[0].known_archs is None
    path.write_text("GFX_MAP = {0: 'native', 7: 'gfx942', 8: 'gfx950'}\n")
    assert read(site)[0].known_archs == ("gfx942", "gfx950")


def test_page_sizes_from_two_to_4096_are_looked_at() -> None:
    """Beside those that are looked at anyway."""
    own = set(page_sizes("0 1 2 3 4096 4097")) - set(page_sizes(""))
    assert own == {3, 4096}
    assert page_sizes("").count(1) == 1 == page_sizes("1 1").count(1)


VERSIONS = "import os\nimport triton\nfrom packaging.version import Version\n"
OLD = "Version(triton.__version__) < Version('3.5.0')"


def test_a_way_out_is_one_of_the_first_two_variables(site: Path) -> None:
    """Of a gate that reads a third before, nothing is known."""
    gate = f"if {OLD} and int(os.environ.get('AITER_OUT', '0')) == 0:\n    raise ImportError\n"
    for others, known in ((0, True), (1, True), (2, False)):
        before = "".join(f"os.environ.get('V{at}')\n" for at in range(others))
        found, _ = facts(site, gate_facts, GATE, f"{VERSIONS}{before}{gate}")
        assert found == ({"gate_triton": "3.5.0", "gate_escape": "AITER_OUT"} if known else {})


def test_what_another_module_refuses_is_no_gate(site: Path) -> None:
    """Even where it looks like one: it is told where it stands."""
    other = "ops/triton/gluon/triton_version.py"
    (site / "aiter" / other).write_text(f"{VERSIONS}assert not {OLD}\n")
    text = "from . import triton_version\n# '3.5.0'\n"
    assert facts(site, gate_facts, GATE, text) == ({}, [(other, 4, "AssertionError")])
