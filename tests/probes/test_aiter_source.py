"""What aiter's source shows of its gates: each generation's facts, and None for every shape that is not known."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from nsa_caps import AiterSource, Host, Note, decide, probe
from nsa_caps.capabilities.aiter_history import AITER_RELEASES
from nsa_caps.probes.aiter.reader import aiter_source
from nsa_caps.testing import GENERATIONS, AiterTreeError, lay_out_packages, machine, write_aiter_tree

if TYPE_CHECKING:
    from collections.abc import Callable

NEW, OLD = "ops/triton/attention/pa_mqa_logits.py", "ops/triton/pa_mqa_logits.py"
GATE, CACHE, KERNELS = "ops/triton/gluon/__init__.py", "ops/cache.py", "ops/triton/gluon/pa_mqa_logits.py"
AITER_ROWS = ("aiter-preshuffle", "aiter-flat", "aiter-token")


def found(site: Path) -> tuple[AiterSource, tuple[Note, ...]]:
    """Return what the source of the aiter in this import folder shows, and the notes."""
    result = aiter_source(Host({}, (str(site),), {}, "/nowhere"))
    source = result["aiter_source"]
    assert isinstance(source, AiterSource)
    return source, result["notes"]


def unknown(source: AiterSource) -> set[str]:
    """Return the names of the facts that were not found."""
    return {field.name for field in fields(source) if getattr(source, field.name) is None}


def without(source: AiterSource, names: set[str]) -> AiterSource:
    """Return the facts with some of them not known."""
    facts: dict[str, Any] = dict.fromkeys(names)
    return replace(source, **facts)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_shows_its_facts(tmp_path: Path, generation: str) -> None:
    """From a tree written with a generation's gates, exactly its facts are read."""
    written = write_aiter_tree(tmp_path, GENERATIONS[generation])
    source, notes = found(tmp_path)
    assert source == written
    # fe927e8d's plain kernel has neither the one rule for its pages nor the other.
    assert [note.text for note in notes] == (
        ["not found in a known shape: plain_pages"] if generation == "fe927e8d" else []
    )


def test_every_generation_differs_from_the_one_before() -> None:
    """Each generation is there because some gate changed with it."""
    sources = list(GENERATIONS.values())
    assert len(set(sources)) == len(sources)


@pytest.mark.parametrize("name", AITER_RELEASES)
def test_the_releases_that_a_fix_names_are_generations(name: str) -> None:
    """What a fix promises of a release is what the source at its commit shows."""
    release = AITER_RELEASES[name]
    assert release.source == GENERATIONS[release.commit]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_real_source_shows_the_same(tmp_path: Path, aiter_checkout: Path, generation: str) -> None:
    """From the real source at the generation's commit the same facts are read (`--aiter-checkout`)."""
    paths = ["aiter/__init__.py", "aiter/jit", "aiter/ops", "aiter/utility"]
    archive = subprocess.run(
        ["git", "-C", aiter_checkout, "archive", generation, *paths], capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(tmp_path, filter="data")
    source, notes = found(tmp_path)
    expected = replace(GENERATIONS[generation], location=str(tmp_path / "aiter"))
    if generation in ("fe927e8d", "914dcee3") and sys.version_info < (3, 12):
        # Its f-strings nest equal quotes, which only Python 3.12 and later read: nothing of the module is known here.
        expected = without(expected, {*MODULE, "logits_module"})
        assert "cannot parse it" in notes[0].text
    assert source == expected


@pytest.mark.parametrize("installed", [None, "impostor"])
def test_no_aiter_of_amds_shows_nothing(tmp_path: Path, installed: str | None) -> None:
    """Without AMD's aiter there is no source to read."""
    lay_out_packages(tmp_path, aiter=installed)
    assert aiter_source(Host({}, (str(tmp_path),), {}, "/nowhere")) == {}


def test_the_newer_place_of_the_module_comes_first(tmp_path: Path) -> None:
    """Where both places have a file, as with a leftover of an older installation, the newer one is imported."""
    write_aiter_tree(tmp_path, GENERATIONS["914dcee3"])
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    assert found(tmp_path)[0].plain_pages == "any"


def test_the_arch_map_in_its_newer_place(tmp_path: Path) -> None:
    """GFX_MAP moved to build_targets.py; chip_info.py then only imports it."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    utils = tmp_path / "aiter/jit/utils"
    (utils / "build_targets.py").write_text("GFX_MAP = {0: 'native', 1: 'gfx942'}\n")
    assert found(tmp_path)[0].known_archs == ("gfx942",)


def test_a_name_that_every_triton_gets_is_no_name_error(tmp_path: Path) -> None:
    """Where `get_cdna_version` is imported for old Tritons too, their AOT path can call it."""
    write_aiter_tree(tmp_path, GENERATIONS["10c87ea1"])
    path = tmp_path / "aiter" / NEW
    path.write_text("from aiter.ops.triton.gluon.pa_decode_gluon import get_cdna_version\n" + path.read_text())
    assert found(tmp_path)[0].aot_needs_gluon_triton is False


def edit(file: str, old: str, new: str) -> Edit:
    """Return the file and a function that replaces a piece of its text."""

    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return file, change


def add(file: str, text: str) -> Edit:
    """Return the file and a function that adds lines at its end."""
    return file, lambda before: before + text + "\n"


GATED = {"triton_comparison", "gluon_triton", "triton_gap", "aot_stops_jit", "aot_needs_gluon_triton", "arch_gate"}
GATED |= {"gluon_archs"}
MODULE = {*GATED, "logits_preshuffle", "plain_pages", "chunk_rule", "gfx1250_waves"}
Edit: TypeAlias = "tuple[str, Callable[[str], str]]"
UNFAMILIAR: dict[str, tuple[Edit, set[str]]] = {
    "the module cannot be parsed": (add(NEW, "def"), {*MODULE, "logits_module"}),
    "the function has another name": (
        edit(NEW, "def deepgemm_fp8_paged_mqa_logits(", "def paged_logits("),
        MODULE,
    ),
    "the gate compares otherwise": (edit(NEW, ">= Version(", "> Version("), GATED),
    "the gate compares something else": (edit(NEW, "base_version)", "public)"), GATED),
    "the gate stands twice": (add(NEW, 'if triton_version >= Version("3.7.0"):\n    pass'), GATED),
    "the AOT variable is read otherwise": (edit(NEW, '== "1"', 'in ("1", "true")'), GATED),
    "nothing compiles": (edit(NEW, "def _compile_deepgemm", "def _build_deepgemm"), GATED),
    "the module refuses for a reason of its own": (add(NEW, "assert torch.cuda.is_available()"), GATED),
    "the module raises in a condition": (
        add(NEW, 'if triton_version >= Version("4"):\n    raise RuntimeError'),
        GATED,
    ),
    "a new Triton is refused": (
        edit(NEW, "    enable_gluon_pa_mqa_logits = True", "    assert False\n    enable_gluon_pa_mqa_logits = True"),
        GATED,
    ),
    "gluon is switched on otherwise": (
        edit(NEW, "enable_gluon_pa_mqa_logits = True", "enable_gluon_pa_mqa_logits = f()"),
        {"arch_gate"},
    ),
    "gluon is switched again later": (
        add(NEW, "enable_gluon_pa_mqa_logits = enable_gluon_pa_mqa_logits and f()"),
        {"arch_gate"},
    ),
    "compiling is switched otherwise": (edit(NEW, "_kernel = not ", "_kernel = "), {"aot_stops_jit"}),
    "an old Triton is refused otherwise": (
        edit(NEW, "else:\n    enable", "else:\n    assert f()\n    enable"),
        {"triton_gap"},
    ),
    "get_cdna_version comes from nowhere": (
        edit(NEW, "import get_cdna_version", "import x"),
        {"aot_needs_gluon_triton"},
    ),
    "the archs are asked for otherwise": (edit(NEW, "assert gfx_version", "assert not gfx_version"), {"gluon_archs"}),
    "the archs are asked for twice": (
        edit(NEW, "    gfx_version = get_gfx()\n", "    gfx_version = get_gfx()\n    assert gfx_version != 'gfx950'\n"),
        {"gluon_archs"},
    ),
    "the archs are not asked for": (edit(NEW, "    assert gfx_version", "    gfx_version"), {"gluon_archs"}),
    "pages must fit otherwise": (edit(NEW, "ChunkK % KVBlockSize == 0", "KVBlockSize <= ChunkK"), {"chunk_rule"}),
    "pages must fit something more": (
        edit(NEW, "    assert ChunkK %", "    assert KVBlockSize < 512\n    assert ChunkK %"),
        {"chunk_rule"},
    ),
    "the plain kernel says nothing of pages": (edit(NEW, "        assert KVBlockSize == 1\n", ""), {"plain_pages"}),
    "there is no branch for the plain kernel": (
        edit(NEW, "    if enable_gluon_pa_mqa_logits:", "    if f():"),
        {"plain_pages"},
    ),
    "the store kernel is gone": (edit(CACHE, "def indexer_k", "def k"), {"store_preshuffle"}),
    "the gather kernel is gone": (edit(CACHE, "cp_gather", "gather"), {"gather_preshuffle"}),
    "the arch map is computed": (
        edit("jit/utils/chip_info.py", "'gfx90a'", "name()"),
        {"known_archs"},
    ),
    "the arch map has another name": (edit("jit/utils/chip_info.py", "GFX_MAP", "ARCHS"), {"known_archs"}),
    "the fp8 types are computed": (edit("utility/dtypes.py", "'gfx942'", "name()"), {"fp8_archs"}),
    "the fp8 types have another name": (edit("utility/dtypes.py", "defaultDtypes", "types"), {"fp8_archs"}),
    "the gate cannot be parsed": (add(GATE, "def"), {"gate_triton", "gate_escape"}),
    "the gate may be elsewhere": (
        (GATE, lambda _: "from .check import check\ncheck()\n"),
        {"gate_triton", "gate_escape"},
    ),
    "the gate's minimum is computed": (edit(GATE, 'Version("3.6.0")', "minimum()"), {"gate_triton", "gate_escape"}),
    "the gate compares the whole version": (edit(GATE, '.split("+")[0]', ""), {"gate_triton", "gate_escape"}),
    "the gate has a maximum too": (
        add(GATE, "if _triton_version > _max_version:\n    raise RuntimeError"),
        {"gate_triton", "gate_escape"},
    ),
    "the gate's way out is another one": (edit(GATE, "if int(", "if bool("), {"gate_escape"}),
    "the package may be trimmed otherwise": (
        edit("__init__.py", 'os.getenv("AITER_AOT_IMPORT", "0") == "1"', 'bool(os.getenv("AITER_AOT_IMPORT"))'),
        {"trimmed_by"},
    ),
    "the package reads the variable and does not branch on it": (
        edit("__init__.py", "if AITER_AOT_IMPORT:", "if other:"),
        {"trimmed_by"},
    ),
    "the kernels' layouts are another's": (
        edit(KERNELS, "AMDMFMALayout", "AMDWMMALayout"),
        {"mfma", "mfma_3d", "wide_offsets"},
    ),
    "the kernels have other names": (edit(KERNELS, "_preshuffle(", "_tiled("), {"mfma", "mfma_3d", "wide_offsets"}),
    "the kernels' MFMA version is another one": (edit(KERNELS, "version=CDNA_VERSION", "version=5"), {"mfma"}),
    "the kernels' MFMA versions differ": (
        (KERNELS, lambda text: text.replace("version=CDNA_VERSION", "version=3", 1)),
        {"mfma"},
    ),
}


@pytest.mark.parametrize("shape", UNFAMILIAR)
def test_a_shape_that_is_not_known_is_unknown(tmp_path: Path, shape: str) -> None:
    """Source that differs from every known shape leaves exactly the facts unknown that it might have changed."""
    (file, change), lost = UNFAMILIAR[shape]
    before = write_aiter_tree(tmp_path, GENERATIONS["3b2e6f48"])
    path = tmp_path / "aiter" / file
    path.write_text(change(path.read_text()))
    source, notes = found(tmp_path)
    assert unknown(source) == lost
    assert source == without(before, lost)
    assert notes[-1].text == f"not found in a known shape: {', '.join(sorted(lost))}"
    assert notes[-1].source == str(path)


@pytest.mark.parametrize("shape", UNFAMILIAR)
@pytest.mark.parametrize("triton", ["3.4.0", "3.6.0"])
def test_an_unknown_shape_never_selects(tmp_path: Path, shape: str, triton: str) -> None:
    """A row of aiter that rests on an unknown fact is not chosen, and says which fact it misses."""
    (file, change), lost = UNFAMILIAR[shape]
    environ = {"SGLANG_USE_AITER": "1", "AITER_USE_SYSTEM_TRITON": "1"}
    host = machine(tmp_path / "m", archs=["gfx942"], triton=triton, aiter="3b2e6f48", environ=environ)
    path = Path(host.search_path[0]) / "aiter" / file
    path.write_text(change(path.read_text()))
    decision = decide(probe(host))
    harmless = {"wide_offsets"}
    by_row = {
        "aiter-preshuffle": {"plain_pages", *harmless},
        "aiter-flat": {"store_preshuffle", "gather_preshuffle", *harmless},
        "aiter-token": {"store_preshuffle", "gather_preshuffle", "chunk_rule", "plain_pages", *harmless},
    }
    for row in AITER_ROWS:
        verdict = decision.verdict(row)
        named = {
            name
            for reason in verdict.reasons
            if reason.code == "aiter.source-unknown"
            for name in lost
            if name in str(reason)
        }
        if lost - by_row[row]:
            assert verdict.verdict != "met"
            assert named


@pytest.mark.parametrize("file", [NEW, CACHE, GATE, KERNELS, "ops/attention.py", "jit/utils/chip_info.py"])
def test_a_file_that_cannot_be_read_is_noted(tmp_path: Path, file: str) -> None:
    """A file that is no text leaves its facts unknown, and a note that names it."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    path = tmp_path / "aiter" / file
    path.write_bytes(b"\xff")
    source, notes = found(tmp_path)
    assert unknown(source)
    assert notes[0] == Note("aiter_source", str(path), "not UTF-8 at byte 0")


@pytest.mark.parametrize("file", [CACHE, KERNELS, "ops/attention.py", "jit/utils/chip_info.py", "utility/dtypes.py"])
def test_a_file_that_is_gone_leaves_its_facts_unknown(tmp_path: Path, file: str) -> None:
    """A file that has moved away is no proof of anything."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    (tmp_path / "aiter" / file).unlink()
    assert unknown(found(tmp_path)[0])


def test_a_gluon_package_that_is_not_there_has_no_gate(tmp_path: Path) -> None:
    """Before ef1697db there was no `gluon/__init__.py`, and so no gate in it."""
    write_aiter_tree(tmp_path, GENERATIONS["914dcee3"])
    (tmp_path / "aiter" / GATE).unlink()
    source, _ = found(tmp_path)
    assert (source.gate_triton, source.gate_escape) == ("none", "none")


def test_the_first_kernel_of_all_leaves_no_note(tmp_path: Path) -> None:
    """A source of before the gates has none to be found, which is no surprise."""
    write_aiter_tree(tmp_path, GENERATIONS["d36601a9"])
    source, notes = found(tmp_path)
    assert source.logits_preshuffle is False
    assert notes == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gluon_triton": None}, "gluon_triton is None, needs a value where logits_preshuffle is True"),
        ({"logits_preshuffle": False}, "triton_comparison is 'base_version', needs a value"),
        ({"logits_module": None}, "logits_module is None, needs a value"),
        ({"gate_triton": None}, "gate_triton and gate_escape need a value"),
        ({"gate_triton": "none"}, "without a gate_triton"),
        ({"gfx1250_waves": 3}, "gfx1250_waves is 3"),
        ({"gluon_archs": ("gfx942",)}, "gfx1250_waves is 4"),
        ({"mfma": None}, "need to be None together"),
    ],
)
def test_facts_that_no_source_shows_together_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """A tree of facts that contradict each other is not written; the error names the field."""
    with pytest.raises(AiterTreeError, match=message.replace("(", r"\(")):
        write_aiter_tree(tmp_path, replace(GENERATIONS["04907edc"], **change))  # type: ignore[arg-type]  # as a user may
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"gluon_triton": "3.7.0"},
        {"gate_triton": "3.8.0", "gate_escape": "none"},
        {"gluon_archs": ("gfx950",), "gfx1250_waves": 2},
        {"store_preshuffle": None, "gather_preshuffle": False},
        {"mfma": None, "mfma_3d": None, "wide_offsets": None},
        {"aot_stops_jit": False, "aot_needs_gluon_triton": False},
        {"triton_comparison": "text", "triton_gap": "3.4.0", "arch_gate": "assert"},
        {"known_archs": ("gfx942",), "fp8_archs": ()},
        {"plain_pages": None, "chunk_rule": "divides"},
        {"wide_offsets": ("base", "preshuffle"), "mfma_3d": ("base",)},
    ],
)
def test_a_generation_that_never_was_can_be_laid_out(tmp_path: Path, change: dict[str, object]) -> None:
    """Any facts that go together can be written, and are read back."""
    written = write_aiter_tree(tmp_path, replace(GENERATIONS["04907edc"], **change))  # type: ignore[arg-type]  # as above
    assert found(tmp_path)[0] == written
