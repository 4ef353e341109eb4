"""What the policy hands out and takes: values that stay as they are, requests, reasons, fixes and kept verdicts."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any, get_args

import pytest

from nsa_caps import ROWS, Capabilities, Change, Device, Package, Reason, Request, RequestError, decide
from nsa_caps.pages import ScaleFormat
from nsa_caps.policy.decision import Fix, find_row
from nsa_caps.policy.engine import decide_for_engine, engine_lines, engine_rows, with_engine
from nsa_caps.policy.kept import device_kinds, failures, void_because
from nsa_caps.policy.reasons import CODES, RowVerdict
from nsa_caps.policy.requirements import common
from nsa_caps.policy.versions import parse_version
from tests.hand import capabilities
from tests.oracle import Machine
from tests.policy.test_kept import CAPS, KEPT, ROW


def amd(
    arch: str = "gfx942", triton: str | None = "3.6.0", engine: str = "sglang", generation: str = "a6bb4993"
) -> Capabilities:
    """Return an AMD machine whose engine asks for aiter."""
    environ = {"NSA_CAPS_USE_AITER": "1"}
    return capabilities(
        Machine(platform="rocm", archs=(arch,), triton=triton, aiter=generation, environ=environ, engine=engine)
    )


def nvidia(arch: str, engine: str = "sglang", triton: str | None = "3.6.0") -> Capabilities:
    """Return an NVIDIA machine without DeepGEMM."""
    return capabilities(Machine(platform="cuda", archs=(arch,), triton=triton, engine=engine))


OLD = decide(amd(triton="3.4.0"))
REASON = Reason("page.size", "unmet", "48", "64", "the request", (Change.page_size(),))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (OLD, "chosen"), (OLD.best_fix(), "steps"), (OLD.verdicts[0], "verdict"), (REASON, "code"),
        (Request(), "heads"), (ROWS[0], "page_size"), (REASON.changes[0], "value"),
    ],
)  # fmt: skip
def test_what_was_decided_stays_as_it_was(value: object, name: str) -> None:
    """Decisions, verdicts, reasons, changes, fixes, requests and rows are values: nobody changes them for others."""
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, None)


# --- requests


@pytest.mark.parametrize("name", ["heads", "head_dim", "quant_block_size", "index_kpool", "page_size"])
def test_numbers_of_a_request(name: str) -> None:
    """Whole numbers that 31 bits hold, from 1 on; the page size may be left to the row."""
    changes: dict[str, Any] = {}
    for good in (1, 2**31 - 1):
        changes[name] = good
        assert getattr(replace(Request(), **changes), name) == good
    for value in (0, -1, 2**31, 1.0, True, "1"):
        changes[name] = value
        with pytest.raises(RequestError) as caught:
            replace(Request(), **changes)
        assert str(caught.value) == f"{name} is {value!r}, needs a whole number from 1 to 2147483647"
    changes[name] = None
    if name == "page_size":
        assert replace(Request(page_size=64), **changes).page_size is None
    else:
        with pytest.raises(RequestError, match=f"{name} is None"):
            replace(Request(), **changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scale_format": "bf16"}, "scale_format is 'bf16', needs one of fp32, ue8m0, ue8m0_packed"),
        ({"rotated": "yes"}, "rotated is 'yes', needs True, False or None"),
        ({"rows": "portable"}, "rows is 'portable', needs None or a tuple of row names"),
        ({"rows": ()}, "rows is (), needs None or a tuple of row names"),
        ({"rows": ("portable", 1)}, "rows is ('portable', 1), needs a tuple of row names, which are texts"),
    ],
)
def test_requests_that_are_none(changes: dict[str, Any], told: str) -> None:
    """The error names the field, what it is and what it may be."""
    with pytest.raises(RequestError) as caught:
        Request(**changes)
    assert str(caught.value) == told


def test_requests_that_are_some() -> None:
    """Every form of the scales, every answer on the rotation, and a list of rows, which becomes a tuple."""
    for form in (None, *get_args(ScaleFormat)):
        assert Request(scale_format=form).scale_format == form
    for rotated in (None, True, False):
        assert Request(rotated=rotated).rotated is rotated
    assert Request(rows=["portable"]).rows == ("portable",)  # type: ignore[arg-type]  # that is the point
    assert (Request().heads, Request().head_dim, Request().quant_block_size, Request().index_kpool) == (64, 128, 128, 1)


def test_a_request_is_one() -> None:
    """Nothing else is taken for it."""
    with pytest.raises(RequestError, match=r"request is \{'heads': 64\}, needs a Request"):
        decide(amd(), {"heads": 64})  # type: ignore[arg-type]  # that is the point


# --- reasons, verdicts and fixes


def test_a_reason_in_words() -> None:
    """The summary is the code's, or a third party's own code; the source stands behind; fixes are joined by or."""
    assert REASON.summary == CODES["page.size"]
    assert str(REASON) == f"{CODES['page.size']}: 48; needs 64 (the request)"
    assert str(replace(REASON, source=None)) == f"{CODES['page.size']}: 48; needs 64"
    assert replace(REASON, code="x.fabric-missing").summary == "x.fabric-missing"
    assert replace(REASON, changes=()).fix is None
    two = replace(REASON, changes=(Change("unset", "A"), Change("set", "B", "1")))
    assert two.fix == "unset A or export B=1"


def test_what_puts_a_row_out_of_reach() -> None:
    """Another platform, or an engine that does not run it, unless a torch for the GPUs would do: it alone counts."""
    platform = Reason("platform.mismatch", "unmet", "cuda", "rocm", None)
    engine = Reason("row.not-in-request", "unmet", "a", "one of b", "the request")
    verdict = RowVerdict("a", "unmet", 64, (REASON, platform))
    assert (verdict.out_of_reach, verdict.decisive_reasons) == ("for rocm", (platform,))
    assert RowVerdict("a", "unmet", 64, (engine, REASON)).out_of_reach == "not among the rows that the engine runs"
    both = RowVerdict("a", "unmet", 64, (REASON, engine, platform))
    assert both.decisive_reasons == (engine, platform)
    within = RowVerdict("a", "unmet", 64, (replace(platform, changes=(Change.page_size(),)), REASON))
    assert (within.out_of_reach, within.decisive_reasons) == (None, within.reasons)
    assert RowVerdict("a", "met", 64).out_of_reach is None


def test_the_best_fix_is_for_the_best_row_that_one_brings() -> None:
    """On an old Triton a newer one brings tiles; where no change brings a better row there is none."""
    fix = OLD.best_fix()
    assert isinstance(fix, Fix)
    assert (fix.verdict.row, fix.verdict.verdict) == ("aiter-preshuffle", "met")
    assert [step.code for step in fix.steps] == ["triton.too-old"]
    assert [len(step.changes) for step in fix.steps] == [1]
    assert decide(amd()).best_fix() is None
    # All that is better is for AMD, or needs DeepGEMM, which has nothing for this GPU.
    assert decide(nvidia("sm_80")).best_fix() is None


def test_better_rows_are_those_before_the_one_chosen() -> None:
    """And all of them where none is chosen."""
    assert [each.row for each in decide(nvidia("sm_80")).better_rows()] == [
        "aiter-preshuffle", "aiter-flat", "aiter-token", "deepgemm",
    ]  # fmt: skip
    none = decide(nvidia("sm_80"), Request(rows=("deepgemm",)))
    assert none.chosen is None
    assert none.better_rows() == none.verdicts
    assert (none.caveats, none.warnings) == ((), ())


def test_a_row_that_is_met_and_outranked_is_brought_by_asking_for_it() -> None:
    """The one change is to force it."""
    decision = decide(amd())
    steps = decision.smallest_fix("portable")
    assert steps is not None
    assert [(step.code, step.observed, step.required) for step in steps] == [
        ("row.outranked", "aiter-preshuffle is met too", "NSA_CAPS_ROW=portable")
    ]
    assert decision.smallest_fix("aiter-preshuffle") == []
    assert decision.smallest_fix("deepgemm") is None


@pytest.mark.parametrize("forced", [True, False])
def test_a_refused_row_is_taken_by_force_alone(forced: bool) -> None:
    """A row that the engine cannot run is not, nor is one without a page format."""
    variables = {"NSA_CAPS_ROW": "deepgemm", **({"NSA_CAPS_ROW_FORCE": "1"} if forced else {})}
    caps = capabilities(Machine(platform="cuda", archs=("sm_80",), triton="3.6.0", environ=variables))
    decision = decide(caps)
    assert (decision.chosen, decision.forced) == (("deepgemm", True) if forced else (None, False))
    elsewhere = decide(caps, Request(rows=("portable",)))
    assert (elsewhere.chosen, elsewhere.forced) == (None, False)
    assert decide(caps, Request(rows=("deepgemm",))).forced is forced
    impossible = decide(caps, Request(head_dim=130, quant_block_size=128))
    assert (impossible.chosen, impossible.forced) == (None, False)


def test_a_row_is_found_by_its_name() -> None:
    """Another name is refused with those that there are, and where it was given."""
    assert find_row("portable").name == "portable"
    with pytest.raises(
        RequestError, match=r"^here: there is no row 'portabel'; there are aiter-preshuffle, .*portable"
    ):
        find_row("portabel", where="here: ")


def test_a_version_is_parsed_once() -> None:
    """Deciding asks for the same few again and again."""
    assert parse_version("3.6.0") is parse_version("3.6.0")


# --- kept verdicts


@pytest.mark.parametrize(
    ("then", "now", "why"),
    [
        ((), {}, None),
        (("AITER_TRITON_ONLY=1",), {"AITER_TRITON_ONLY": "1"}, None),
        (("AITER_TRITON_ONLY=1",), {}, "it is of another AITER_TRITON_ONLY"),
        ((), {"AITER_TRITON_ONLY": "1"}, "it is of another AITER_TRITON_ONLY"),
        (("AITER_TRITON_ONLY=1",), {"AITER_TRITON_ONLY": "0"}, "it is of another AITER_TRITON_ONLY"),
        (("GPU_ARCHS=gfx942",), {"AITER_TRITON_ONLY": "1"}, "it is of another AITER_TRITON_ONLY"),
        (("GPU_ARCHS=gfx942",), {"GPU_ARCHS": "gfx942"}, None),
        # Not read by any kernel.
        (("SGLANG_USE_AITER=1",), {}, None),
        ((), {"NSA_CAPS_ROW": "portable"}, None),
    ],
)
def test_a_verdict_is_of_the_variables_that_kernels_read(
    then: tuple[str, ...], now: dict[str, str], why: str | None
) -> None:
    """One that changed since voids it; of several the first by name is told."""
    assert void_because(replace(KEPT, variables=then), ROW.bound_packages, CAPS.replace(variables=now)) == why


def test_what_voids_a_verdict_is_named() -> None:
    """The device, the driver, a package's version."""
    packages = ROW.bound_packages
    assert void_because(KEPT, packages, CAPS.replace(driver="nvidia 581")) == "it is of the driver nvidia 580"
    assert void_because(KEPT, packages, CAPS.replace(devices=())) == "it is of NVIDIA H100"
    newer = CAPS.replace(triton=Package("triton", "found", "3.7.0"))
    assert void_because(KEPT, packages, newer) == "it is of triton 3.6.0"


def test_the_kinds_of_devices() -> None:
    """Each once; without any it is the processor, and where they are not known so is the kind."""
    two = (Device(0, "sm_90", "t", model="A"), Device(1, "sm_90", "t", model="B"), Device(2, "sm_90", "t", model="A"))
    assert device_kinds(CAPS.replace(devices=two)) == ("A", "B")
    assert device_kinds(CAPS.replace(devices=())) == ("cpu",)
    assert device_kinds(CAPS.replace(devices=None)) == (None,)


@pytest.mark.parametrize(("source", "told"), [(None, "nsa_caps prove"), ("/cache/proofs.json", "/cache/proofs.json")])
def test_a_failure_says_where_it_was_kept(source: str | None, told: str) -> None:
    """A proof is none; the device is named where it is known."""
    failed = replace(KEPT, verdict="wrong", source=source)
    (reason,) = failures([KEPT, failed])
    assert (reason.code, reason.verdict, reason.source) == ("selfcheck.wrong", "unmet", told)
    assert reason.observed == "all right, on NVIDIA H100, 2026-11-25"
    (unknown,) = failures([replace(failed, device=None)])
    assert unknown.observed == "all right, on the device here, 2026-11-25"


# --- engines


def test_the_rows_of_an_engine() -> None:
    """SGLang's on AMD as it is and with this library's kernels; pooled keys have tiles alone; one's own runs all."""
    caps = amd()
    assert [row.row for row in engine_rows(caps) or ()] == ["aiter-preshuffle", "aiter-token"]
    assert [row.row for row in engine_rows(caps, kernels=True) or ()] == [
        "aiter-preshuffle", "aiter-flat", "aiter-token", "portable",
    ]  # fmt: skip
    for pooled in (2, 4):
        assert [row.row for row in engine_rows(caps, index_kpool=pooled) or ()] == ["aiter-preshuffle"]
    assert engine_rows(amd(engine="generic")) is None


@pytest.mark.parametrize(("pooled", "size"), [(2, 64), (4, 64)])
def test_pooled_keys_have_the_pages_of_pools(pooled: int, size: int) -> None:
    """SGLang's tiles take any page, those of pools are of 64."""
    decision = decide_for_engine(amd(generation="04907edc"), Request(index_kpool=pooled))
    assert (decision.chosen, decision.request.page_size) == ("aiter-preshuffle", size)
    assert decide_for_engine(amd(generation="04907edc"), Request(index_kpool=pooled, page_size=32)).chosen is None
    assert decide_for_engine(amd(generation="04907edc"), Request(page_size=32)).chosen == "aiter-preshuffle"


def test_an_engine_that_is_not_there_is_of_a_release_that_is_not_known() -> None:
    """It is put on the machine once, whatever else is there, where it hands aiter anything."""
    other = Package("vllm", "found", "0.33.0")
    caps = amd().replace(engines=(other,))
    assert with_engine(caps).engines == (other, Package("sglang", "found"))
    assert with_engine(with_engine(caps)).engines == (other, Package("sglang", "found"))
    there = caps.replace(engines=(Package("sglang", "found", "0.5.23"),))
    assert with_engine(there) is there
    generic = amd(engine="generic")
    assert with_engine(generic) is generic


def test_an_engine_that_runs_nothing_here_refuses_every_row_with_a_reason() -> None:
    """What the machine could run is refused by what the engine would take, the rest by its own reasons."""
    decision = decide_for_engine(nvidia("sm_80"))
    assert (decision.chosen, decision.forced) == (None, False)
    codes = {each.row: [reason.code for reason in each.reasons] for each in decision.verdicts}
    assert codes["portable"] == codes["reference"] == ["engine.row"]
    for row in ("aiter-preshuffle", "aiter-flat", "aiter-token"):
        assert "platform.mismatch" in codes[row]
    assert "package.missing" in codes["deepgemm"]
    assert "engine.row" not in codes["deepgemm"]
    (portable,) = decision.verdict("portable").reasons
    assert (portable.observed, portable.source) == ("SGLang as it is", "the table of engines")
    assert portable.required == "this library's kernels in it, pages of 64, one token an index key"
    assert portable.fix == "put this library's kernels into SGLang: NSA_CAPS_INSTALL=1"
    (reference,) = decision.verdict("reference").reasons
    assert reference.required == "pages of 64, torch_logits on, release 0.5.23, one token an index key"
    assert reference.changes == ()


def test_a_refusal_says_what_was_asked() -> None:
    """The page size and the pooling, where they are not the usual."""
    decision = decide_for_engine(nvidia("sm_80"), Request(page_size=128, index_kpool=4), kernels=True)
    (portable,) = decision.verdict("portable").reasons
    assert portable.observed == "SGLang, page size 128, index_kpool 4"
    # Its kernels are in it already.
    assert portable.changes == ()


def test_the_engine_s_lines_are_good_or_bad_by_what_it_runs() -> None:
    """On an A100 SGLang runs nothing as it is, and `portable` with this library's kernels."""
    _, bad, good = engine_lines(nvidia("sm_80"))
    assert (bad[0], bad[-1][1]) == (("SGLang as it is: ", "label"), "bad")
    assert (good[0], good[-1][1]) == (("SGLang with nsa_caps' kernels: ", "label"), "good")
    assert list(engine_lines(nvidia("sm_80", engine="generic"))) == []


# --- what any row may need


@pytest.mark.parametrize(
    ("devices", "fix"),
    [
        ((Device(0, "gfx942", "t"),), "rocm7.0"),
        ((Device(0, "sm_90", "t"),), "cu130"),
        ((), "cpu"),
        (None, " and what fits the GPU: rocm7.0, cu130, or cpu where there is none"),
    ],
)
def test_the_torch_that_fits_the_gpus(devices: tuple[Device, ...] | None, fix: str) -> None:
    """By what is visible; where that is not known, all are told."""
    change = common.torch_change(Capabilities(devices=devices))
    assert change.text == f"pip install torch --index-url https://download.pytorch.org/whl/{fix}"


@pytest.mark.parametrize(
    ("platform", "arch", "fits"),
    [
        ("cuda", "sm_90", True), ("rocm", "gfx942", True), ("cuda", "gfx942", False), ("rocm", "sm_90", False),
        ("cpu", "sm_90", True), ("xpu", "sm_90", True),
    ],
)  # fmt: skip
def test_a_torch_for_another_vendor_sees_no_gpu(platform: Any, arch: str, fits: bool) -> None:
    """One for another platform is refused elsewhere."""
    caps = Capabilities(platform=platform, devices=(Device(0, arch, "t"),))
    found = common.gpus_fit_torch(caps, Request())
    assert (found is None) == fits
    if found is not None:
        assert (found.code, found.observed) == ("device.none", f"{arch}, and a torch built for {platform}")


@pytest.mark.parametrize(
    ("platform", "arch", "wanted", "code", "fixable"),
    [
        ("rocm", "gfx942", ("rocm",), None, False), ("unknown", "gfx942", ("rocm",), "platform.unknown", False),
        ("cpu", "gfx942", ("rocm",), "platform.mismatch", True),
        ("cpu", "gfx942", ("cuda",), "platform.mismatch", False),
        ("cuda", "gfx942", ("rocm", "xpu"), "platform.mismatch", True),
        ("xpu", "gfx942", ("rocm",), "platform.mismatch", False),
    ],
)  # fmt: skip
def test_the_platform_that_torch_is_built_for(
    platform: Any, arch: str, wanted: Any, code: str | None, fixable: bool
) -> None:
    """A torch for the GPUs that are there is the fix, where the row is for them."""
    caps = Capabilities(platform=platform, devices=(Device(0, arch, "t"),))
    found = common.platform_is(*wanted)(caps, Request())
    assert (found and found.code) == code
    if found is not None:
        assert found.required == " or ".join(wanted)
        assert bool(found.changes) == fixable
        assert found.verdict == ("unknown" if platform == "unknown" else "unmet")


@pytest.mark.parametrize(
    ("version", "minimum", "code"),
    [
        ("3.6.0", None, None), ("3.6.0", "3.6.0", None), ("3.5.1", "3.6.0", "triton.too-old"),
        ("main", None, "triton.version-unknown"), (None, "3.6.0", "triton.version-unknown"),
    ],
)  # fmt: skip
def test_a_triton_of_a_version(version: str | None, minimum: str | None, code: str | None) -> None:
    """That can be read, and is not below what is needed."""
    caps = Capabilities(triton=Package("triton", "found", version, source="/site/triton/__init__.py"))
    found = common.triton_known(minimum)(caps, Request())
    assert (found and found.code) == code
    if found is not None:
        assert found.source == "/site/triton/__init__.py"
        assert found.observed == (str(version) if code == "triton.too-old" else f"version {version!r}")
    missing = common.triton_known(minimum)(Capabilities(triton=Package("triton", "missing")), Request())
    assert missing is not None
    assert missing.code == "package.missing"
