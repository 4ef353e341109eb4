"""The one table of engines, how the engine is found, and which of the rows it can run on a machine."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

import nsa_caps
from nsa_caps.capabilities.engines import ENGINE_TABLE, ENGINES
from nsa_caps.capabilities.records import PLATFORMS
from nsa_caps.capabilities.switches import SWITCHES
from nsa_caps.cli.main import main
from nsa_caps.policy.engine import decide_for_engine, engine_rows
from nsa_caps.policy.rows import ROWS
from nsa_caps.report.documents import report_document
from nsa_caps.testing import MachineError, machine
from nsa_caps.testing.named_machines import MACHINES, named_machine

if TYPE_CHECKING:
    from pathlib import Path

AITER = {"SGLANG_USE_AITER": "1", "VLLM_ROCM_USE_AITER": "1"}


def runs(folder: Path, engine: str, *, kernels: bool = False, asked: Any = None, **described: Any) -> tuple[Any, Any]:
    """Return the row that an engine runs on a machine, and its page size."""
    caps = nsa_caps.probe(machine(folder, **described), engine=engine)
    decision = decide_for_engine(caps, asked, kernels=kernels)
    return decision.chosen, decision.chosen and decision.verdict(decision.chosen).page_size


# --- The table


def test_every_entry_names_what_there_is() -> None:
    """Rows, platforms and switches of the table are those of the tables that they stand in, best row first."""
    order = [row.name for row in ROWS]
    for engine in ENGINE_TABLE.values():
        names = [row.row for row in engine.rows or ()]
        assert names == sorted(names, key=order.index), engine.name
        for row in engine.rows or ():
            assert set(row.platforms) <= set(PLATFORMS)
            assert row.switch is None or row.switch[0] in {switch.name for switch in SWITCHES}
        assert set(engine.variables) | set(engine.defaults) <= {switch.name for switch in SWITCHES}
        assert set(engine.kernel_releases) <= set(engine.releases)
    assert tuple(ENGINE_TABLE) == ENGINES


# --- Which engine is meant


@pytest.mark.parametrize(
    ("engines", "environ", "meant", "release"),
    [
        ({}, {}, "sglang", None),
        ({"vllm": "0.33.0"}, {}, "vllm", "0.33.0"),
        ({"atom": "0.1"}, {}, "atom", "0.1"),
        ({"sglang": "0.5.23"}, {}, "sglang", "0.5.23"),
        ({"sglang": "0.5.23", "vllm": "0.33.0"}, {}, "sglang", "0.5.23"),
        ({"sglang": "0.5.23", "vllm": "0.33.0"}, {"NSA_CAPS_ENGINE": " vllm "}, "vllm", "0.33.0"),
        ({"vllm": "0.33.0"}, {"NSA_CAPS_ENGINE": "generic"}, "generic", None),
        ({"vllm": "0.33.0"}, {"NSA_CAPS_ENGINE": "vlm"}, "vllm", "0.33.0"),
    ],
)
def test_the_engine_is_the_one_that_is_there(
    tmp_path: Path, engines: dict[str, str], environ: dict[str, str], meant: str, release: str | None
) -> None:
    """Where none is named it is NSA_CAPS_ENGINE's, else the only one installed, else SGLang; its release is read."""
    caps = nsa_caps.probe(machine(tmp_path, engines=engines, environ=environ))
    assert (caps.engine, caps.engine_release) == (meant, release)
    assert {package.name: package.version for package in caps.engines} == engines


def test_what_may_have_been_meant_is_told(tmp_path: Path) -> None:
    """Two engines without a word, and a word that is none, leave a note each."""
    two = nsa_caps.probe(machine(tmp_path / "two", engines={"sglang": "0.5.23", "vllm": "0.33.0"}))
    assert [note.text for note in two.notes] == [
        "sglang and vllm are installed: sglang is taken; NSA_CAPS_ENGINE names another"
    ]
    typed = nsa_caps.probe(machine(tmp_path / "typed", environ={"NSA_CAPS_ENGINE": "vlm"}))
    assert [(note.source, note.text) for note in typed.notes] == [
        ("NSA_CAPS_ENGINE", "'vlm' is no engine known here (sglang, vllm, generic, atom): sglang is taken")
    ]


def test_the_engine_named_comes_first(tmp_path: Path) -> None:
    """An argument is stronger than what is installed, and than the variable."""
    host = machine(tmp_path, engines={"vllm": "0.33.0"}, environ={"NSA_CAPS_ENGINE": "atom"})
    assert nsa_caps.probe(host, engine="sglang").engine == "sglang"


def test_another_project_named_atom_is_no_engine(tmp_path: Path) -> None:
    """The public index has several; ROCm's has a folder of models' operators."""
    host = machine(tmp_path)
    (tmp_path / "site/atom").mkdir()
    (tmp_path / "site/atom/__init__.py").write_text("")
    assert nsa_caps.probe(host).engines == ()


def test_the_kit_lays_out_engines_only(tmp_path: Path) -> None:
    """`generic` is no package."""
    with pytest.raises(MachineError, match="engine 'generic' is no package"):
        machine(tmp_path, engines={"generic": "1"})


def test_atom_asks_for_aiter_by_itself(tmp_path: Path) -> None:
    """It has no variable of its own; ours turns it off."""
    host = machine(tmp_path, archs=["gfx942"], aiter="04907edc", triton="3.7.0")
    assert nsa_caps.decide(nsa_caps.probe(host, engine="atom")).chosen == "aiter-preshuffle"
    off = nsa_caps.probe(nsa_caps.Host({"NSA_CAPS_USE_AITER": "0"}, host.search_path, {}, host.root), engine="atom")
    assert nsa_caps.decide(off).chosen == "aiter-token"


# --- Which rows it runs


@pytest.mark.parametrize(
    ("engine", "arch", "source", "as_it_is", "with_kernels"),
    [
        ("sglang", "gfx942", None, None, ("portable", 64)),
        ("sglang", "gfx90a", "04907edc", None, ("portable", 64)),
        ("sglang", "gfx1151", "04907edc", ("aiter-token", 1), ("aiter-flat", 64)),
        ("sglang", "gfx942", "04907edc", ("aiter-preshuffle", 64), ("aiter-preshuffle", 64)),
        ("vllm", "gfx942", None, None, ("portable", 64)),
        ("vllm", "gfx90a", None, None, ("portable", 64)),
        ("vllm", "gfx1201", None, None, ("portable", 64)),
        ("vllm", "gfx1151", None, ("reference", 1), ("portable", 64)),
        ("vllm", "gfx1151", "04907edc", ("reference", 1), ("aiter-flat", 64)),
        ("vllm", "gfx950", None, ("reference", 1), ("portable", 64)),
        ("vllm", "gfx950", "04907edc", ("aiter-preshuffle", 64), ("aiter-preshuffle", 64)),
        ("atom", "gfx942", "04907edc", ("aiter-preshuffle", 64), ("aiter-preshuffle", 64)),
        ("atom", "gfx942", None, None, None),
        ("generic", "gfx942", None, ("portable", 64), ("portable", 64)),
    ],
)
def test_what_an_engine_runs_on_amd(
    tmp_path: Path, engine: str, arch: str, source: str | None, as_it_is: Any, with_kernels: Any
) -> None:
    """Its plain torch runs in vLLM on gfx950 and gfx11 alone; `portable` and `aiter-flat` need our kernels in it."""
    # vLLM asks for aiter only where there is one.
    environ = AITER if source else {"SGLANG_USE_AITER": "1"}
    described: dict[str, Any] = {"archs": [arch], "aiter": source, "triton": "3.7.0", "environ": environ}
    assert runs(tmp_path / "a", engine, **described) == (as_it_is or (None, None))
    assert runs(tmp_path / "b", engine, kernels=True, **described) == (with_kernels or (None, None))


@pytest.mark.parametrize(
    ("arch", "source", "row"),
    [
        ("gfx950", None, "reference"), ("gfx950", "impostor", None),
        ("gfx1151", None, "reference"), ("gfx1100", "impostor", "reference"), ("gfx942", None, None),
    ],
)  # fmt: skip
def test_vllm_that_is_asked_for_an_aiter_that_it_cannot_take(
    tmp_path: Path, arch: str, source: str | None, row: str | None
) -> None:
    """It goes on with plain torch where no aiter is found on gfx950, and on gfx11 always: executed, not read."""
    assert runs(tmp_path, "vllm", archs=[arch], aiter=source, environ=AITER)[0] == row


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_what_an_engine_runs_without_deep_gemm(tmp_path: Path, engine: str) -> None:
    """On NVIDIA an engine as it is has DeepGEMM alone; with our kernels there is no dead end."""
    bare: dict[str, Any] = {"platform": "cuda", "archs": ["sm_80"], "deep_gemm": "2.1.1"}
    assert runs(tmp_path / "a", engine, **bare) == (None, None)
    assert runs(tmp_path / "b", engine, kernels=True, **bare) == ("portable", 64)


@pytest.mark.parametrize(("release", "row"), [("0.5.23", "reference"), ("0.5.21", None), (None, None)])
def test_a_way_that_only_newer_releases_have(tmp_path: Path, release: str | None, row: str | None) -> None:
    """SGLang's torch scores for DSA came after 0.5.21; where its release is not known, nothing rests on them."""
    engines = {"sglang": release} if release else {}
    environ = {"SGLANG_FP8_PAGED_MQA_LOGITS_TORCH": "1"}
    assert runs(tmp_path, "sglang", platform="cuda", archs=["sm_80"], engines=engines, environ=environ)[0] == row


def test_pooled_keys_have_pages_of_64(tmp_path: Path) -> None:
    """GLM-5.3's pools take index pages of 64 alone, and have no path on pages of one token."""
    described: dict[str, Any] = {"archs": ["gfx942"], "aiter": "04907edc", "triton": "3.7.0", "environ": AITER}
    for index, (size, row) in enumerate(
        [(None, "aiter-preshuffle"), (64, "aiter-preshuffle"), (32, None), (128, None)]
    ):
        asked = nsa_caps.Request(index_kpool=4, page_size=size)
        assert runs(tmp_path / str(index), "sglang", asked=asked, **described)[0] == row, size


@pytest.mark.parametrize("pooled", [2, 4])
def test_no_fix_leads_pooled_keys_to_pages_of_one_token(tmp_path: Path, pooled: int) -> None:
    """SGLang's pool asserts against them: what is told is the size that it takes, and nothing of `aiter-token`'s."""
    caps = nsa_caps.probe(machine(tmp_path, archs=["gfx942"], aiter="04907edc", triton="3.7.0", environ=AITER))
    decision = decide_for_engine(caps, nsa_caps.Request(index_kpool=pooled, page_size=16))
    (tiles,) = decision.verdict("aiter-preshuffle").reasons
    assert (tiles.observed, tiles.required) == (f"SGLang as it is, page size 16, index_kpool {pooled}", "pages of 64")
    for row in ("aiter-token", "portable"):
        (reason,) = decision.verdict(row).reasons
        assert (reason.code, reason.fix) == ("engine.row", None)


def test_what_was_not_asked_for_is_out_for_that_alone(tmp_path: Path) -> None:
    """Asked for `portable` alone, SGLang as it is has nothing: told is what that takes, and no fix of another row."""
    caps = nsa_caps.probe(machine(tmp_path, archs=["gfx942"], aiter="04907edc", triton="3.7.0", environ=AITER))
    decision = decide_for_engine(caps, nsa_caps.Request(rows=("portable",)))
    assert decision.chosen is None
    assert nsa_caps.decide(decision.caps, decision.request).chosen is None
    for verdict in decision.verdicts:
        (reason,) = verdict.reasons
        told = (reason.code, reason.required, reason.fix)
        if verdict.row == "portable":
            assert told == (
                "engine.row", "this library's kernels in it, pages of 64, one token an index key",
                "put this library's kernels into SGLang: NSA_CAPS_INSTALL=1",
            )  # fmt: skip
        else:
            assert told == ("row.not-in-request", "one of portable", None), verdict.row


def test_a_refusal_says_what_it_would_take(tmp_path: Path) -> None:
    """A row that the machine could run and the engine does not is refused by the table's own words."""
    caps = nsa_caps.probe(machine(tmp_path, archs=["gfx942"], engines={"vllm": "0.33.0"}))
    decision = decide_for_engine(caps)
    assert decision.chosen is None
    (portable,) = decision.verdict("portable").reasons
    assert (portable.code, portable.observed) == ("engine.row", "vLLM 0.33.0 as it is")
    assert "this library's kernels in it" in portable.required
    assert portable.fix == "put this library's kernels into vLLM: NSA_CAPS_INSTALL=1"
    (reference,) = decision.verdict("reference").reasons
    assert reference.required == (
        "pages of 1, gfx950, use_aiter off or no aiter, one token an index key;"
        " or pages of 1, gfx11, one token an index key"
    )


def test_a_refusal_names_the_switch_that_it_would_take(tmp_path: Path) -> None:
    """SGLang runs torch's scores where it is told to: the refusal has the switch, its value and the release."""
    caps = nsa_caps.probe(machine(tmp_path, platform="cuda", archs=["sm_80"], engines={"sglang": "0.5.23"}))
    (reference,) = decide_for_engine(caps).verdict("reference").reasons
    assert "torch_logits on, release 0.5.23" in reference.required


def test_a_page_size_that_the_engine_does_not_take_is_refused(tmp_path: Path) -> None:
    """`portable` takes pages of 128; SGLang asserts 64 on CUDA, whoever's the kernels are."""
    caps = nsa_caps.probe(machine(tmp_path, platform="cuda", archs=["sm_80"]))
    decision = decide_for_engine(caps, nsa_caps.Request(page_size=128), kernels=True)
    assert decision.chosen is None
    assert [reason.code for reason in decision.verdict("portable").reasons] == ["engine.row"]


def test_a_layout_decides_the_same(tmp_path: Path) -> None:
    """The request of the decision, asked again, gives the row and page size that were decided."""
    caps = nsa_caps.probe(machine(tmp_path, archs=["gfx950"]), engine="vllm")
    decision = decide_for_engine(caps)
    layout = nsa_caps.select_indexer_layout(caps, decision.request)
    assert (layout.row, layout.page_size) == ("reference", 1)


def test_what_is_picked_can_be_run_and_is_picked_again(tmp_path: Path) -> None:
    """On every named machine, for every engine that has a table, page size and pooling; a refusal stays one."""
    for name in MACHINES:
        host = named_machine(tmp_path / name, name)
        for engine in ("sglang", "vllm", "atom"):
            caps = nsa_caps.probe(host, engine=engine)
            for kernels, size, kpool in product((False, True), (None, 1, 64, 128), (1, 4)):
                asked = nsa_caps.Request(page_size=size, index_kpool=kpool)
                decision = decide_for_engine(caps, asked, kernels=kernels)
                told = (name, engine, kernels, size, kpool)
                assert nsa_caps.decide(decision.caps, decision.request).chosen == decision.chosen, told
                if decision.chosen is None:
                    continue
                found = {row.row: row for row in engine_rows(decision.caps, kernels=kernels, index_kpool=kpool) or ()}
                row = found[decision.chosen]
                sizes = row.pooled_sizes if kpool > 1 else row.page_sizes
                assert not sizes or decision.verdict(row.row).page_size in sizes, told


def test_an_unknown_machine_bars_no_row(tmp_path: Path) -> None:
    """Where the GPUs are not known, the row's own requirement says so, not the table of engines."""
    caps = nsa_caps.probe(machine(tmp_path, platform="cuda", archs=None))
    assert [row.row for row in engine_rows(caps) or ()] == ["deepgemm"]
    assert engine_rows(caps.replace(engine="generic")) is None


def test_the_report_says_what_the_engine_will_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On an A100 `portable` is the best row, SGLang as it is has none, and our kernels bring it there."""
    host = machine(tmp_path, platform="cuda", archs=["sm_80"], engines={"sglang": "0.5.23"})
    main(["report"], host=host)
    told = capsys.readouterr().out
    assert "SGLang 0.5.23 as it is: no row" in told
    assert "SGLang 0.5.23 with nsa_caps' kernels: portable, page size 64" in told
    main(["report", "--engine", "generic"], host=host)
    assert "as it is" not in capsys.readouterr().out


def test_the_document_says_what_the_engine_runs(tmp_path: Path) -> None:
    """As the report's lines do: as it is, and with our kernels; nothing for an engine of your own."""
    bare = machine(tmp_path, archs=["gfx90a"], triton="3.6.0")
    nothing, portable = {"chosen": None, "page_size": None}, {"chosen": "portable", "page_size": 64}
    for engine, told in (
        ("sglang", {"as_it_is": nothing, "with_kernels": portable}),
        ("atom", {"as_it_is": nothing, "with_kernels": None}),
        ("generic", None),
    ):
        decision = nsa_caps.decide(nsa_caps.probe(bare, engine=engine))
        assert report_document(decision)["engine_runs"] == told, engine
