"""What each row needs, at its edges: every page size, arch, head count and unknown fact, one by one."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import ROWS, AotBundle, AotKernel, Capabilities, Device, Package, Request, decide
from nsa_caps.capabilities.cuda import CudaToolkit, Ptxas
from nsa_caps.capabilities.records import PLATFORMS
from nsa_caps.policy.aiter_gates import (
    aot_kernel_name,
    below_import_gate,
    has_new_triton,
    in_triton_gap,
    jit_runs,
    no_compile_reason,
)
from nsa_caps.testing import GENERATIONS
from tests.hand import capabilities
from tests.oracle import Machine
from tests.real_aiter.compiles import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsa_caps import Decision, Reason
    from nsa_caps.capabilities.records import Platform

ASKED, ESCAPED = {"SGLANG_USE_AITER": "1"}, {"SGLANG_USE_AITER": "1", "AITER_USE_SYSTEM_TRITON": "1"}
AOT = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS"
INDEX = "https://download.pytorch.org/whl"
AITER_ROWS = ("aiter-preshuffle", "aiter-flat", "aiter-token")


def amd(
    arch: str = "gfx942", triton: str | None = "3.6.0", generation: str = "a6bb4993", **environ: str
) -> Capabilities:
    """Return an AMD machine whose engine asks for aiter."""
    return capabilities(
        Machine(platform="rocm", archs=(arch,), triton=triton, aiter=generation, environ={**ASKED, **environ})
    )


def nvidia(*archs: str, triton: str = "3.6.0") -> Capabilities:
    """Return an NVIDIA machine with DeepGEMM."""
    return capabilities(Machine(platform="cuda", archs=archs, triton=triton, deep_gemm=True))


def reason(decision: Decision, row: str, code: str) -> Reason:
    """Return the one reason of a code against a row."""
    (found,) = (each for each in decision.verdict(row).reasons if each.code == code)
    return found


def codes(decision: Decision, row: str) -> list[str]:
    """Return the codes of the reasons against a row."""
    return [each.code for each in decision.verdict(row).reasons]


# A machine on which each row is met as it stands.
BEST = {
    "aiter-preshuffle": amd(),
    "aiter-flat": amd("gfx1151", generation="04907edc"),
    "aiter-token": amd(triton="3.4.0"),
    "deepgemm": nvidia("sm_90"),
    "portable": nvidia("sm_80"),
    "reference": nvidia("sm_80"),
}


# --- Page sizes, heads, shapes


@pytest.mark.parametrize(
    ("row", "takes"),
    [
        ("aiter-preshuffle", lambda size: size in (16, 32, 64, 128) or size % 256 == 0),
        ("aiter-flat", lambda size: size in (2, 4, 8, 16, 32, 64, 128) or size % 256 == 0),
        ("aiter-token", lambda size: size == 1),
        ("deepgemm", lambda size: size == 64),
        ("portable", lambda size: size in (1, 16, 32, 64, 128, 256)),
        ("reference", lambda _: True),
    ],
    ids=BEST,
)
def test_the_page_sizes_that_a_row_takes(row: str, takes: Callable[[int], bool]) -> None:
    """Of all sizes to 1,100 a row takes exactly those that its kernels do, and its verdict carries the size asked."""
    for size in range(1, 1101):
        verdict = decide(BEST[row], Request(page_size=size)).verdict(row)
        assert (verdict.verdict == "met") == takes(size), size
        assert verdict.page_size == size


def test_the_page_size_of_a_row_where_none_is_asked() -> None:
    """64 slots a page, and one for the row of tokens."""
    sizes = {verdict.row: verdict.page_size for verdict in decide(amd()).verdicts}
    assert sizes == {row.name: 1 if row.name == "aiter-token" else 64 for row in ROWS}


@pytest.mark.parametrize("row", [name for name in BEST if name != "reference"])
def test_the_head_counts_that_a_row_takes(row: str) -> None:
    """Every kernel but plain torch was compiled with 32 and 64 heads, and with no other number."""
    met = [heads for heads in range(1, 130) if row in met_rows(BEST[row], Request(heads=heads))]
    assert met == [32, 64]


def test_the_shapes_that_plain_torch_takes() -> None:
    """Whole scale blocks, and keys of whole words, behind which the scales lie."""
    for head_dim, block in product(range(1, 41), range(1, 41)):
        met = "reference" in met_rows(nvidia("sm_80"), Request(head_dim=head_dim, quant_block_size=block))
        assert met == (head_dim % block == 0 and head_dim % 4 == 0), (head_dim, block)


@pytest.mark.parametrize("shape", [(64, 64), (128, 64), (256, 128), (256, 256)])
def test_the_shape_that_every_kernel_takes(shape: tuple[int, int]) -> None:
    """128 dimensions under one scale, and no other shape, larger or smaller."""
    decision = decide(amd(), Request(head_dim=shape[0], quant_block_size=shape[1]))
    assert all("request.shape" in codes(decision, row.name) for row in ROWS if row.name != "reference")


def test_one_unmet_reason_outweighs_any_unknown() -> None:
    """48 heads are not known to run, and a page of 48 is known not to."""
    unknown, unmet = Request(heads=48), Request(heads=48, page_size=48)
    assert decide(amd(), unknown).verdict("aiter-preshuffle").verdict == "unknown"
    assert decide(amd(), unmet).verdict("aiter-preshuffle").verdict == "unmet"


def test_a_decision_is_shown_without_the_table_that_it_was_made_over() -> None:
    """A log line holds the verdicts, not forty functions."""
    assert "function" not in repr(decide(amd()))


def met_rows(caps: Capabilities, request: Request | None = None) -> set[str]:
    """Return the rows that are met."""
    return {verdict.row for verdict in decide(caps, request).verdicts if verdict.verdict == "met"}


# --- GPUs


def test_the_compute_capabilities_that_a_row_takes() -> None:
    """DeepGEMM takes what it has kernels for, our own kernels what they were compiled for; plain torch takes any."""
    for sm in range(50, 140):
        rows = met_rows(nvidia(f"sm_{sm}", triton="3.9.0"))
        assert ("deepgemm" in rows) == (sm in (90, 100, 103, 120)), sm
        assert ("portable" in rows) == (sm in (80, 86, 87, 89, 90, 100, 103, 107, 110, 120, 121)), sm
        assert "reference" in rows


def test_the_highest_floor_of_all_gpus_counts() -> None:
    """Two GPUs that need different Tritons are judged alike in either order."""
    for archs in (("sm_103", "sm_110"), ("sm_110", "sm_103")):
        assert "portable" not in met_rows(nvidia(*archs, triton="3.6.0"))
        assert (
            reason(decide(nvidia(*archs, triton="3.6.0")), "portable", "triton.too-old").required == "Triton >= 3.7.1"
        )
        assert "portable" in met_rows(nvidia(*archs, triton="3.7.1"))


@pytest.mark.parametrize(
    ("arch", "triton", "row", "verdict"),
    [
        ("sm_103", "3.5.1", "portable", "unmet"),
        ("sm_103", "3.6.0rc1", "portable", "unknown"),
        ("sm_103", "3.6.0.dev20260101+git1", "portable", "unknown"),
        ("sm_103", "3.6.0+git4cff872c", "portable", "met"),
        ("sm_103", "3.6.1rc1", "portable", "met"),
        ("sm_90", "3.6.0rc1", "portable", "met"),
        ("gfx1250", "3.6.0rc1", "portable", "unknown"),
        ("gfx1250", "3.7.0rc1", "aiter-preshuffle", "unknown"),
        ("gfx1250", "3.7.0", "aiter-preshuffle", "met"),
    ],
)
def test_a_pre_release_of_a_floor_was_not_measured(arch: str, triton: str, row: str, verdict: str) -> None:
    """What compiled was the release: whether 3.6.0rc1 does is not known, though aiter's own gates let it pass."""
    caps = nvidia(arch, triton=triton) if arch.startswith("sm_") else amd(arch, triton, "861b4c93")
    found = decide(caps).verdict(row)
    assert found.verdict == verdict
    if verdict == "unknown":
        (told,) = found.reasons
        assert (told.code, told.observed) == ("device.arch-unproven", f"{arch} with Triton {triton}")
        assert "triton>=3." in (told.fix or "").lower().replace(" ", "")


@pytest.mark.parametrize(("arch", "triton"), [("gfx950", "3.3.0rc1"), ("gfx942", "3.2.0rc1")])
def test_nor_was_one_of_the_plain_kernels_floor(arch: str, triton: str) -> None:
    """Where aiter's plain kernel was seen to fail below, a pre-release is not known to; nor where it was not tried."""
    found = decide(amd(arch, triton)).verdict("aiter-token")
    assert [(told.code, told.verdict) for told in found.reasons] == [("device.arch-unproven", "unknown")]


def gpus(*archs: str) -> Capabilities:
    """Return an NVIDIA machine whose GPUs were each read in a place of its own."""
    devices = (Device(index, arch, f"NVML: device {index}") for index, arch in enumerate(archs))
    return nvidia(*archs).replace(devices=tuple(devices))


def test_a_reason_names_the_gpu_that_it_is_about() -> None:
    """Of several GPUs those that a row cannot use are named, the first where it was read, and hidden by the fix."""
    found = reason(decide(gpus("sm_100", "sm_80", "sm_75")), "deepgemm", "device.arch")
    assert (found.observed, found.source) == ("sm_80, sm_75", "NVML: device 1")
    assert found.fix == "export CUDA_VISIBLE_DEVICES=0"


def test_hiding_gpus_is_a_fix_where_one_arch_would_remain() -> None:
    """With sm_90 and sm_100 beside it, it is for the user to say which shall stay."""
    assert reason(decide(gpus("sm_90", "sm_100", "sm_80")), "deepgemm", "device.arch").fix is None


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("unread", ["no-nvidia-ml-py", "nvml", "cuda-order", "hip-and-torch", "wsl", "vendor", None])
def test_gpus_that_are_not_known_can_be_made_known(platform: str, unread: str | None) -> None:
    """By what stood in the way, and none of it done already; or they are stated, as the vendor's tool tells them."""
    caps = capabilities(Machine(platform=platform, archs=None, triton="3.6.0", deep_gemm=True))
    caps = replace(caps, devices_unread=unread)  # type: ignore[arg-type]  # each of them
    (found,) = {each.changes for each in decide(caps).verdict("portable").reasons if each.code == "device.unknown"}
    texts = " ".join(change.text for change in found)
    assert all(change.kind == "advice" for change in found)
    assert ("pip install nvidia-ml-py" in texts) == (unread == "no-nvidia-ml-py")
    assert ("CUDA_DEVICE_ORDER=PCI_BUS_ID" in texts) == (unread == "cuda-order")
    assert ("unset HIP_VISIBLE_DEVICES" in texts) == (unread == "hip-and-torch")
    assert ("NSA_CAPS_ARCH=" in texts) == (platform in ("rocm", "cuda"))


def test_gpus_of_two_dialects_can_be_shown_one_kind_at_a_time() -> None:
    """Either kind may be the one to keep: each is a fix."""
    caps = capabilities(Machine(platform="rocm", archs=("gfx942", "gfx950"), triton="3.6.0"))
    found = reason(decide(caps), "reference", "device.dialects")
    assert found.observed == "gfx942, gfx950"
    assert [change.value for change in found.changes] == ["0", "1"]


def test_a_thousand_archs_are_no_thousand_fixes() -> None:
    """A stranger's snapshot of as many archs as devices costs what one of eight does: each fix would be decided."""
    archs = [*(f"gfx94{index:x}" for index in range(999)), "gfx950"]
    devices = tuple(Device(index, arch, "source") for index, arch in enumerate(archs))
    caps = Capabilities(platform="rocm", devices=devices, rocminfo_arch="gfx940")
    decision = decide(caps)
    counts = {reason.code: len(reason.changes) for each in decision.verdicts for reason in each.reasons}
    assert (counts["device.dialects"], counts["aiter.arch-differs"], max(counts.values())) == (8, 8, 8)
    assert "and of 992 archs more" in decision.explain()


def test_a_gpu_without_fp8_is_named_where_it_was_read() -> None:
    """Whichever GPUs stand before it."""
    for first in ("gfx942", "gfx1100"):
        devices = (Device(0, first, "node 1"), Device(1, "gfx90a", "node 2"))
        found = reason(decide(amd().replace(devices=devices)), "aiter-token", "device.arch")
        assert (found.observed, found.source) == ("gfx90a", "node 2")


# --- Packages


@pytest.mark.parametrize(
    ("name", "row", "required", "fix"),
    [
        (
            "torch",
            "reference",
            "torch, built for a CUDA that the driver takes (nvidia-smi names it)",
            f"pip install torch --index-url {INDEX}/cu130",
        ),
        ("triton", "portable", "triton", 'pip install "triton>=3.6.0,<3.10"'),
        ("deep_gemm", "deepgemm", "deep_gemm", 'pip install "sgl-deep-gemm>=0.1.5"'),
    ],
)
def test_a_package_that_is_missing_is_named_with_what_brings_it(name: str, row: str, required: str, fix: str) -> None:
    """The distribution is what is installed, which is not always of the package's name."""
    caps = nvidia("sm_90").replace(build="13.0")
    missing = replace(caps, **{name: Package(name, "missing")})  # type: ignore[arg-type]  # any of them
    found = reason(decide(missing), row, "package.missing")
    assert (found.required, found.fix) == (required, fix)


def test_an_aiter_that_is_missing_is_amds() -> None:
    """`pip install aiter` would bring another project."""
    found = reason(decide(amd().replace(aiter=Package("aiter", "missing"))), "aiter-token", "package.missing")
    assert found.required == "AMD's aiter"
    assert "pip" not in str(found.fix)


def test_a_source_that_is_not_understood_is_named() -> None:
    """Where aiter's source was looked for, or where the package is if it was not."""
    caps = amd().replace(aiter=Package("aiter", "found", location="/site/aiter"))
    nothing = reason(decide(caps.replace(aiter_source=None)), "aiter-token", "aiter.source-unknown")
    part = replace(GENERATIONS["a6bb4993"], location="/src/aiter", mfma=None)
    some = reason(decide(caps.replace(aiter_source=part)), "aiter-token", "aiter.source-unknown")
    assert (nothing.source, some.source, some.observed) == ("/site/aiter", "/src/aiter", "mfma")


# --- Switches


@pytest.mark.parametrize("word", ["0", "false"])
def test_an_off_switch_that_says_no_turns_nothing_off(word: str) -> None:
    """Set to a word for no, the variable leaves the tiled layout on."""
    assert decide(amd(SGLANG_DSA_HIP_DISABLE_PRESHUFFLE=word)).chosen == "aiter-preshuffle"


@pytest.mark.parametrize("variable", ["AITER_TRITON_ONLY", "AITER_AOT_IMPORT"])
def test_a_variable_that_would_trim_aiters_import_has_to_say_so(variable: str) -> None:
    """Exactly 1 bars aiter's rows; set to 0 it bars nothing."""
    assert decide(amd(generation="04907edc", **{variable: "0"})).chosen == "aiter-preshuffle"
    barred = decide(amd(generation="04907edc", **{variable: "1"}))
    assert reason(barred, "aiter-token", "aiter.import-trimmed").fix == f"unset {variable}"


# --- aiter's gates


@pytest.mark.parametrize(
    ("generation", "triton", "new"),
    [
        ("fe927e8d", "3.4.9", False),
        ("fe927e8d", "3.5.0", True),
        ("fe927e8d", "3.6.0", True),
        ("fe927e8d", "3.10.0", False),
        ("914dcee3", "3.4.9", False),
        ("914dcee3", "3.5.0rc1", True),
        ("914dcee3", "3.5.0", True),
        ("914dcee3", "3.10.0", True),
        ("914dcee3", "no version", None),
        ("914dcee3", None, None),
    ],
)
def test_when_triton_is_new_to_the_logits_module(generation: str, triton: str | None, new: bool | None) -> None:
    """fe927e8d compares text, 914dcee3 base versions; what cannot be compared is not known."""
    assert has_new_triton(GENERATIONS[generation], triton) is new


@pytest.mark.parametrize(
    ("generation", "triton", "barred"),
    [
        ("fe927e8d", "3.3.1", False),
        ("fe927e8d", "3.4.0", True),
        ("fe927e8d", "3.4.1", True),
        ("fe927e8d", "3.5.0", False),
        ("fe927e8d", None, None),
        ("914dcee3", "3.4.0", False),
        ("914dcee3", None, False),
    ],
)
def test_the_gap_of_triton_3_4(generation: str, triton: str | None, barred: bool | None) -> None:
    """Only fe927e8d asserts at import, on Triton 3.4.x."""
    assert in_triton_gap(GENERATIONS[generation], triton) is barred
    assert in_triton_gap(replace(GENERATIONS["fe927e8d"], gluon_triton=None), triton) is None


def test_an_aiter_without_a_gate_bars_no_triton() -> None:
    """Before f061fba9 the package imports with any Triton, also one whose version is not known."""
    for triton in ("3.0.0", "no version", None):
        assert below_import_gate(GENERATIONS["a6bb4993"], triton) is False
    assert below_import_gate(GENERATIONS["f061fba9"], None) is None


@pytest.mark.parametrize(
    ("generation", "required"),
    [("f061fba9", "Triton >= 3.6.0"), ("3b2e6f48", "Triton >= 3.6.0, or AITER_USE_SYSTEM_TRITON=1")],
)
def test_what_an_import_gate_requires(generation: str, required: str) -> None:
    """The way around the gate is told where there is one."""
    barred = reason(decide(amd(triton="3.5.1", generation=generation)), "aiter-token", "aiter.import-barred")
    assert barred.required == required


UNKNOWN = sorted(set(GENERATIONS["04907edc"].__dataclass_fields__) - {"location", "wide_offsets", "logits_module"})


@pytest.mark.parametrize("fact", UNKNOWN)
@pytest.mark.parametrize("generation", ["fe927e8d", "a6bb4993", "3b2e6f48", "04907edc"])
def test_a_fact_that_is_not_known_meets_no_row(generation: str, fact: str) -> None:
    """Without any one fact of the source there is an answer, and no row is met that was not met with it."""
    source = GENERATIONS[generation]
    environs: tuple[dict[str, str], ...] = ({}, {AOT: "1"}, {"AITER_USE_SYSTEM_TRITON": "1"})
    for arch, triton, environ in product(("gfx942", "gfx1151", "gfx1250"), ("3.3.1", "3.6.0", None), environs):
        known = amd(arch, triton, generation, **environ)
        if triton is None:
            known = known.replace(triton=Package("triton", "found", None))
        unknown = known.replace(aiter_source=replace(source, **{fact: None}))  # type: ignore[arg-type]  # any
        assert met_rows(unknown) <= met_rows(known)
        shared = fact not in ("store_preshuffle", "gather_preshuffle", "chunk_rule", "plain_pages")
        # Asked for where `import aiter` comes to it, and where the engine does.
        shared = shared and (fact != "flydsl_needs" or bool(source.imports_flydsl))
        for row in AITER_ROWS if shared and getattr(source, fact) is not None else ():
            assert decide(unknown).verdict(row).verdict != "met"


def test_whether_a_kernel_is_compiled_in_place_may_not_be_known() -> None:
    """Without the fact that says what the ahead-of-time variable does, it is neither yes nor no."""
    source = replace(GENERATIONS["a6bb4993"], aot_stops_jit=None)
    assert jit_runs(amd().replace(aiter_source=source)) is None
    assert jit_runs(amd()) is True


def test_an_old_triton_is_named_where_the_arch_would_do_and_the_arch_where_it_would_not() -> None:
    """With a new Triton what keeps gluon from gfx1151 is the arch."""
    decision = decide(amd("gfx1151", generation="04907edc"))
    assert codes(decision, "aiter-preshuffle") == ["aiter.arch-not-gluon"]
    found = reason(decision, "aiter-preshuffle", "aiter.arch-not-gluon")
    assert (found.required, found.fix) == ("one of gfx942, gfx950, gfx1250", None)


def test_a_newer_aiter_helps_the_arch_alone_that_it_brought() -> None:
    """861b4c93 brought gfx1250 to the gluon kernels, and neither gfx90a nor gfx1151."""
    for arch, helped in (("gfx90a", False), ("gfx1151", False), ("gfx1250", True)):
        found = reason(decide(amd(arch, triton="3.7.0")), "aiter-token", "aiter.arch-not-gluon")
        assert bool(found.changes) == helped


def test_an_arch_that_aiter_does_not_know_is_mended_where_it_came_from() -> None:
    """Named by GPU_ARCHS, unset it; printed by rocminfo, a newer aiter may know it."""
    named = reason(decide(amd(GPU_ARCHS="GFX942")), "aiter-token", "aiter.unknown-arch")
    assert named.fix == "unset GPU_ARCHS"
    printed = reason(decide(amd().replace(rocminfo_arch="gfx1036")), "aiter-token", "aiter.unknown-arch")
    assert [change.kind for change in printed.changes] == ["aiter"]


def test_unsetting_the_aot_variable_helps_flat_pages_on_an_old_triton_only() -> None:
    """On a new Triton gluon is active whatever the variable says."""
    for triton, fix in (("3.4.0", f"unset {AOT}"), ("3.6.0", None)):
        decision = decide(amd(triton=triton, generation="04907edc", **{**ESCAPED, AOT: "1"}))
        assert reason(decision, "aiter-flat", "aiter.flat-reads-wrong").fix == fix
    assert reason(decide(amd(triton="3.6.0")), "aiter-flat", "aiter.flat-reads-wrong").fix is None


def test_a_shape_of_two_numbers_compiles_below_triton_3_6() -> None:
    """What 914dcee3 wrote compiles on Triton 3.5.1 and not on 3.6.0."""
    assert decide(amd(triton="3.5.1", generation="914dcee3")).chosen == "aiter-token"
    for triton in ("3.6", "3.6.0"):
        assert codes(decide(amd(triton=triton, generation="914dcee3")), "aiter-token") == ["aiter.does-not-compile"]


@pytest.mark.parametrize(("triton", "compiles"), [("3.6.9", False), ("3.7", True), ("3.7.0", True)])
def test_gfx1250_compiles_from_triton_3_7_on(triton: str, compiles: bool) -> None:
    """However many numbers the version has."""
    refused = no_compile_reason(amd("gfx1250", triton, "861b4c93"), "preshuffle", "gfx1250")
    assert (refused is None) == compiles


def test_what_compiles_is_not_told_of_a_triton_that_is_not_known() -> None:
    """Whether a version is known is another requirement's to say."""
    caps = amd("gfx1250", generation="914dcee3").replace(triton=Package("triton", "found", None))
    assert no_compile_reason(caps, "base", "gfx1250") is None


@pytest.mark.parametrize(
    ("environ", "source"), [({"GPU_ARCHS": "gfx950"}, "GPU_ARCHS"), ({}, "the first GPU that rocminfo prints")]
)
def test_where_aiter_takes_its_arch_from(environ: dict[str, str], source: str) -> None:
    """The reason names the variable, or the tool, by which another GPU came in."""
    caps = amd(**environ).replace(rocminfo_arch="gfx950")
    assert reason(decide(caps), "aiter-token", "aiter.arch-differs").source == source


# --- The plain kernel


def measured() -> dict[str, dict[tuple[int, ...], bool]]:
    """Return by arch with which Tritons the plain kernel of 04907edc was seen to compile."""
    found: dict[str, dict[tuple[int, ...], bool]] = {}
    for key, result in table().items():
        if (key.commit, key.kernel) == ("04907edc", "plain"):
            release = tuple(int(part) for part in key.triton.split("."))
            found.setdefault(key.arch, {})[release] = result == "ok"
    return found


@pytest.mark.parametrize("arch", ["gfx942", "gfx950", "gfx1100", "gfx1101", "gfx1102", "gfx1151", "gfx1200", "gfx1201"])
def test_the_plain_kernel_compiles_where_it_was_measured_to(arch: str) -> None:
    """The lowest Triton is the lowest that compiled it; one below is refused, or unproven, with that one as the fix."""
    lowest = min(release for release, compiled in measured()[arch].items() if compiled)
    minor = lowest[1]
    told = ("aiter.does-not-compile", "device.arch-unproven")
    for triton, compiles in ((f"3.{minor - 1}.1", False), (f"3.{minor}.0", True), (f"2.{minor + 1}.0", False)):
        decision = decide(amd(arch, triton, "04907edc", **ESCAPED))
        found = [each for each in decision.verdict("aiter-flat").reasons if each.code in told]
        refused = [] if compiles else [(f"Triton >= 3.{minor}.0", f'pip install "triton>=3.{minor}.0,<3.10"')]
        assert [(each.required, each.fix) for each in found] == refused
        assert (decision.verdict("aiter-flat").verdict == "met") == compiles


def test_of_a_gpu_that_is_not_known_only_that_is_told() -> None:
    """What the plain kernel would do for it is no second reason."""
    caps = amd(triton="3.4.0").replace(rocminfo_arch=None)
    assert codes(decide(caps), "aiter-token") == ["device.unknown"]


def test_an_arch_without_an_fp8_type_is_told_those_that_have_one() -> None:
    """gfx1103 is in aiter's map and has no fp8 type there."""
    found = reason(decide(amd("gfx1103", generation="04907edc")), "aiter-flat", "aiter.no-fp8-type")
    assert found.required == f"one of {', '.join(GENERATIONS['04907edc'].fp8_archs or ())}"


# --- The ahead-of-time bundle


@pytest.mark.parametrize(
    ("generation", "kernel", "size", "arch", "name"),
    [
        ("a6bb4993", "preshuffle", 64, "gfx942", "paged_mqa_logits_preshuffle_32x256x128_B64PFW2"),
        ("a6bb4993", "preshuffle", 16, "gfx1100", "paged_mqa_logits_preshuffle_32x256x128_B16PFW2"),
        ("a6bb4993", "base", 1, "gfx942", "paged_mqa_logits_32x256x128_B1PFW2"),
        ("a6bb4993", "base", 1, "gfx1100", "paged_mqa_logits_32x256x128_B1PFW2"),
        ("861b4c93", "preshuffle", 64, "gfx1250", "paged_mqa_logits_preshuffle_32x256x128_B64PFW2"),
        ("04907edc", "preshuffle", 64, "gfx1250", "paged_mqa_logits_preshuffle_32x256x128_B64PFW4"),
        ("04907edc", "preshuffle", 64, "gfx1100", "paged_mqa_logits_preshuffle_32x256x128_B64PFW2"),
        ("04907edc", "base", 1, "gfx1250", "paged_mqa_logits_32x256x128_B1PFW1"),
    ],
)
def test_the_name_of_an_ahead_of_time_kernel(generation: str, kernel: str, size: int, arch: str, name: str) -> None:
    """The folder that aiter's loader asks for: heads, page size, and the waves of gfx1250."""
    assert aot_kernel_name(GENERATIONS[generation], kernel, 32, size, arch) == name  # type: ignore[arg-type]  # above


def test_the_row_of_tokens_looks_for_the_kernel_of_one_token() -> None:
    """Whatever page size is asked for, aiter-token has pages of one."""
    missing = reason(decide(amd(**{AOT: "1"}), Request(page_size=64)), "aiter-token", "aot.kernel-missing")
    assert missing.observed == f"{AOT}=1 and no paged_mqa_logits_64x256x128_B1PFW2"


@pytest.mark.parametrize(("arch", "other"), [("gfx942", "gfx950"), ("gfx950", "gfx942")])
def test_a_kernel_for_another_arch_does_not_serve(arch: str, other: str) -> None:
    """The path does not name the arch, so a bundle copied from another machine would be found."""
    kernel = AotKernel("paged_mqa_logits_preshuffle_64x256x128_B64PFW2", complete=True, arch=other)
    caps = amd(arch, **{AOT: "1"}).replace(aot_bundle=AotBundle("/aot", (kernel,)))
    found = reason(decide(caps), "aiter-preshuffle", "aot.wrong-arch")
    assert (found.observed, found.required) == (f"{kernel.name} for {other}", f"one for {arch}")


@pytest.mark.parametrize("variable", ["AITER_TRITON_ONLY", "AITER_AOT_IMPORT"])
def test_a_variable_that_trims_aiter_bars_every_row_of_it_until_it_is_unset(variable: str) -> None:
    """The kernels' modules import from the package what it then lacks, so that no row of aiter is left."""
    decision = decide(amd(generation="861b4c93", **{variable: "1"}))
    assert met_rows(decision.caps) == {"portable", "reference"}
    barred = reason(decision, "aiter-preshuffle", "aiter.import-trimmed")
    assert (barred.observed, barred.fix) == (f"{variable}=1", f"unset {variable}")
    steps = decision.smallest_fix("aiter-preshuffle")
    assert steps is not None
    assert [step.fix for step in steps] == [f"unset {variable}"]


def test_a_variable_that_this_aiter_does_not_read_bars_nothing() -> None:
    """AITER_TRITON_ONLY came with 315fb08e; before, it is a name like any other."""
    assert met_rows(amd(generation="a6bb4993", AITER_TRITON_ONLY="1")) == met_rows(amd(generation="a6bb4993"))


# --- DeepGEMM and the assembler, read as aiter is


def h200(**files: Any) -> Capabilities:
    """Return an H200 with a whole DeepGEMM for CUDA 12, of whose files some facts are changed."""
    caps = nvidia("sm_90")
    assert caps.deep_gemm_files is not None
    return caps.replace(deep_gemm_files=replace(caps.deep_gemm_files, **files))


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({}, None),
        ({"kernels": None}, "deepgemm.unknown"),
        ({"kernels": ()}, "deepgemm.no-paged-logits"),
        ({"kernels": ("sm100",)}, "deepgemm.arch"),
        ({"cuda": 13}, "deepgemm.cuda"),
        ({"cuda": None}, "deepgemm.unknown"),
        ({"lacks": ("tvm_ffi",)}, "deepgemm.lacks"),
        ({"lacks": None}, "deepgemm.unknown"),
        ({"nvcc": "13.1"}, "deepgemm.nvcc"),
    ],
)
def test_a_deep_gemm_that_is_there_has_to_be_one_that_runs(files: dict[str, Any], code: str | None) -> None:
    """Every fact of its files bars the row for itself; the portable row is next."""
    caps = h200(**files)
    if code == "deepgemm.nvcc":
        caps = caps.replace(cuda_toolkit=CudaToolkit(home="/cuda", source="CUDA_HOME", nvcc=True, release="12.9"))
    assert codes(decide(caps), "deepgemm") == ([] if code is None else [code])
    assert decide(caps).chosen == ("deepgemm" if code is None else "portable")


@pytest.mark.parametrize(
    ("toolkit", "verdict"),
    [
        (None, "unknown"),
        (CudaToolkit(home=None, source="no CUDA_HOME"), "unmet"),
        (CudaToolkit(home="/cuda", source="CUDA_HOME", nvcc=False), "unmet"),
        (CudaToolkit(home="/cuda", source="CUDA_HOME", nvcc=True), "met"),
        (CudaToolkit(home="/cuda", source="CUDA_HOME", nvcc=True, release="11.8"), "unmet"),
        (CudaToolkit(home="/cuda", source="CUDA_HOME", nvcc=True, release="12.3"), "met"),
    ],
)
def test_deep_gemm_compiles_with_the_toolkit_that_it_finds(toolkit: CudaToolkit | None, verdict: str) -> None:
    """Its import asserts one, its first call runs nvcc, which is to be of 12.3 or later."""
    decision = decide(h200().replace(cuda_toolkit=toolkit))
    assert decision.verdict("deepgemm").verdict == verdict


def test_the_fix_of_a_deep_gemm_fits_the_torch() -> None:
    """The public index's wheels are for CUDA 13: beside a torch for CUDA 12 none of them is a fix."""
    lacking = h200(kernels=()).replace(build="13.0")
    (change,) = reason(decide(lacking), "deepgemm", "deepgemm.no-paged-logits").changes
    assert change.text == 'pip install "sgl-deep-gemm>=0.1.5"'
    (change,) = reason(decide(lacking.replace(build="12.8")), "deepgemm", "deepgemm.no-paged-logits").changes
    assert change.kind == "advice"
    assert "build DeepGEMM for CUDA 12.8" in change.text


@pytest.mark.parametrize("platform", ["cpu", "rocm"])
def test_a_torch_for_other_gpus_is_fixed_by_one_for_these(platform: Platform) -> None:
    """A GPU that this torch does not see runs nothing; the torch for it is the fix, and leads to a row that runs."""
    caps = nvidia("sm_90").replace(platform=platform, deep_gemm=Package("deep_gemm", "missing"), deep_gemm_files=None)
    assert decide(caps).chosen == "reference"
    (step,) = decide(caps).smallest_fix("portable") or []
    assert step.code == {"cpu": "platform.mismatch", "rocm": "device.none"}[platform]
    assert step.changes[0].text.startswith("pip install torch --index-url https://download.pytorch.org/whl/cu")
    assert step.changes[0].text in decide(caps).explain()


def test_a_half_unpacked_deep_gemm_is_installed_again() -> None:
    """No package of that name is to be had: it is a module of its own."""
    caps = h200(lacks=("deep_gemm.utils",)).replace(build="13.0")
    (change,) = reason(decide(caps), "deepgemm", "deepgemm.lacks").changes
    assert change.text == 'pip install "sgl-deep-gemm>=0.1.5"'


@pytest.mark.parametrize("arch", ["sm_90", "sm_100", "sm_103", "sm_120"])
@pytest.mark.parametrize("version", ["0.1.2", "0.1.5.post1", None])
@pytest.mark.parametrize("heads", [8, 16, 24, 32, 64, 128])
def test_fewer_heads_where_deep_gemm_takes_them(arch: str, version: str | None, heads: int) -> None:
    """0.1.5 checks for 8 and 16 as well, but on Hopper; older ones take 32 and 64 alone."""
    package = Package("deep_gemm", "found", version, "sgl-deep-gemm")
    decision = decide(nvidia(arch, triton="3.8.0").replace(deep_gemm=package), Request(heads=heads))
    takes = heads in (32, 64) or (heads in (8, 16) and version == "0.1.5.post1" and arch != "sm_90")
    assert codes(decision, "deepgemm") == ([] if takes else ["request.shape-unproven"])


@pytest.mark.parametrize(
    ("arch", "triton", "variable", "release", "code"),
    [
        ("sm_103", "3.6.0", "TRITON_PTXAS_BLACKWELL_PATH", "12.8", "triton.ptxas"),
        ("sm_103", "3.6.0", "TRITON_PTXAS_BLACKWELL_PATH", "12.9", None),
        ("sm_103", "3.6.0", "TRITON_PTXAS_PATH", "12.8", None),
        ("sm_103", "3.6.0", "TRITON_PTXAS_BLACKWELL_PATH", None, "triton.ptxas-unknown"),
        ("sm_90", "3.6.0", "TRITON_PTXAS_PATH", "12.8", None),
        ("sm_90", "3.4.0", "TRITON_PTXAS_PATH", "13.0", "triton.ptxas"),
        ("sm_90", "3.4.0", "TRITON_PTXAS_PATH", "12.8", None),
        ("sm_90", "3.5.0", "TRITON_PTXAS_PATH", "13.0", None),
    ],
)
def test_the_assembler_that_a_variable_names(
    arch: str, triton: str, variable: str, release: str | None, code: str | None
) -> None:
    """VLLM's images point Triton at a ptxas that does not know a B300; unset, Triton takes its own."""
    tool = Ptxas(variable=variable, path="/usr/local/cuda/bin/ptxas", present=True, release=release)
    decision = decide(nvidia(arch, triton=triton).replace(ptxas=(tool,)))
    assert codes(decision, "portable") == ([] if code is None else [code])
    if code is not None:
        assert reason(decision, "portable", code).changes[0].text.startswith(f"unset {variable}")
