"""What aiter's source shows of its gates: each generation's facts, and None for every shape that is not known."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from dataclasses import fields, replace
from pathlib import Path

import pytest

from nsa_caps import AiterSource, Host, Note, decide, probe
from nsa_caps.capabilities.aiter_history import AITER_RELEASES
from nsa_caps.probes.installed_aiter import aiter_source
from nsa_caps.testing import GENERATIONS, AiterTreeError, lay_out_packages, machine, write_aiter_tree

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


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_shows_its_facts(tmp_path: Path, generation: str) -> None:
    """From a tree written with a generation's gates, exactly its facts are read."""
    written = write_aiter_tree(tmp_path, GENERATIONS[generation])
    source, notes = found(tmp_path)
    assert source == written
    assert notes == ()


def test_every_generation_differs_from_the_one_before() -> None:
    """Each generation is there because some gate changed with it."""
    sources = list(GENERATIONS.values())
    assert len(set(sources)) == len(sources)


@pytest.mark.parametrize("name", AITER_RELEASES)
def test_the_releases_that_a_fix_names_are_generations(name: str) -> None:
    """A release that a fix names is one of the generations, or differs from the one before in its types and names."""
    release = AITER_RELEASES[name]
    if release.commit in GENERATIONS:
        assert release.source == GENERATIONS[release.commit]
    else:
        apart = {"fp8_archs": None, "takes": None, "gfx1250_waves": 2, "imports_flydsl": None, "flydsl_needs": None}
        assert any(replace(release.source, **apart) == replace(each, **apart) for each in GENERATIONS.values())  # type: ignore[arg-type]  # None is a value of each


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_real_source_shows_the_same(tmp_path: Path, aiter_checkout: Path, generation: str) -> None:
    """From the real source at the generation's commit the same facts are read (`--aiter-checkout`)."""
    archive = subprocess.run(
        ["git", "-C", aiter_checkout, "archive", generation, "aiter"], capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(tmp_path, [member for member in tar if member.name.endswith(".py")], filter="data")
    source, notes = found(tmp_path)
    expected = replace(GENERATIONS[generation], location=str(tmp_path / "aiter"))
    if generation in ("fe927e8d", "914dcee3") and sys.version_info < (3, 12):
        # Its f-strings nest equal quotes, which only Python 3.12 and later read: nothing of the module is known here.
        expected = replace(source, location=expected.location)
        assert "cannot parse it" in notes[0].text
    # Which release it is as in, the table of releases alone tells.
    assert replace(source, as_in=None) == replace(expected, as_in=None)


@pytest.mark.parametrize("installed", [None, "impostor"])
def test_no_aiter_of_amds_shows_nothing(tmp_path: Path, installed: str | None) -> None:
    """Without AMD's aiter there is no source to read."""
    lay_out_packages(tmp_path, aiter=installed)
    assert aiter_source(Host({}, (str(tmp_path),), {}, "/nowhere")) == {}


def test_an_aiter_of_before_the_kernel_has_no_row(tmp_path: Path) -> None:
    """Up to v0.1.5 there is no logits module: a no that is known, where a newer aiter without one is unknown."""
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.6.0", aiter="914dcee3")
    folder = Path(host.search_path[0]) / "aiter/ops/triton"
    (folder / "pa_mqa_logits.py").unlink()
    assert {reason.code for reason in decide(probe(host)).verdict("aiter-token").reasons} == {"aiter.source-unknown"}
    (folder / "pa_decode.py").write_text("")
    verdict = decide(probe(host)).verdict("aiter-token")
    assert {reason.code for reason in verdict.reasons} == {"aiter.no-preshuffle-logits"}
    (folder / "attention").mkdir()
    assert decide(probe(host)).verdict("aiter-token").verdict == "unknown"


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


ALL = AITER_ROWS
TILES = ("aiter-preshuffle",)
TOKEN = ("aiter-token",)
# What is edited, and the rows that must not be met after it on an MI300X with Triton 3.6.
# ruff: noqa: E501
EDITS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "a release is barred by name": (GATE, "_min_version = V", "assert triton.__version__ != '3.6.0'\n    _min_version = V", ALL),
    "the gate stands for every Triton": (GATE, "_triton_version < _min_version", "True", TILES),
    "the gate has a maximum too": (GATE, "    if _triton", "    if _triton_version > _min_version:\n        raise OSError\n    if _triton", ALL),
    "gluon is switched again": (NEW, "def _compile", "enable_gluon_pa_mqa_logits = False\ndef _compile", TILES),
    "gluon is switched by globals": (NEW, "def _compile", "globals().update(enable_gluon_pa_mqa_logits=False)\ndef _compile", ALL),
    "the archs are asked for twice": (NEW, "    kernel = _gluon", "    assert gfx_version == 'gfx950'\n    kernel = _gluon", (*TILES, *TOKEN)),
    "a name that nothing binds": (NEW, "    kernel = _gluon", "    nothing()\n    kernel = _gluon", (*TILES, *TOKEN)),
    "pages of 64 are refused": (NEW, "    assert not Preshuffle or", "    assert KVBlockSize != 64\n    assert not Preshuffle or", TILES),
    "an early return": (NEW, "    assert not Preshuffle or", "    if Preshuffle:\n        return\n    assert not Preshuffle or", TILES),
    "rows of the cache have one stride": (NEW, "    assert not Preshuffle or", "    assert kv_cache.stride(0) == 132\n    assert not Preshuffle or", TILES),
    "the scales have one size": (NEW, "    assert not Preshuffle or", "    assert kv_cache.view(torch.float32).shape[3] == 132\n    assert not Preshuffle or", (*TILES, *TOKEN)),
    "a required argument": (NEW, "TotalCuCount=None, WavePerEU=2,", "TotalCuCount=None, WavePerEU=2, *, layout,", ALL),
    "the switch is a local too": (NEW, "    if enable_gluon", "    enable_gluon_pa_mqa_logits = enable_gluon_pa_mqa_logits\n    if enable_gluon", ALL),
    "the branch is never taken": (NEW, "    if enable_gluon_pa_mqa_logits:", "    if False:", TILES),
    "the launch hands something else": (NEW, "(q_fp8, kv_cache)", "(kv_cache, q_fp8)", (*TILES, *TOKEN)),
    "a loop that raises": (NEW, "    assert not Preshuffle or", "    while True:\n        raise OSError\n    assert not Preshuffle or", ALL),
    "the kernel was never compiled": (KERNELS, "a stand-in of nsa_caps", "another stand-in of nsa_caps", TOKEN),
    "the store kernel is gone": (CACHE, "def indexer_k", "def another_k", TILES),
    "the store kernel has a body": (CACHE, "preshuffle=False): ...", "preshuffle=False): raise OSError", TILES),
    "the arch map is computed": ("jit/utils/build_targets.py", "GFX_MAP = {", "GFX_MAP = dict() or {", ()),
    "get_gfx is another": ("jit/utils/chip_info.py", "the arch of", "the arches of", (*TILES, *TOKEN)),
    "gfx942 has the other dialect": ("utility/dtypes.py", "float8_e4m3fnuz", "float8_e4m3fn", ALL),
    "the package leaves dtypes out": ("__init__.py", "    from .utility import dtypes", "    pass", ALL),
    "a module beyond refuses": ("ops/attention.py", "from ..jit.core", "raise OSError\nfrom ..jit.core", ALL),
    "a module beyond is not there": ("ops/attention.py", "from ..jit.core", "from .nowhere import x\nfrom ..jit.core", ALL),
    "the logits module cannot be parsed": (NEW, "def _compile", "def (\ndef _compile", ALL),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_a_statement_that_is_not_accounted_for_never_selects(tmp_path: Path, what: str) -> None:
    """After one edit, no row is met that the edited source would refuse, or of which that is not known."""
    file, old, new, out = EDITS[what]
    environ = {"SGLANG_USE_AITER": "1"}
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.6.0", aiter="3b2e6f48", environ=environ)
    path = Path(host.search_path[0]) / "aiter" / file
    text = path.read_text()
    assert old in text
    if what == "a module beyond is not there":
        (path.parent / "enum.py").write_text("")
    path.write_text(text.replace(old, new, 1))
    decision = decide(probe(host))
    assert not [row for row in out if decision.verdict(row).verdict == "met"]


@pytest.mark.parametrize("name", ["device_info", "arch_info"])
def test_a_deciding_module_that_the_logits_do_not_import_may_refuse_too(tmp_path: Path, name: str) -> None:
    """Where `import aiter` runs it and the kernels' modules do not, what it refuses is told all the same."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    utils, attention = tmp_path / "aiter/ops/triton/utils", tmp_path / "aiter/ops/attention.py"
    (utils / f"{name}.py").write_text("x = 1\nraise OSError\n")
    attention.write_text(f"from .triton.utils.{name} import x\n{attention.read_text()}")
    source, _ = found(tmp_path)
    assert source.imports is None
    assert source.unaccounted == (f"ops/triton/utils/{name}.py: line 2: may refuse the import",)


@pytest.mark.parametrize("generation", ["a6bb4993", "04907edc"])
def test_a_reason_names_what_changed_since_when(tmp_path: Path, generation: str) -> None:
    """Of a source that is not understood the reason tells the generation that it is nearest to, the file and the line."""
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.6.0", aiter=generation)
    path = Path(host.search_path[0]) / "aiter" / NEW
    text = path.read_text().replace("def _compile", "globals().update(os=None)\ndef _compile", 1)
    path.write_text(text)
    line = text[: text.index("globals()")].count("\n") + 1
    (reason,) = (
        each for each in decide(probe(host)).verdict("aiter-token").reasons if each.code == "aiter.source-unknown"
    )
    assert f"(changed since {generation}: {NEW}: line {line}: " in reason.observed


REFUSALS = {
    "pages of 64": "assert KVBlockSize != 64",
    "one Triton": "assert triton.__version__ != '3.6.0'",
    "newer Tritons": "assert Version(triton.__version__) < Version('3.7.0')",
    "one arch": "assert get_gfx() == 'gfx950'",
    "tiles": "assert not (Preshuffle and KVBlockSize)",
    "half the heads": "assert heads == 64",
    "pages of one": "assert KVBlockSize > 1",
    "without the bundle": "assert enable_aot_gluon_pa_mqa_logits",
    "always": "raise OSError",
}


@pytest.mark.parametrize("generation", ["a6bb4993", "04907edc"])
@pytest.mark.parametrize("what", REFUSALS)
def test_a_refusal_that_was_added_is_the_one_that_is_named(tmp_path: Path, what: str, generation: str) -> None:
    """Not the asserts after it, whose machines it takes away, but its own line."""
    write_aiter_tree(tmp_path, GENERATIONS[generation])
    path = tmp_path / "aiter" / NEW
    old, new = "    assert not Preshuffle or", f"    {REFUSALS[what]}\n    assert not Preshuffle or"
    text = path.read_text().replace(old, new, 1)
    path.write_text(text)
    line = text[: text.index(REFUSALS[what])].count("\n") + 1
    assert found(tmp_path)[0].unaccounted[0].startswith(f"{NEW}: line {line}: ")


HARMLESS = {
    "a docstring": (NEW, "    _, _, heads", '    """Scores."""\n    _, _, heads'),
    "a line of a log": (NEW, "    _, _, heads", '    print("scoring", KVBlockSize)\n    _, _, heads'),
    "an annotation": (NEW, "Preshuffle=False, KV", "Preshuffle: bool = False, KV"),
    "imports in another order": (NEW, "import os\nimport triton\n", "import triton\nimport os\n"),
    "a comment": (NEW, "    assert not Preshuffle or", "    # raise\n    assert not Preshuffle or"),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_changes_nothing_is_free(tmp_path: Path, what: str) -> None:
    """An edit that changes nothing leaves every fact as it was."""
    file, old, new = HARMLESS[what]
    written = write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    path = tmp_path / "aiter" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert found(tmp_path)[0] == written


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
        ({"mfma": None}, "name no base kernel of aiter's history"),
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
        {"store_preshuffle": True, "gather_preshuffle": False},
        {"aot_stops_jit": False, "aot_needs_gluon_triton": False},
        {"triton_comparison": "text", "triton_gap": "3.4.0", "arch_gate": "assert"},
        {"known_archs": ("gfx942",), "fp8_archs": ()},
        {"plain_pages": None, "chunk_rule": "divides"},
    ],
)
def test_a_generation_that_never_was_can_be_laid_out(tmp_path: Path, change: dict[str, object]) -> None:
    """Any facts that go together can be written, and are read back."""
    written = write_aiter_tree(tmp_path, replace(GENERATIONS["04907edc"], **change))  # type: ignore[arg-type]  # as above
    assert found(tmp_path)[0] == written
