"""The decision: named facts of the field, one a test."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import (
    ROWS,
    AotBundle,
    Capabilities,
    Change,
    Decision,
    Device,
    ForcedRowWarning,
    NoUsableLayoutError,
    Package,
    Reason,
    Request,
    RequestError,
    Row,
    UnknownRowError,
    decide,
    probe,
    select_indexer_layout,
)
from nsa_caps.policy.reasons import CODES
from nsa_caps.testing import GENERATIONS, machine
from tests.hand import capabilities
from tests.oracle import Machine

if TYPE_CHECKING:
    from pathlib import Path

AOT, ESCAPE = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS", "AITER_USE_SYSTEM_TRITON"
ASKED = {"SGLANG_USE_AITER": "1"}
AITER_ROWS = ("aiter-preshuffle", "aiter-flat", "aiter-token")

# ROCR's variable comes first, and those above it would count among the GPUs that it leaves.
UNSET_ABOVE = "unset HIP_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES; "


def amd(arch: str = "gfx942", **fields: Any) -> Capabilities:
    """Return an AMD machine with aiter 0.1.13 on Triton 3.6.0 whose engine asks for aiter, changed as told."""
    environ = {**ASKED, **fields.pop("environ", {})}
    base = Machine(platform="rocm", archs=(arch,), triton="3.6.0", aiter="a6bb4993", environ=environ)
    return capabilities(replace(base, **fields))


def nvidia(arch: str = "sm_90", **fields: Any) -> Capabilities:
    """Return an NVIDIA machine with DeepGEMM, changed as told."""
    return capabilities(replace(Machine(platform="cuda", archs=(arch,), triton="3.6.0", deep_gemm=True), **fields))


def codes(decision: Decision, row: str) -> list[str]:
    """Return the codes of the reasons against a row."""
    return [reason.code for reason in decision.verdict(row).reasons]


def reason(decision: Decision, row: str, code: str) -> Reason:
    """Return the one reason of a code against a row."""
    (found,) = (each for each in decision.verdict(row).reasons if each.code == code)
    return found


def fix(caps: Capabilities, row: str, request: Request | None = None) -> list[str] | None:
    """Return the smallest fix for a row as commands."""
    steps = decide(caps, request).smallest_fix(row)
    return None if steps is None else [step.fix or "" for step in steps]


# --- The three machines of the definition of done, laid out and probed


def mi300x(folder: Path, triton: str, generation: str) -> Decision:
    """Return the decision for a laid-out MI300X whose SGLang asks for aiter."""
    host = machine(folder / "m", archs=["gfx942"], triton=triton, aiter=generation, environ=ASKED)
    return decide(probe(host, engine="sglang"))


def test_an_mi300x_with_an_old_triton_takes_page_1(tmp_path: Path) -> None:
    """With aiter 0.1.13 on Triton 3.4.0: aiter-token, page 1, because of Triton; Triton >= 3.5.0 would give page 64."""
    decision = mi300x(tmp_path, "3.4.0", "a6bb4993")
    assert decision.chosen == "aiter-token"
    assert select_indexer_layout(decision.caps).page_size == 1
    assert codes(decision, "aiter-preshuffle") == ["triton.too-old"]
    steps = decision.smallest_fix("aiter-preshuffle")
    assert steps is not None
    (step,) = steps
    assert (step.observed, step.required, step.fix) == (
        "Triton 3.4.0",
        "Triton >= 3.5.0",
        'pip install "triton>=3.5.0,<3.10"',
    )
    after, _ = step.changes[0].apply(decision.caps, decision.request)
    assert (select_indexer_layout(after).row, select_indexer_layout(after).page_size) == ("aiter-preshuffle", 64)


def test_an_mi300x_with_a_new_triton_takes_page_64(tmp_path: Path) -> None:
    """With aiter 0.1.13 on Triton 3.6.0: aiter-preshuffle, page 64."""
    decision = mi300x(tmp_path, "3.6.0", "a6bb4993")
    assert decision.chosen == "aiter-preshuffle"
    assert select_indexer_layout(decision.caps).page_size == 64


def test_an_mi300x_whose_aiter_cannot_be_imported(tmp_path: Path) -> None:
    """With aiter 0.1.15 on Triton 3.5.1: nothing of aiter can be imported, and both ways out are named."""
    decision = mi300x(tmp_path, "3.5.1", "3b2e6f48")
    assert decision.chosen == "portable"
    for row in AITER_ROWS:
        barred = reason(decision, row, "aiter.import-barred")
        assert [change.text for change in barred.changes] == [
            'pip install "triton>=3.6.0,<3.10"',
            "export AITER_USE_SYSTEM_TRITON=1",
        ]
    explained = decision.explain()
    assert "nothing of aiter can be imported with this Triton" in explained
    assert 'pip install "triton>=3.6.0,<3.10"' in explained
    assert "export AITER_USE_SYSTEM_TRITON=1" in explained


def test_before_the_escape_the_import_has_one_way_out() -> None:
    """f061fba9 raises whatever AITER_USE_SYSTEM_TRITON says: only a newer Triton helps."""
    decision = decide(amd(triton="3.5.1", aiter="f061fba9", environ={ESCAPE: "1"}))
    assert reason(decision, "aiter-token", "aiter.import-barred").fix == 'pip install "triton>=3.6.0,<3.10"'


def test_the_escape_lets_an_old_triton_through() -> None:
    """With AITER_USE_SYSTEM_TRITON=1 the gate is a warning, and Triton 3.5.1 runs the tiled kernel."""
    assert decide(amd(triton="3.5.1", aiter="3b2e6f48", environ={ESCAPE: "1"})).chosen == "aiter-preshuffle"


def test_an_escape_that_aiter_cannot_read_lets_nothing_through() -> None:
    """`true` is a ValueError to aiter's int(), which the reason says."""
    barred = reason(
        decide(amd(triton="3.5.1", aiter="3b2e6f48", environ={ESCAPE: "true"})), "aiter-token", "aiter.import-barred"
    )
    assert "AITER_USE_SYSTEM_TRITON='true', which aiter's int() cannot read" in barred.observed


def test_an_unreadable_escape_does_not_matter_to_a_new_triton() -> None:
    """The escape is read only where Triton is too old."""
    assert decide(amd(aiter="3b2e6f48", environ={ESCAPE: "true"})).chosen == "aiter-preshuffle"


@pytest.mark.parametrize("triton", ["3.6.0rc1", "3.6.0.dev1", "3.6.0a0"])
def test_a_candidate_of_the_minimum_is_below_it(triton: str) -> None:
    """The import gate drops the local part alone, so candidates of 3.6.0 are too old."""
    assert "aiter.import-barred" in codes(decide(amd(triton=triton, aiter="3b2e6f48")), "aiter-preshuffle")


@pytest.mark.parametrize("triton", ["3.6.0+git1234567", "3.6.0.post1", "3.10.0"])
def test_a_build_of_the_minimum_is_not_below_it(triton: str) -> None:
    """A local part, a post release, and two digits in the middle are no lower."""
    assert decide(amd(triton=triton, aiter="3b2e6f48")).chosen == "aiter-preshuffle"


@pytest.mark.parametrize("triton", ["3.5.0rc1", "3.5.0+gite392a058", "3.5.0.dev20251101"])
def test_the_logits_gate_compares_base_versions(triton: str) -> None:
    """Since 914dcee3 every build of 3.5.0 counts as 3.5.0."""
    assert decide(amd(triton=triton)).chosen == "aiter-preshuffle"


def test_the_first_gate_compares_text() -> None:
    """fe927e8d takes 3.10.0 for older than 3.5.0, and so runs its plain kernel; 914dcee3 does not."""
    assert decide(amd(triton="3.10.0", aiter="fe927e8d")).chosen == "aiter-token"
    assert "aiter.does-not-compile" in codes(decide(amd(triton="3.10.0", aiter="914dcee3")), "aiter-token")


def test_the_first_gate_bars_triton_3_4() -> None:
    """fe927e8d asserts at import on Triton 3.4.x."""
    assert codes(decide(amd(triton="3.4.0", aiter="fe927e8d")), "aiter-token") == ["aiter.import-barred"]
    assert decide(amd(triton="3.3.1", aiter="fe927e8d")).chosen == "aiter-token"


@pytest.mark.parametrize("triton", ["unknown", ""])
def test_an_unknown_triton_never_selects(triton: str) -> None:
    """A Triton whose version is no version is unknown to every row that rests on it."""
    decision = decide(amd(triton=triton))
    for row in (*AITER_ROWS, "portable"):
        assert "triton.version-unknown" in codes(decision, row)
    assert decision.verdict("aiter-preshuffle").verdict == "unknown"
    assert decision.chosen == "reference"


# --- The ahead-of-time bundle


def test_aot_on_a_new_triton_is_unset() -> None:
    """AOT=1 on Triton 3.6.0 without a bundle only adds a way to fail: the fix is to unset it."""
    caps = amd(environ={AOT: "1"})
    decision = decide(caps)
    assert codes(decision, "aiter-preshuffle") == ["aot.kernel-missing"]
    assert codes(decision, "aiter-token") == ["aot.kernel-missing"]
    assert fix(caps, "aiter-preshuffle") == [f"unset {AOT}"]


def test_true_is_not_one() -> None:
    """AOT=true turns nothing on in aiter."""
    assert decide(amd(environ={AOT: "true"})).chosen == "aiter-preshuffle"
    assert decide(amd(triton="3.4.0", environ={AOT: "true"})).chosen == "aiter-token"


@pytest.mark.parametrize("generation", ["914dcee3", "a8eb62f5"])
def test_triton_3_4_with_a_bundle_is_refused(generation: str) -> None:
    """The bundle's kernels do not fit Triton 3.4.x, whose ABI changed (triton#7258)."""
    decision = decide(amd(triton="3.4.0", aiter=generation, bundle="complete", environ={AOT: "1"}))
    assert "aot.triton" in codes(decision, "aiter-token")
    assert reason(decision, "aiter-token", "aot.triton").source == "triton#7258"


def test_triton_3_2_with_a_bundle_is_refused() -> None:
    """Below 3.3.0 Triton lacks an argument that the bundle's kernels take."""
    decision = decide(amd(triton="3.2.0", aiter="914dcee3", bundle="complete", environ={AOT: "1"}))
    assert "aot.triton" in codes(decision, "aiter-token")


def test_a_bundle_helps_on_triton_3_3_with_the_sources_of_then() -> None:
    """Triton 3.3.1 with 914dcee3 and a whole bundle runs gluon: page 1, as its cache kernels know no tiles."""
    decision = decide(amd(triton="3.3.1", aiter="914dcee3", bundle="complete", environ={AOT: "1"}))
    assert decision.chosen == "aiter-token"
    assert codes(decision, "aiter-preshuffle") == ["aiter.no-preshuffle-cache"]


@pytest.mark.parametrize("generation", ["10c87ea1", "a6bb4993", "04907edc"])
def test_aot_below_triton_3_5_is_a_name_error(generation: str) -> None:
    """Since 10c87ea1 the AOT path calls get_cdna_version, which it imports on a new Triton only."""
    caps = amd(triton="3.4.0", aiter=generation, bundle="complete", environ={AOT: "1", ESCAPE: "1"})
    assert "aot.name-error" in codes(decide(caps), "aiter-token")
    assert f"unset {AOT}" in (fix(caps, "aiter-token") or ())


@pytest.mark.parametrize(
    ("bundle", "code"),
    [
        ("partial", "aot.kernel-partial"),
        ("other-arch", "aot.wrong-arch"),
        ("other-heads", "aot.kernel-missing"),
        ("only-token", "aot.kernel-missing"),
    ],
)
def test_a_bundle_that_does_not_serve(bundle: str, code: str) -> None:
    """A kernel that lacks a file, is for another arch or another number of heads does not serve."""
    assert codes(decide(amd(bundle=bundle, environ={AOT: "1"})), "aiter-preshuffle") == [code]


def test_a_bundle_that_cannot_be_read_is_unknown() -> None:
    """What could not be listed may be whole or not: unknown, and so not selected."""
    caps = amd(environ={AOT: "1"}).replace(aot_bundle=AotBundle("/aot", None))
    assert codes(decide(caps), "aiter-preshuffle") == ["aot.unknown"]
    assert decide(caps).verdict("aiter-preshuffle").verdict == "unknown"


def test_a_whole_bundle_on_a_new_triton_runs() -> None:
    """With the kernel in place and compiling, AOT=1 on a new Triton is no obstacle."""
    assert decide(amd(bundle="complete", environ={AOT: "1"})).chosen == "aiter-preshuffle"


def test_a_bundle_holds_one_page_size() -> None:
    """The loader asks for the kernel of the page size that is used."""
    decision = decide(amd(bundle="complete", environ={AOT: "1"}), Request(page_size=128))
    missing = reason(decision, "aiter-preshuffle", "aot.kernel-missing")
    assert "paged_mqa_logits_preshuffle_64x256x128_B128PFW2" in missing.observed


# --- GPUs


def test_gfx1250_needs_triton_3_7() -> None:
    """gfx1250 passes aiter's gates on Triton 3.6.0 and does not compile there."""
    caps = amd("gfx1250", aiter="861b4c93")
    assert codes(decide(caps), "aiter-preshuffle") == ["aiter.does-not-compile"]
    assert fix(caps, "aiter-preshuffle") == ['pip install "triton>=3.7.0,<3.10"']
    assert decide(amd("gfx1250", aiter="861b4c93", triton="3.7.0")).chosen == "aiter-preshuffle"


def test_gfx1250_is_a_gluon_arch_since_861b4c93() -> None:
    """Before, the gluon kernels assert another arch, and the fix is a newer aiter."""
    decision = decide(amd("gfx1250", aiter="3b2e6f48", triton="3.7.0"))
    assert codes(decision, "aiter-token") == ["aiter.arch-not-gluon"]
    assert fix(decision.caps, "aiter-token") is not None


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
def test_page_sizes_that_tiles_take(size: int) -> None:
    """Every multiple of 16 that divides ChunkK = 256 runs tiled."""
    for arch, generation in (("gfx942", "a6bb4993"), ("gfx950", "04907edc"), ("gfx1250", "861b4c93")):
        layout = select_indexer_layout(amd(arch, aiter=generation, triton="3.7.0"), Request(page_size=size))
        assert (layout.row, layout.page_size) == ("aiter-preshuffle", size)
        assert layout.logits_options == {"Preshuffle": True, "KVBlockSize": size}


@pytest.mark.parametrize("size", [48, 80, 96, 192, 640])
def test_page_sizes_that_fail_at_the_first_decode(size: int) -> None:
    """ChunkK = 256 must divide the page size, or be divided by it."""
    refused = reason(decide(amd(), Request(page_size=size)), "aiter-preshuffle", "page.size")
    assert (refused.observed, refused.required) == (
        str(size),
        "a page size that divides ChunkK = 256 or is a multiple of it",
    )


@pytest.mark.parametrize("size", [1, 8, 24, 100])
def test_page_sizes_that_are_no_tiles(size: int) -> None:
    """Tiles have 16 rows."""
    refused = reason(decide(amd(), Request(page_size=size)), "aiter-preshuffle", "page.size")
    assert refused.required == "a multiple of 16, the rows of a tile"


def test_gfx1250_takes_no_page_larger_than_a_chunk() -> None:
    """512 is a multiple of 256 and runs on gfx942; gfx1250 needs 256 % P == 0."""
    assert decide(amd(), Request(page_size=512)).chosen == "aiter-preshuffle"
    decision = decide(amd("gfx1250", aiter="861b4c93", triton="3.7.0"), Request(page_size=512))
    assert codes(decision, "aiter-preshuffle") == ["page.size"]


def test_a_page_size_is_never_changed_silently() -> None:
    """A size that no fast row takes is refused by each, and the fix is to leave it to the row."""
    caps = amd()
    decision = decide(caps, Request(page_size=48))
    assert decision.chosen == "reference"
    assert select_indexer_layout(caps, Request(page_size=48)).page_size == 48
    assert fix(caps, "aiter-preshuffle", Request(page_size=48)) == ["leave the page size to the row"]


def test_gluon_is_never_given_flat_pages() -> None:
    """Where gluon is active, pages above 1 without tiles run and are silently wrong (aiter#5591)."""
    decision = decide(amd(aiter="04907edc"))
    assert codes(decision, "aiter-flat") == ["aiter.flat-reads-wrong"]
    assert reason(decision, "aiter-flat", "aiter.flat-reads-wrong").source == "aiter#5591"
    off = decide(amd(aiter="04907edc", environ={"SGLANG_DSA_HIP_DISABLE_PRESHUFFLE": "1"}))
    assert off.chosen == "aiter-token"


def test_flat_pages_where_gluon_is_not_active() -> None:
    """Since 04907edc the plain kernel takes flat pages: on a GPU outside the gluon list, or on an old Triton."""
    layout = select_indexer_layout(amd("gfx1151", aiter="04907edc"))
    assert (layout.row, layout.page_size, layout.preshuffle) == ("aiter-flat", 64, False)
    assert layout.logits_options == {"Preshuffle": False, "KVBlockSize": 64}
    assert decide(amd(aiter="04907edc", triton="3.4.0", environ={ESCAPE: "1"})).chosen == "aiter-flat"


def test_flat_pages_before_04907edc() -> None:
    """The plain kernel of older sources asserts pages of one token."""
    assert codes(decide(amd(triton="3.4.0")), "aiter-flat") == ["aiter.plain-one-token"]


def test_gfx90a_runs_nothing_of_aiter() -> None:
    """gfx90a has no fp8 type in Triton: our own kernels convert by arithmetic and run."""
    for generation, triton in (("a6bb4993", "3.4.0"), ("04907edc", "3.6.0")):
        decision = decide(amd("gfx90a", aiter=generation, triton=triton))
        assert all("device.arch" in codes(decision, row) for row in AITER_ROWS)
        assert decision.chosen == "portable"


def test_a_dcu_is_not_amds() -> None:
    """Hygon's DCU is a HIP build of torch and never gets aiter: linear pages of 64."""
    layout = select_indexer_layout(amd("gfx936"))
    assert (layout.row, layout.page_size, layout.preshuffle) == ("reference", 64, False)
    assert all("device.arch" in codes(layout.decision, row) for row in AITER_ROWS)
    assert "Hygon's DCU" in reason(layout.decision, "aiter-token", "device.arch").required


@pytest.mark.parametrize(
    ("arch", "generation", "triton"),
    [
        ("gfx942", "a8eb62f5", "3.5.1"),
        ("gfx950", "914dcee3", "3.5.1"),
        ("gfx942", "914dcee3", "3.6.0"),
        ("gfx950", "10c87ea1", "3.6.0"),
    ],
)
def test_gates_passed_and_not_compiling(arch: str, generation: str, triton: str) -> None:
    """What passes aiter's gates and was seen not to compile is refused, page 1 too."""
    assert codes(decide(amd(arch, aiter=generation, triton=triton)), "aiter-token") == ["aiter.does-not-compile"]


def test_several_gpus_of_one_arch_are_one_arch() -> None:
    """Eight MI300X decide like one."""
    caps = amd(archs=("gfx942",) * 8)
    assert decide(caps).chosen == "aiter-preshuffle"
    assert caps.archs == ("gfx942",)


def test_gpus_of_different_dialects_have_no_common_format() -> None:
    """gfx942 with gfx950: the same bits are worth twice or half, so no row is met until one kind is hidden."""
    caps = amd(archs=("gfx942", "gfx950"))
    decision = decide(caps)
    assert decision.chosen is None
    assert all("device.dialects" in codes(decision, row.name) for row in ROWS if row.name != "deepgemm")
    with pytest.raises(NoUsableLayoutError) as caught:
        select_indexer_layout(caps)
    assert caught.value.reasons == tuple(each for verdict in decision.verdicts for each in verdict.reasons)
    assert fix(caps, "aiter-preshuffle") == [f"{UNSET_ABOVE}export ROCR_VISIBLE_DEVICES=0"]


def test_gpus_of_one_dialect_and_two_archs() -> None:
    """gfx950 with gfx1151: aiter would compile for the first alone (aiter#3807); our own kernels run on both."""
    decision = decide(amd(archs=("gfx950", "gfx1151"), aiter="04907edc"))
    assert "aiter.arch-differs" in codes(decision, "aiter-token")
    assert decision.chosen == "portable"


def test_an_integrated_gpu_in_front_is_what_aiter_sees() -> None:
    """What rocminfo prints first counts: HIP_VISIBLE_DEVICES does not hide it from aiter, ROCR_VISIBLE_DEVICES does."""
    caps = amd("gfx942", rocminfo_arch="gfx1036")
    decision = decide(caps)
    assert {"aiter.unknown-arch", "aiter.arch-differs"} <= set(codes(decision, "aiter-preshuffle"))
    assert fix(caps, "aiter-preshuffle") == [f"{UNSET_ABOVE}export ROCR_VISIBLE_DEVICES=0"]


def test_an_unknown_first_gpu_never_selects() -> None:
    """Where it is not known what rocminfo prints first, it is not known what aiter compiles for."""
    decision = decide(amd().replace(rocminfo_arch=None))
    assert all(decision.verdict(row).verdict != "met" for row in AITER_ROWS)
    assert "device.unknown" in codes(decision, "aiter-token")
    named = amd(environ={"GPU_ARCHS": "gfx942"}).replace(rocminfo_arch=None)
    assert decide(named).chosen == "aiter-preshuffle"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("gfx942;gfx950", "aiter.arch-differs"),
        ("GFX942", "aiter.unknown-arch"),
        ("gfx942,gfx950", "aiter.unknown-arch"),
        (" gfx942", "aiter.unknown-arch"),
        ("", "switch.unreadable"),
        ("gfx942;", "switch.unreadable"),
    ],
)
def test_gpu_archs_that_name_another_gpu(value: str, code: str) -> None:
    """The last entry counts as it stands: what is not the running GPU's is refused, and unsetting is the fix."""
    caps = amd(environ={"GPU_ARCHS": value})
    for row in AITER_ROWS:
        assert code in codes(decide(caps), row)
    assert fix(caps, "aiter-preshuffle") == ["unset GPU_ARCHS"]


@pytest.mark.parametrize("value", ["native", "gfx942", "gfx950;gfx942"])
def test_gpu_archs_that_name_the_running_gpu(value: str) -> None:
    """`native`, the GPU's own name, and a list that ends with it change nothing."""
    assert decide(amd(environ={"GPU_ARCHS": value})).chosen == "aiter-preshuffle"


def test_no_gpu_on_a_rocm_build() -> None:
    """A HIP build on a node without a GPU runs the reference alone."""
    decision = decide(amd(archs=()))
    assert decision.chosen == "reference"
    assert "device.none" in codes(decision, "aiter-preshuffle")


def test_unknown_gpus_never_select() -> None:
    """Where the GPUs are not known, neither is their fp8 dialect: no row of a ROCm build is met."""
    decision = decide(amd(archs=None))
    assert decision.chosen is None
    assert decision.verdict("aiter-preshuffle").verdict == "unknown"


# --- aiter itself


def test_an_impostor_is_named_as_one() -> None:
    """Another project named aiter is neither `missing` nor AMD's."""
    caps = amd().replace(aiter=Package("aiter", "impostor", "0.13.20191203", "aiter", "/site/aiter"), aiter_source=None)
    decision = decide(caps)
    assert codes(decision, "aiter-preshuffle") == ["package.impostor"]
    found = reason(decision, "aiter-preshuffle", "package.impostor")
    assert found.observed.startswith("another project named aiter: aiter")
    assert found.required == "AMD's aiter"


@pytest.mark.parametrize("state", ["missing", "broken"])
def test_an_aiter_that_is_not_there_or_not_whole(state: str) -> None:
    """Each state of a package is a reason of its own."""
    caps = amd().replace(aiter=Package("aiter", state), aiter_source=None)  # type: ignore[arg-type]  # parametrized
    assert codes(decide(caps), "aiter-token") == [f"package.{state}"]
    assert decide(caps).chosen == "portable"


def test_a_kernel_without_preshuffle_is_a_type_error() -> None:
    """Engines always pass Preshuffle and KVBlockSize: d36601a9 gives no row at all."""
    decision = decide(amd(aiter="d36601a9", triton="3.4.0"))
    assert all("aiter.no-preshuffle-logits" in codes(decision, row) for row in AITER_ROWS)
    assert not any("aiter.source-unknown" in codes(decision, row) for row in AITER_ROWS)


def test_cache_kernels_without_preshuffle() -> None:
    """Before a6bb4993 store and gather know flat pages only (aiter#2879)."""
    decision = decide(amd(aiter="a1bdcec9"))
    assert codes(decision, "aiter-preshuffle") == ["aiter.no-preshuffle-cache"]
    assert decision.chosen == "aiter-token"
    half = amd().replace(aiter_source=replace(GENERATIONS["a6bb4993"], gather_preshuffle=False))
    assert reason(decide(half), "aiter-preshuffle", "aiter.no-preshuffle-cache").observed == "gather without it"


def test_page_1_needs_no_switch() -> None:
    """The legacy path is there whether aiter is asked for or not; the fast rows are not."""
    decision = decide(amd(environ={"SGLANG_USE_AITER": ""}))
    assert decision.chosen == "aiter-token"
    assert codes(decision, "aiter-preshuffle") == ["switch.aiter-off"]
    assert fix(decision.caps, "aiter-preshuffle") == ["export SGLANG_USE_AITER=1"]


@pytest.mark.parametrize(("engine", "variable"), [("vllm", "VLLM_ROCM_USE_AITER"), ("generic", "NSA_CAPS_USE_AITER")])
def test_each_engine_is_told_its_own_switch(engine: str, variable: str) -> None:
    """The fix names the variable that this engine reads."""
    assert fix(amd(engine=engine, environ={}), "aiter-preshuffle") == [f"export {variable}=1"]


def test_the_off_switch_turns_tiles_off() -> None:
    """SGLANG_DSA_HIP_DISABLE_PRESHUFFLE leaves page 1, and unsetting it is the fix."""
    caps = amd(environ={"SGLANG_DSA_HIP_DISABLE_PRESHUFFLE": "true"})
    assert decide(caps).chosen == "aiter-token"
    assert codes(decide(caps), "aiter-preshuffle") == ["switch.preshuffle-off"]
    assert fix(caps, "aiter-preshuffle") == ["unset SGLANG_DSA_HIP_DISABLE_PRESHUFFLE"]


def test_two_off_switches_need_two_changes() -> None:
    """Where the newer name is unset the older one counts: the smallest fix unsets both."""
    caps = amd(environ=dict.fromkeys(("SGLANG_DSA_HIP_DISABLE_PRESHUFFLE", "SGLANG_NSA_HIP_DISABLE_PRESHUFFLE"), "1"))
    assert fix(caps, "aiter-preshuffle") == [
        "unset SGLANG_DSA_HIP_DISABLE_PRESHUFFLE",
        "unset SGLANG_NSA_HIP_DISABLE_PRESHUFFLE",
    ]


# --- Other platforms


@pytest.mark.parametrize("arch", ["sm_90", "sm_100", "sm_103", "sm_120"])
def test_deepgemm_archs(arch: str) -> None:
    """DeepGEMM has kernels for sm_90, sm_100 (sm_103 too) and sm_120."""
    layout = select_indexer_layout(nvidia(arch))
    assert (layout.row, layout.page_size) == ("deepgemm", 64)


@pytest.mark.parametrize("arch", ["sm_80", "sm_86", "sm_89", "sm_110", "sm_121"])
def test_deepgemm_fails_late_elsewhere(arch: str) -> None:
    """Engines look for the package only, and fail at the first forward pass (vllm#38476, sglang#32947)."""
    decision = decide(nvidia(arch, triton="3.8.0"))
    assert codes(decision, "deepgemm") == ["device.arch"]
    assert decision.chosen == "portable"


def test_an_arch_that_is_no_compute_capability() -> None:
    """A name that no record is of is not known to run, and no traceback."""
    decision = decide(nvidia("sm_90a"))
    assert codes(decision, "deepgemm") == ["device.arch-unproven"]
    assert decision.chosen == "reference"


def test_an_old_nvidia_gpu_runs_the_reference() -> None:
    """Triton supports compute capability 8.0 and later."""
    assert decide(nvidia("sm_75")).chosen == "reference"


def test_two_nvidia_archs() -> None:
    """Every visible GPU must be able to run the row; hiding the others is the fix where one arch would remain."""
    caps = nvidia(archs=("sm_90", "sm_80"))
    assert decide(caps).chosen == "portable"
    assert fix(caps, "deepgemm") == ["export CUDA_VISIBLE_DEVICES=0"]


def test_a_cuda_build_without_nvml_names_what_to_install() -> None:
    """The reference runs, and the advice is the package that would tell the GPUs."""
    decision = decide(nvidia(archs=None).replace(devices_unread="no-nvidia-ml-py"))
    assert decision.chosen == "reference"
    assert reason(decision, "deepgemm", "device.unknown").changes[0].text == "pip install nvidia-ml-py"
    assert decision.smallest_fix("deepgemm") is None


@pytest.mark.parametrize("platform", ["xpu", "npu", "musa", "cpu"])
def test_other_platforms_run_the_reference(platform: str) -> None:
    """Our own kernels are for CUDA and ROCm; plain torch runs anywhere."""
    decision = decide(capabilities(Machine(platform=platform, archs=(), triton="3.6.0")))
    assert decision.chosen == "reference"
    assert "platform.mismatch" in codes(decision, "portable")


def test_nothing_runs_without_torch() -> None:
    """Without torch every row is out, and the error carries every reason."""
    caps = Capabilities(devices=())
    with pytest.raises(NoUsableLayoutError) as caught:
        select_indexer_layout(caps)
    assert {"platform.unknown", "package.missing"} <= {each.code for each in caught.value.reasons}
    assert "No row may be used" in str(caught.value)


@pytest.mark.parametrize(("triton", "chosen"), [("3.2.0", "reference"), ("3.3.0", "portable"), (None, "reference")])
def test_our_own_kernels_need_triton_3_3(triton: str | None, chosen: str) -> None:
    """Our kernels were compiled with Triton 3.3 and later."""
    assert decide(nvidia("sm_80", triton=triton)).chosen == chosen


# --- Requests


def test_rows_limit_the_choice() -> None:
    """What the engine cannot run is refused as such, and the best of the rest is chosen."""
    decision = decide(amd(), Request(rows=("aiter-token", "reference")))
    assert decision.chosen == "aiter-token"
    assert codes(decision, "aiter-preshuffle") == ["row.not-in-request"]
    assert decision.smallest_fix("aiter-preshuffle") is None


def test_rows_that_are_all_out() -> None:
    """A machine that can run none of the engine's rows has no layout."""
    with pytest.raises(NoUsableLayoutError):
        select_indexer_layout(amd(), Request(rows=("deepgemm",)))


def test_a_row_that_there_is_none_of() -> None:
    """A wrong name is an error that lists the right ones, in a request, a variable and a question."""
    with pytest.raises(UnknownRowError, match="there is no row 'fast'; there are aiter-preshuffle, aiter-flat"):
        decide(amd(), Request(rows=("fast",)))
    with pytest.raises(UnknownRowError, match="'fast'"):
        decide(amd(environ={"NSA_CAPS_ROW": "fast"}))
    with pytest.raises(UnknownRowError, match="'fast'"):
        decide(amd()).verdict("fast")
    with pytest.raises(UnknownRowError, match="'fast'"):
        decide(amd()).smallest_fix("fast")


@pytest.mark.parametrize("heads", [32, 64])
def test_heads_that_the_kernels_were_compiled_with(heads: int) -> None:
    """DeepSeek-V3.2 has 64 index heads and GLM-5 32."""
    assert decide(amd(), Request(heads=heads)).chosen == "aiter-preshuffle"


def test_heads_that_no_kernel_was_compiled_with() -> None:
    """Another number of heads is unknown to every kernel but plain torch."""
    decision = decide(amd(), Request(heads=48))
    assert decision.chosen == "reference"
    assert codes(decision, "aiter-preshuffle") == ["request.shape-unproven"]


@pytest.mark.parametrize("shape", [{"head_dim": 64, "quant_block_size": 64}, {"quant_block_size": 64}])
def test_a_shape_that_the_field_does_not_have(shape: dict[str, Any]) -> None:
    """All kernels but the reference know a token of 132 bytes only."""
    decision = decide(nvidia(), Request(**shape))
    assert decision.chosen == "reference"
    assert codes(decision, "deepgemm") == ["request.shape"]


@pytest.mark.parametrize(
    "shape", [{"head_dim": 130}, {"head_dim": 6, "quant_block_size": 6}, {"quant_block_size": 256}]
)
def test_a_shape_that_has_no_page(shape: dict[str, Any]) -> None:
    """Scale blocks must fill the key, and the key whole words."""
    with pytest.raises(NoUsableLayoutError):
        select_indexer_layout(nvidia(), Request(**shape))


@pytest.mark.parametrize("field", ["heads", "head_dim", "quant_block_size", "index_kpool", "page_size"])
@pytest.mark.parametrize("value", [0, -1, 1.0, "64", True])
def test_a_request_that_no_machine_could_meet(field: str, value: object) -> None:
    """A number that is no positive whole number is refused by name when the request is made."""
    with pytest.raises(RequestError, match=f"{field} is {value!r}"):
        Request(**{field: value})  # type: ignore[arg-type]  # as a user may


@pytest.mark.parametrize("field", ["heads", "head_dim", "quant_block_size", "index_kpool", "page_size"])
def test_what_a_request_counts_has_31_bits(field: str) -> None:
    """The largest number that an int32 holds is taken, and the error of the next one names it."""
    assert getattr(Request(**{field: 2**31 - 1}), field) == 2**31 - 1  # type: ignore[arg-type]  # a count
    with pytest.raises(RequestError, match=f"{field} is 2147483648, needs a whole number from 1 to 2147483647"):
        Request(**{field: 2**31})  # type: ignore[arg-type]  # a count


@pytest.mark.parametrize("rows", ["portable", ()])
def test_rows_that_are_no_choice(rows: Any) -> None:
    """A text is no tuple of names, and nothing is nothing to choose from."""
    with pytest.raises(RequestError, match="rows is"):
        Request(rows=rows)


def test_rows_may_be_a_list() -> None:
    """Any sequence of names is taken, and kept as a tuple."""
    assert Request(rows=["portable"]).rows == ("portable",)  # type: ignore[arg-type]  # as a user may


def test_kpool_makes_model_pages_larger() -> None:
    """With GLM-5.3's pooling a page of 64 index slots is a model page of 64 x kpool tokens."""
    layout = select_indexer_layout(amd(), Request(index_kpool=4))
    assert (layout.page_size, layout.model_page_size) == (64, 256)


# --- Forced rows


def test_a_forced_row_is_taken_where_it_is_met() -> None:
    """NSA_CAPS_ROW displaces every better row, with that reason."""
    decision = decide(amd(environ={"NSA_CAPS_ROW": "portable"}))
    assert (decision.chosen, decision.forced) == ("portable", False)
    assert codes(decision, "aiter-preshuffle") == ["row.forced"]
    assert fix(decision.caps, "aiter-preshuffle") == ["unset NSA_CAPS_ROW"]


def test_a_forced_row_is_refused_where_it_is_not_met() -> None:
    """A forced row that cannot run leaves no layout: another is not taken silently."""
    caps = amd(triton="3.4.0", environ={"NSA_CAPS_ROW": "aiter-preshuffle"})
    with pytest.raises(NoUsableLayoutError) as caught:
        select_indexer_layout(caps)
    assert codes(caught.value.decision, "aiter-preshuffle") == ["triton.too-old"]
    assert codes(caught.value.decision, "aiter-token") == ["row.forced"]


def test_force_takes_a_refused_row_with_a_warning() -> None:
    """NSA_CAPS_ROW_FORCE=1 takes it all the same, and warns with the reasons."""
    caps = amd(triton="3.4.0", environ={"NSA_CAPS_ROW": "aiter-preshuffle", "NSA_CAPS_ROW_FORCE": "1"})
    with pytest.warns(ForcedRowWarning, match=r"takes aiter-preshuffle against: Triton is too old: Triton 3\.4\.0"):
        layout = select_indexer_layout(caps)
    assert (layout.row, layout.decision.forced) == ("aiter-preshuffle", True)


def test_force_of_a_row_that_is_met_warns_of_nothing() -> None:
    """Forcing what would have been allowed is no override."""
    layout = select_indexer_layout(amd(environ={"NSA_CAPS_ROW": "portable", "NSA_CAPS_ROW_FORCE": "1"}))
    assert (layout.row, layout.decision.forced) == ("portable", False)


def test_force_alone_forces_nothing() -> None:
    """Without a row there is nothing to force."""
    assert decide(amd(environ={"NSA_CAPS_ROW_FORCE": "1"})).forced is False


def test_force_cannot_take_what_the_engine_cannot_run() -> None:
    """A row outside the request stays out."""
    caps = amd(environ={"NSA_CAPS_ROW": "aiter-preshuffle", "NSA_CAPS_ROW_FORCE": "1"})
    assert decide(caps, Request(rows=("aiter-token",))).chosen is None


def test_force_cannot_take_what_has_no_dialect() -> None:
    """GPUs of two fp8 dialects have no common page format, whatever is forced."""
    caps = amd(archs=("gfx942", "gfx950"), environ={"NSA_CAPS_ROW": "portable", "NSA_CAPS_ROW_FORCE": "1"})
    assert decide(caps).chosen is None


@pytest.mark.parametrize("request_", [Request(page_size=1), Request(page_size=24), Request(head_dim=64)])
def test_force_cannot_take_what_has_no_page(request_: Request) -> None:
    """A page that cannot exist, such as tiles of one token, is refused whatever is forced."""
    caps = amd(environ={"NSA_CAPS_ROW": "aiter-preshuffle", "NSA_CAPS_ROW_FORCE": "1"})
    assert decide(caps, request_).chosen is None
    with pytest.raises(NoUsableLayoutError):
        select_indexer_layout(caps, request_)


# --- What a verdict carries


def test_all_reasons_not_the_first() -> None:
    """Everything against a row is told at once."""
    caps = amd("gfx90a", triton="3.4.0", aiter="10c87ea1", environ={"SGLANG_USE_AITER": "0", "GPU_ARCHS": "GFX90A"})
    found = codes(decide(caps, Request(page_size=48)), "aiter-preshuffle")
    assert set(found) >= {
        "switch.aiter-off", "aiter.unknown-arch", "aiter.arch-differs", "device.arch", "aiter.no-preshuffle-cache",
        "triton.too-old", "page.size",
    }  # fmt: skip


def test_every_reason_is_data() -> None:
    """A reason says what was found, what is needed and where, and its code has a sentence."""
    found = reason(decide(amd(triton="3.4.0")), "aiter-preshuffle", "triton.too-old")
    assert found.summary == CODES["triton.too-old"] == "Triton is too old"
    assert str(found) == "Triton is too old: Triton 3.4.0; needs Triton >= 3.5.0"
    assert found.changes == (Change.triton("3.5.0"),)


def test_a_reason_names_its_source() -> None:
    """Where a reason was read stands behind it."""
    caps = amd().replace(triton=Package("triton", "found", "3.4.0", source="/site/triton/__init__.py"))
    assert str(reason(decide(caps), "aiter-preshuffle", "triton.too-old")).endswith("(/site/triton/__init__.py)")


def test_a_chosen_row_needs_no_fix() -> None:
    """The smallest fix of the row that is chosen is nothing."""
    assert decide(amd()).smallest_fix("aiter-preshuffle") == []


def test_a_row_that_is_outranked_can_be_forced() -> None:
    """A row that is met behind a better one is had by naming it."""
    assert fix(amd(), "portable") == ["export NSA_CAPS_ROW=portable"]


def test_a_fix_of_several_changes() -> None:
    """The smallest fix makes every change that is needed and no other."""
    caps = amd(triton="3.4.0", environ={"SGLANG_USE_AITER": "0", AOT: "1"})
    assert sorted(fix(caps, "aiter-preshuffle") or ()) == [
        "export SGLANG_USE_AITER=1",
        'pip install "triton>=3.5.0,<3.10"',
        f"unset {AOT}",
    ]


def test_a_fix_has_five_changes_at_most() -> None:
    """No machine of the matrix needs more than four; a sixth is not searched for, so that the search ends."""
    wrong = {"SGLANG_USE_AITER": "0", AOT: "1", "GPU_ARCHS": "gfx950", "NSA_CAPS_ROW": "portable"}
    five = amd(triton="3.4.0", environ=wrong)
    assert len(fix(five, "aiter-preshuffle") or ()) == 5
    assert fix(five, "aiter-preshuffle", Request(page_size=48)) is None


def test_no_fix_can_be_foreseen_for_another_platform() -> None:
    """No change makes a CUDA machine an AMD one."""
    assert decide(nvidia()).smallest_fix("aiter-preshuffle") is None
    assert decide(nvidia()).smallest_fix("aiter-token") is None


def test_an_aiter_that_is_missing_can_be_installed() -> None:
    """What an installation would bring is foreseen from what its source shows."""
    caps = amd().replace(aiter=Package("aiter", "missing"), aiter_source=None)
    steps = decide(caps).smallest_fix("aiter-preshuffle")
    assert steps is not None
    assert [step.changes for step in steps] == [(Change.aiter("main"),)]


def test_better_rows_are_those_before_the_chosen_one() -> None:
    """With nothing chosen every row is better."""
    assert [verdict.row for verdict in decide(amd(triton="3.4.0")).better_rows()] == ["aiter-preshuffle", "aiter-flat"]
    assert len(decide(Capabilities(devices=())).better_rows()) == len(ROWS)


# --- Layouts


def test_a_layout_is_whole() -> None:
    """Page size, order, dialect, options and decision of one layout belong together."""
    layout = select_indexer_layout(amd())
    assert (layout.page_size, layout.format.page_size, layout.format.order) == (64, 64, "tiles")
    assert (layout.preshuffle, layout.format.dialect, layout.format.page_bytes) == (True, "e4m3fnuz", 64 * 132)
    assert layout.logits_options == {"Preshuffle": True, "KVBlockSize": 64}
    assert layout.decision.chosen == layout.row == "aiter-preshuffle"
    assert layout.fingerprint == layout.format.fingerprint
    assert layout.explain() == layout.decision.explain()


@pytest.mark.parametrize(
    ("caps", "dialect"),
    [
        (amd("gfx942"), "e4m3fnuz"),
        (amd("gfx950"), "e4m3fn"),
        (amd("gfx90a"), "e4m3fn"),
        (nvidia("sm_90"), "e4m3fn"),
        (nvidia(archs=None), "e4m3fn"),
        (amd(archs=()), "e4m3fn"),
    ],
)
def test_the_dialect_is_the_gpus(caps: Capabilities, dialect: str) -> None:
    """e4m3fnuz on gfx94x, e4m3fn elsewhere."""
    assert select_indexer_layout(caps).format.dialect == dialect


def test_page_1_has_no_tiles() -> None:
    """aiter-token is flat, and its kernel is told so."""
    layout = select_indexer_layout(amd(triton="3.4.0"))
    assert (layout.page_size, layout.preshuffle) == (1, False)
    assert layout.logits_options == {"Preshuffle": False, "KVBlockSize": 1}


def test_a_layout_is_pickled_as_its_decision() -> None:
    """An engine may send a layout to its workers."""
    layout = select_indexer_layout(amd(), Request(heads=32))
    assert pickle.loads(pickle.dumps(layout)) == layout  # noqa: S301 our own bytes


def test_a_decision_is_pickled_with_its_verdicts() -> None:
    """A launcher may decide once and send the decision to its workers, with a requested row or without any."""
    for decision in (decide(amd()), decide(amd(), Request(rows=("deepgemm",)))):
        again = pickle.loads(pickle.dumps(decision))  # noqa: S301 our own bytes
        assert again == decision
        assert again.verdicts == decision.verdicts


def test_errors_are_pickled() -> None:
    """What is raised in a worker process arrives in the parent as it was."""
    with pytest.raises(NoUsableLayoutError) as raised:
        select_indexer_layout(amd(), Request(rows=("deepgemm",)))
    again = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 our own bytes
    assert (str(again), again.decision) == (str(raised.value), raised.value.decision)
    with pytest.raises(RequestError) as refused:
        Request(heads=-1)
    again = pickle.loads(pickle.dumps(refused.value))  # noqa: S301 our own bytes
    assert (type(again), str(again)) == (RequestError, str(refused.value))


def test_a_layout_over_other_rows_is_not_pickled_as_another_one() -> None:
    """A layout of a third party's row that cannot be pickled says so, and does not come back as one of ours."""
    mine = replace(ROWS[-1], name="mine", requirements=())
    layout = select_indexer_layout(amd(), rows=(mine, *ROWS))
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        pickle.dumps(layout)


def test_a_row_of_ones_own() -> None:
    """A third party's row is decided like the others, before or behind them."""
    mine = replace(ROWS[-1], name="mine", requirements=())
    assert isinstance(mine, Row)
    assert decide(amd(), rows=(mine, *ROWS)).chosen == "mine"
    assert decide(amd(), rows=(*ROWS, mine)).chosen == "aiter-preshuffle"
    layout = select_indexer_layout(amd(), Request(rows=("mine",)), rows=(*ROWS, mine))
    assert (layout.row, layout.decision.verdict("mine").verdict) == ("mine", "met")


def test_a_hand_made_device_is_enough() -> None:
    """Any machine can be asked about: capabilities are made by hand as well as probed."""
    caps = Capabilities(
        platform="cuda",
        devices=(Device(0, "sm_90", "by hand"),),
        torch=Package("torch", "found"),
        triton=Package("triton", "found", "3.6.0"),
        deep_gemm=Package("deep_gemm", "found"),
    )
    # What its DeepGEMM was built for nobody said.
    assert select_indexer_layout(caps).row == "portable"
