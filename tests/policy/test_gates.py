"""aiter's own gates and what rows need of them, fact by fact: sources of which one fact is turned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import AotBundle, AotKernel, Capabilities, Device, Package, Request
from nsa_caps.capabilities.switches import resolve
from nsa_caps.policy import aiter_gates as gates
from nsa_caps.policy.requirements import aiter as need
from nsa_caps.policy.requirements import gluon
from nsa_caps.policy.requirements.plain import plain_compiles
from nsa_caps.testing import GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsa_caps import Reason
    from nsa_caps.capabilities.records import AiterSource
    from nsa_caps.policy.requirements.common import Requirement

MAIN = GENERATIONS["04907edc"]
OLD = GENERATIONS["fe927e8d"]
AOT = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS"


def machine(
    source: AiterSource | None = MAIN, triton: str | None = "3.6.0", *archs: str, engine: str = "sglang", **environ: str
) -> Capabilities:
    """Return an AMD machine with an aiter that shows this."""
    archs = archs or ("gfx942",)
    return Capabilities(
        engine=engine,
        platform="rocm",
        devices=tuple(Device(index, arch, f"place {index}") for index, arch in enumerate(archs)),
        rocminfo_arch=archs[0],
        triton=Package("triton", "found", triton, source="/site/triton/__init__.py"),
        aiter=Package("aiter", "found", location="/site/aiter"),
        aiter_source=source,
        switches=resolve(environ, engine)[0],
    )


def without(source: AiterSource = MAIN, **facts: Any) -> AiterSource:
    """Return a source with other facts."""
    return replace(source, **facts)


def told(requirement: Requirement, caps: Capabilities, request: Request | None = None) -> Reason:
    """Return the reason that a requirement gives."""
    found = requirement(caps, request or Request())
    assert found is not None
    return found


def fixes(reason: Reason) -> list[str]:
    """Return the values of the changes, each of which would do."""
    return [change.value or change.name for change in reason.changes]


# --- which kernel runs


@pytest.mark.parametrize(
    ("source", "triton", "arch", "environ", "active"),
    [
        (None, "3.6.0", "gfx942", {}, None),
        (without(wrapper=None), "3.6.0", "gfx942", {}, None),
        (without(wrapper="plain"), "3.6.0", "gfx942", {AOT: "1"}, False),
        (MAIN, "3.6.0", "gfx942", {}, True),
        (MAIN, "3.6.0", "gfx1151", {}, False),
        (MAIN, "3.4.0", "gfx942", {}, False),
        (MAIN, "3.4.0", "gfx942", {AOT: "1"}, True),
        (MAIN, "3.4.0", "gfx942", {AOT: "true"}, False),
        (MAIN, None, "gfx942", {}, None),
        (without(arch_gate=None), "3.6.0", "gfx942", {}, None),
        (without(gluon_archs=None), "3.6.0", "gfx942", {}, None),
        (without(arch_gate=None), "3.4.0", "gfx942", {}, False),
        # An assertion on the arch comes later, and fails for every layout.
        (without(arch_gate="assert"), "3.6.0", "gfx1151", {}, True),
        (without(arch_gate="assert", gluon_archs=None), "3.6.0", "gfx1151", {}, True),
    ],
)
def test_which_kind_of_kernel_runs(
    source: AiterSource | None, triton: str | None, arch: str, environ: dict[str, str], active: bool | None
) -> None:
    """Gluon with a new Triton or where the AOT variable is exactly 1, and since 04907edc on its archs alone."""
    caps = machine(source, triton, arch, **environ)
    assert gates.gluon_active(caps) is active
    word = {True: "gluon", False: "plain Triton", None: "gluon or plain Triton"}[active]
    assert gates.kernel_variant(caps) == word


def test_without_an_arch_it_is_not_known_which_runs() -> None:
    """GPU_ARCHS that cannot be read is no arch, and so is a machine whose first GPU is not known."""
    assert gates.gluon_active(machine().replace(rocminfo_arch=None)) is None
    assert gates.gluon_active(machine(GPU_ARCHS="")) is None
    assert gates.aiter_arch(machine(GPU_ARCHS="")) is None
    assert gates.aiter_arch(machine(GPU_ARCHS="native")) == "gfx942"
    assert gates.aiter_arch(machine(GPU_ARCHS="gfx90a;gfx950")) == "gfx950"
    assert gates.aiter_arch(machine().replace(switches={})) == "gfx942"
    assert gates.gluon_active(machine(MAIN, "3.4.0").replace(switches={})) is False


@pytest.mark.parametrize(
    ("source", "triton", "reaches"),
    [
        (None, "3.6.0", None),
        (MAIN, "3.6.0", True),
        (MAIN, "3.4.0", True),
        (MAIN, None, True),
        (without(package_imports_gluon=False), "3.6.0", True),
        (without(package_imports_gluon=False), "3.4.0", False),
        (without(package_imports_gluon=False), None, None),
        (without(package_imports_gluon=None), "3.6.0", True),
        (without(package_imports_gluon=None), "3.4.0", None),
    ],
)
def test_whether_an_import_comes_to_the_gate(
    source: AiterSource | None, triton: str | None, reaches: bool | None
) -> None:
    """Where the package imports gluon, or the logits module does with a new Triton."""
    assert gates.reaches_import_gate(machine(source, triton)) is reaches


@pytest.mark.parametrize(
    ("source", "triton", "environ", "by_jit"),
    [
        (None, "3.6.0", {}, None),
        (MAIN, "3.6.0", {}, True),
        (MAIN, "3.6.0", {AOT: "1"}, False),
        (without(aot_stops_jit=False), "3.6.0", {AOT: "1"}, True),
        (without(aot_stops_jit=None), "3.6.0", {}, None),
        (MAIN, "3.4.0", {}, False),
        (MAIN, None, {}, None),
    ],
)
def test_whether_a_kernel_is_compiled_in_place(
    source: AiterSource | None, triton: str | None, environ: dict[str, str], by_jit: bool | None
) -> None:
    """With a new Triton, unless the variable asks for the bundle and stops it."""
    assert gates.jit_runs(machine(source, triton, **environ)) is by_jit


# --- what compiles


@pytest.mark.parametrize(
    ("source", "triton", "arch", "observed", "needs"),
    [
        (MAIN, "3.6.0", "gfx942", None, None),
        (MAIN, "3.6.0", "gfx950", None, None),
        (without(mfma="3"), "3.6.0", "gfx942", None, None),
        (without(mfma="4"), "3.6.0", "gfx950", None, None),
        (without(mfma="4"), "3.6.0", "gfx942", "kernels written for MFMA version 4, on gfx942", None),
        (without(mfma="3"), "3.6.0", "gfx950", "kernels written for MFMA version 3, on gfx950", None),
        # gfx1250 has none of MFMA.
        (without(mfma="4"), "3.7.0", "gfx1250", None, None),
        (without(compiled=("preshuffle:gfx950",)), "3.6.0", "gfx942", "the preshuffle kernel of this commit, on gfx942",
            None),
        (without(compiled=("base:gfx950",)), "3.6.0", "gfx942", None, None),
        (without(compiled=None), "3.6.0", "gfx942", None, None),
        (without(compiled=("preshuffle:gfx950",)), "3.6.0", "gfx1100", None, None),
        (without(mfma_3d=("base",)), "3.5.1", "gfx942", None, None),
        (without(mfma_3d=("base",)), "3.6.0", "gfx942",
            "the preshuffle kernel names MFMA shapes by two numbers, on Triton 3.6.0", None),
        (MAIN, "3.6.0", "gfx1250", "Triton 3.6.0 on gfx1250", "3.7.0"),
        (MAIN, "3.7.0", "gfx1250", None, None),
        (MAIN, "3.6.0", "gfx9999", None, None),
        (without(mfma="4"), "3.6.0", "gfx9999", None, None),
        (without(mfma=None), "3.6.0", "gfx1250", None, None),
        (without(mfma_3d=None), "3.6.0", "gfx1250", None, None),
        (MAIN, None, "gfx1250", None, None),
        (None, "3.6.0", "gfx1250", None, None),
    ],
)  # fmt: skip
def test_what_passes_every_gate_and_does_not_compile(
    source: AiterSource | None, triton: str | None, arch: str, observed: str | None, needs: str | None
) -> None:
    """As measured with Triton's compiler on real sources; what is not known is no reason."""
    found = gates.no_compile_reason(machine(source, triton, arch), "preshuffle", arch)
    assert (found and found[0]) == observed
    assert (found and found[2]) == needs


@pytest.mark.parametrize(
    ("triton", "source", "change"), [("3.6.0", MAIN, "3.7.0"), ("3.7.0", without(mfma_3d=("base",)), "0.1.13")]
)
def test_what_does_not_compile_is_mended_by_triton_or_by_aiter(triton: str, source: AiterSource, change: str) -> None:
    """By the Triton that compiles it where one does, else by an aiter whose kernel does."""
    found = told(gluon.gluon_runs("preshuffle", 64), machine(source, triton, "gfx1250"))
    assert (found.code, found.verdict, fixes(found)) == ("aiter.does-not-compile", "unmet", [change])


@pytest.mark.parametrize(
    ("facts", "arch", "code", "observed"),
    [
        ({"launches_short": ("preshuffle",)}, "gfx942", "aiter.launch-short",
            "the preshuffle kernel is launched with one argument fewer"),
        ({"launches_short": ("base",)}, "gfx942", None, None),
        ({"launches_short": None}, "gfx942", None, None),
        ({"fp8_archs": ("gfx950",)}, "gfx942", "aiter.no-fp8-type", "gfx942"),
        ({"fp8_archs": None}, "gfx942", None, None),
        ({"compiled": ("base:gfx942",)}, "gfx942", "aiter.body-unproven",
            "a preshuffle kernel that is none of history's"),
        ({"compiled": None}, "gfx942", "aiter.body-unproven", "a preshuffle kernel that is none of history's"),
        # Compiled for others and not for this one: known not to, on those that each body was tried for.
        ({"compiled": ("preshuffle:gfx950",)}, "gfx942", "aiter.does-not-compile",
            "the preshuffle kernel of this commit, on gfx942"),
        ({"gluon_archs": None, "arch_gate": "assert", "fp8_archs": None}, "gfx1151", "device.arch-unproven", "gfx1151"),
        ({"gluon_archs": None, "arch_gate": "assert", "fp8_archs": None, "compiled": ("preshuffle:gfx1151",)},
            "gfx1151", None, None),
        ({"gluon_archs": ("gfx950",), "arch_gate": "assert"}, "gfx942", "aiter.arch-not-gluon", "gfx942"),
        ({"gluon_archs": ("gfx950",), "arch_gate": "select"}, "gfx942", None, None),
        ({"aot_stops_jit": None, "mfma_3d": ("base",)}, "gfx942", None, None),
    ],
)  # fmt: skip
def test_what_an_active_gluon_kernel_needs(
    facts: dict[str, Any], arch: str, code: str | None, observed: str | None
) -> None:
    """A launch that fits it, a body that was compiled for this GPU, and a type for its keys."""
    found = gluon.gluon_runs("preshuffle", 64)(machine(without(**facts), "3.6.0", arch), Request())
    assert (found and found.code, found and found.observed) == (code, observed)


def bundle(*names: str, arch: str = "gfx942", complete: bool = True, known: bool = True) -> AotBundle:
    """Return a bundle with these kernels."""
    kernels = tuple(AotKernel(name, complete, arch) for name in names)
    return AotBundle(location="/site/aot", kernels=kernels if known else None)


TILES, TOKEN = "paged_mqa_logits_preshuffle_64x256x128_B64PFW2", "paged_mqa_logits_64x256x128_B1PFW2"


@pytest.mark.parametrize(
    ("found", "code", "observed", "required"),
    [
        (bundle(TILES), None, None, None),
        (bundle(TOKEN), "aot.kernel-missing", f"{AOT}=1 and no {TILES}", "that kernel, or the variable unset"),
        (bundle(), "aot.kernel-missing", f"{AOT}=1 and no {TILES}", "that kernel, or the variable unset"),
        (bundle(TILES, complete=False), "aot.kernel-partial", TILES, "its .json and .hsaco"),
        (bundle(TILES, arch="gfx950"), "aot.wrong-arch", f"{TILES} for gfx950", "one for gfx942"),
        (bundle(known=False), "aot.unknown", "a folder that cannot be read", TILES),
    ],
)
def test_what_the_bundle_must_hold(
    found: AotBundle, code: str | None, observed: str | None, required: str | None
) -> None:
    """The kernel of this page size, whole, and for this GPU, which its path does not name; else the variable goes."""
    caps = machine(MAIN, "3.6.0", **{AOT: "1"}).replace(aot_bundle=found)
    reason = gluon.gluon_runs("preshuffle", 64)(caps, Request())
    assert (reason and reason.code) == code
    if reason is not None:
        assert (reason.observed, reason.required) == (observed, required)
        assert reason.verdict == ("unknown" if code == "aot.unknown" else "unmet")
        assert fixes(reason) == [AOT]
        assert reason.source == ("/site/aot" if code == "aot.unknown" else f"/site/aot/{TILES}")


@pytest.mark.parametrize(
    ("kernel", "default", "asked", "name"),
    [
        ("preshuffle", 64, None, TILES),
        ("preshuffle", 64, 32, TILES.replace("B64", "B32")),
        ("preshuffle", 16, None, TILES.replace("B64", "B16")),
        ("base", None, None, TOKEN),
        ("base", None, 64, TOKEN),
    ],
)
def test_the_kernel_of_the_page_size_that_is_asked_for(
    kernel: Any, default: int | None, asked: int | None, name: str
) -> None:
    """The row of tokens has one of one token, whatever is asked."""
    caps = machine(MAIN, "3.6.0", **{AOT: "1"}).replace(aot_bundle=bundle(name))
    assert gluon.gluon_runs(kernel, default)(caps, Request(page_size=asked)) is None
    empty = machine(MAIN, "3.6.0", **{AOT: "1"}).replace(aot_bundle=bundle())
    assert told(gluon.gluon_runs(kernel, default), empty, Request(page_size=asked)).source == f"/site/aot/{name}"


@pytest.mark.parametrize(
    ("source", "triton", "code", "changes"),
    [
        (MAIN, "3.3.1", "aot.name-error", [AOT, "3.5.0"]),
        (MAIN, "3.4.0", "aot.name-error", [AOT, "3.5.0"]),
        (without(aot_needs_gluon_triton=False), "3.3.1", None, []),
        (without(aot_needs_gluon_triton=False), "3.2.0", "aot.triton", [AOT, "3.5.0"]),
        (without(aot_needs_gluon_triton=False), "3.4.0", "aot.triton", [AOT, "3.5.0"]),
    ],
)
def test_the_bundle_on_an_old_triton(source: AiterSource, triton: str, code: str | None, changes: list[str]) -> None:
    """On 3.3 alone, and not since 10c87ea1: older ones lack an argument, and 3.4 changed the ABI."""
    caps = machine(source, triton, **{AOT: "1"}).replace(aot_bundle=bundle(TILES))
    reason = gluon.gluon_runs("preshuffle", 64)(caps, Request())
    assert (reason and reason.code) == code
    assert (fixes(reason) if reason is not None else []) == changes


def test_gluon_needed_and_not_active() -> None:
    """Tiles are read by gluon alone: an old Triton, an arch that is none of its, a function that leaves it out."""
    old = told(gluon.gluon_needed, machine(MAIN, "3.4.0"))
    assert (old.code, old.observed, old.required) == ("triton.too-old", "Triton 3.4.0", "Triton >= 3.5.0")
    assert (old.source, fixes(old)) == ("/site/triton/__init__.py", ["3.5.0"])
    other = told(gluon.gluon_needed, machine(MAIN, "3.6.0", "gfx1151"))
    assert (other.code, other.observed, other.changes) == ("aiter.arch-not-gluon", "gfx1151", ())
    asked = told(gluon.gluon_needed, machine(MAIN, "3.4.0", "gfx1151", **{AOT: "1"}))
    assert asked.code == "aiter.arch-not-gluon"
    cut = told(gluon.gluon_needed, machine(without(wrapper="plain"), "3.6.0"))
    assert (cut.code, cut.source, fixes(cut)) == ("aiter.gluon-cut", f"aiter/{MAIN.logits_module}", ["main"])
    for caps in (machine(), machine(None), machine(without(wrapper=None)), machine(MAIN, None)):
        assert gluon.gluon_needed(caps, Request()) is None


def test_gluon_active_where_flat_pages_are_asked_for() -> None:
    """It reads them silently wrong; where the AOT variable alone turns it on, unsetting it helps."""
    active = told(gluon.gluon_inactive, machine())
    assert (active.code, active.changes) == ("aiter.flat-reads-wrong", ())
    assert told(gluon.gluon_inactive, machine(MAIN, "3.6.0", **{AOT: "1"})).changes == ()
    assert fixes(told(gluon.gluon_inactive, machine(MAIN, "3.4.0", **{AOT: "1"}))) == [AOT]
    for caps in (machine(MAIN, "3.4.0"), machine(None), machine(without(wrapper=None))):
        assert gluon.gluon_inactive(caps, Request()) is None


@pytest.mark.parametrize(
    ("arch", "archs", "changes"),
    [("gfx1250", ("gfx942", "gfx950"), ["0.1.16"]), ("gfx942", ("gfx950",), []), ("gfx1250", ("gfx1250",), None)],
)
def test_gfx1250_came_with_an_aiter_of_its_own(arch: str, archs: tuple[str, ...], changes: list[str] | None) -> None:
    """0.1.16 brought it to the list; no release brings others."""
    caps = machine(without(gluon_archs=archs, arch_gate="assert"), "3.7.0", arch)
    reason = gluon.gluon_runs("preshuffle", 64)(caps, Request())
    assert (None if reason is None else fixes(reason)) == changes
    if reason is not None:
        assert reason.required == f"one of {', '.join(archs)}"


@pytest.mark.parametrize(
    ("facts", "arch", "triton", "code", "verdict"),
    [
        ({}, "gfx1151", "3.5.0", None, None), ({}, "gfx1151", "3.4.0", "aiter.does-not-compile", "unmet"),
        ({}, "gfx1201", "3.6.0", None, None), ({}, "gfx1201", "3.5.0", "device.arch-unproven", "unknown"),
        ({}, "gfx90a", "3.6.0", "aiter.no-fp8-type", "unmet"),
        ({"fp8_archs": None}, "gfx90a", "3.6.0", "device.arch-unproven", "unknown"),
        ({"fp8_archs": None}, "gfx9999", "3.6.0", "device.arch-unproven", "unknown"),
        ({"compiled": ("base:gfx1151",)}, "gfx1151", "3.6.0", "aiter.body-unproven", "unknown"),
        ({"compiled": None}, "gfx1151", "3.6.0", "aiter.body-unproven", "unknown"),
        ({"wrapper": None}, "gfx1151", "3.4.0", None, None),
    ],
)  # fmt: skip
def test_where_the_plain_kernel_compiles(
    facts: dict[str, Any], arch: str, triton: str, code: str | None, verdict: str | None
) -> None:
    """By GPU from the Triton on that it was measured with; below it fails where it was tried."""
    reason = plain_compiles(machine(without(**facts), triton, arch), Request())
    assert (reason and reason.code, reason and reason.verdict) == (code, verdict)
    if arch == "gfx9999" and reason is not None:
        assert set(reason.required.removeprefix("one of ").split(", ")) == {
            "gfx942", "gfx950", "gfx1100", "gfx1101", "gfx1102", "gfx1151", "gfx1200", "gfx1201",
        }  # fmt: skip
    if arch == "gfx1201" and reason is not None:
        assert (reason.observed, reason.required, fixes(reason)) == (
            "gfx1201 with Triton 3.5.0", "Triton >= 3.6.0", ["3.6.0"],
        )  # fmt: skip
    if code == "aiter.does-not-compile" and reason is not None:
        assert (reason.required, fixes(reason)) == ("Triton >= 3.5.0", ["3.5.0"])


def test_the_plain_kernel_matters_only_where_it_runs() -> None:
    """Gluon's own is another matter, and so is a machine of which too little is known."""
    silent: list[Capabilities] = [
        machine(), machine(None), machine(MAIN, None, "gfx1151"),
        machine(MAIN, "3.4.0", "gfx1151").replace(rocminfo_arch=None),
    ]  # fmt: skip
    for caps in silent:
        assert plain_compiles(caps, Request()) is None


# --- aiter's import and its functions


@pytest.mark.parametrize(
    ("module", "observed", "source"),
    [("ops/triton/pa.py", "it takes neither", "ops/triton/pa.py"), (None, "it has none", "/site/aiter")],
)
def test_logits_that_take_no_preshuffle(module: str | None, observed: str, source: str) -> None:
    """A module that has the function and not the keywords, and an aiter without the module."""
    shown = without(logits_preshuffle=False, logits_module=module, location="/site/aiter")
    found = told(need.logits_take_preshuffle, machine(shown))
    assert (found.code, found.observed, found.source) == ("aiter.no-preshuffle-logits", observed, source)
    for value in (True, None):
        assert need.logits_take_preshuffle(machine(without(logits_preshuffle=value)), Request()) is None
    assert need.logits_take_preshuffle(machine(None), Request()) is None


@pytest.mark.parametrize(
    ("store", "gather", "code", "observed"),
    [
        (True, True, None, None),
        (False, True, "aiter.no-preshuffle-cache", "store without it"),
        (True, False, "aiter.no-preshuffle-cache", "gather without it"),
        (False, False, "aiter.no-preshuffle-cache", "store and gather without it"),
        (False, None, "aiter.no-preshuffle-cache", "store without it"),
        (None, True, "aiter.source-unknown", "whether the store takes preshuffle"),
        (True, None, "aiter.source-unknown", "whether the gather takes preshuffle"),
        (None, None, "aiter.source-unknown", "whether the store and gather takes preshuffle"),
    ],
)
def test_cache_kernels_that_take_no_preshuffle(
    store: bool | None, gather: bool | None, code: str | None, observed: str | None
) -> None:
    """One that does not is enough; one that is not known leaves it open. vLLM has kernels of its own."""
    shown = without(store_preshuffle=store, gather_preshuffle=gather)
    found = need.cache_takes_preshuffle(machine(shown), Request())
    assert (found and found.code, found and found.observed) == (code, observed)
    assert need.cache_takes_preshuffle(machine(shown, engine="vllm"), Request()) is None
    assert need.cache_takes_preshuffle(machine(replace(shown, logits_preshuffle=False)), Request()) is None


@pytest.mark.parametrize(
    ("facts", "triton", "environ", "verdict", "observed"),
    [
        ({}, "3.6.0", {}, None, None),
        ({}, "3.5.1", {}, "unmet", "Triton 3.5.1"),
        ({}, "3.6.0rc1", {}, "unmet", "Triton 3.6.0rc1"),
        ({}, "3.5.1", {"AITER_USE_SYSTEM_TRITON": "1"}, None, None),
        ({}, "3.5.1", {"AITER_USE_SYSTEM_TRITON": "0"}, "unmet", "Triton 3.5.1"),
        ({}, "3.5.1", {"AITER_USE_SYSTEM_TRITON": "yes"}, "unmet",
            "Triton 3.5.1, and AITER_USE_SYSTEM_TRITON='yes', which aiter's int() cannot read"),
        ({"gate_escape": "none"}, "3.5.1", {"AITER_USE_SYSTEM_TRITON": "1"}, "unmet", "Triton 3.5.1"),
        ({"gate_escape": "AITER_OTHER"}, "3.5.1", {"AITER_USE_SYSTEM_TRITON": "1"}, "unknown", "Triton 3.5.1"),
        ({"gate_escape": None}, "3.5.1", {}, None, None),
        ({"gate_triton": "none"}, "3.5.1", {}, None, None),
        ({"package_imports_gluon": False}, "3.4.0", {}, None, None),
        ({"package_imports_gluon": False}, "3.5.1", {}, "unmet", "Triton 3.5.1"),
        ({"package_imports_gluon": None}, "3.4.0", {}, "unknown", "Triton 3.4.0"),
        ({"triton_gap": "3.4.0", "triton_comparison": "text"}, "3.4.1", {}, "unmet", "Triton 3.4.1"),
    ],
)  # fmt: skip
def test_what_import_aiter_asks_of_triton(
    facts: dict[str, Any], triton: str, environ: dict[str, str], verdict: str | None, observed: str | None
) -> None:
    """Below its minimum the import raises, unless the variable that it reads lets it go on."""
    reason = need.imports(machine(without(**facts), triton, **environ), Request())
    assert (reason and reason.verdict, reason and reason.observed) == (verdict, observed)
    assert reason is None or reason.code == "aiter.import-barred"


def test_a_switch_that_a_snapshot_lacks_leaves_the_escape_open() -> None:
    """What the variable is set to was never read."""
    caps = machine(MAIN, "3.5.1").replace(switches={})
    found = told(need.imports, caps)
    assert (found.verdict, found.required) == ("unknown", "Triton >= 3.6.0")


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_first_two_statements_that_are_not_accounted_for_are_named(count: int) -> None:
    """With the generation that they changed; more would fill the screen."""
    texts = tuple(f"line {number}" for number in range(count))
    found = told(need.source_shows("tiles"), machine(without(gluon_triton=None, unaccounted=texts)))
    assert (found.code, found.verdict) == ("aiter.source-unknown", "unknown")
    assert found.observed.startswith("gluon_triton")
    for number, text in enumerate(texts):
        assert (text in found.observed) == (number < 2)
    assert ("changed since" in found.observed) == (count > 0)


@pytest.mark.parametrize(
    ("source", "call", "own", "unknown"),
    [
        (MAIN, "tiles", ("chunk_rule",), None),
        (without(chunk_rule=None), "tiles", ("chunk_rule",), "chunk_rule"),
        (without(chunk_rule=None), "tiles", (), None),
        (without(calls=("token",)), "tiles", (), "what it does with tiles"),
        (without(calls=None), "tiles", (), "what it does with tiles"),
        (without(mfma=None), "tiles", (), "mfma"),
        (without(mfma=None, takes=None), "tiles", (), "takes, mfma"),
        (without(gluon_triton=None), "tiles", (), "gluon_triton"),
        # A function that calls the plain kernel alone asks no switch.
        (without(gluon_triton=None, wrapper="plain"), "tiles", (), None),
        (without(logits_preshuffle=False, mfma=None), "tiles", (), None),
    ],
)
def test_the_facts_that_a_row_rests_on(
    source: AiterSource, call: str, own: tuple[str, ...], unknown: str | None
) -> None:
    """All that are not known are named, and a call of which it is not known what the source does with it."""
    found = need.source_shows(call, *own)(machine(source), Request())
    assert (found and found.observed) == unknown


def test_a_source_that_was_not_read_shows_nothing() -> None:
    """Every fact is named, where aiter is there at all."""
    found = told(need.source_shows("tiles"), machine(None))
    assert found.source == "/site/aiter"
    assert found.observed.endswith("what it does with tiles")
    gone = machine(None).replace(aiter=Package("aiter", "missing"))
    assert need.source_shows("tiles")(gone, Request()) is None


@pytest.mark.parametrize(
    ("size", "rule", "arch", "takes"),
    [
        (16, "divides", "gfx942", True), (24, "either", "gfx942", False), (48, "either", "gfx942", False),
        (256, "divides", "gfx942", True), (512, "either", "gfx942", True), (512, "divides", "gfx942", False),
        (512, "either", "gfx1250", False), (640, "either", "gfx942", False), (64, None, "gfx942", True),
        (512, None, "gfx942", False),
    ],
)  # fmt: skip
def test_the_pages_of_tiles(size: int, rule: Any, arch: str, takes: bool) -> None:
    """Whole tiles of 16; pages that divide a chunk of 256, or are several of them where the source has that."""
    found = need.tile_pages(64)(machine(without(chunk_rule=rule), "3.7.0", arch), Request(page_size=size))
    assert (found is None) == takes
    assert need.tile_pages(64)(machine(), Request()) is None
    assert need.tile_pages(24)(machine(), Request()) is not None
    if found is not None:
        both = rule == "either" and arch != "gfx1250"
        wanted = "a page size that divides ChunkK = 256" + (" or is a multiple of it" if both else "")
        assert found.required == ("a multiple of 16, the rows of a tile" if size % 16 else wanted)


@pytest.mark.parametrize(
    ("environ", "known", "code", "changes"),
    [
        ({}, ("gfx942",), None, []),
        ({}, ("gfx950",), "aiter.unknown-arch", ["main"]),
        ({}, None, None, []),
        ({"GPU_ARCHS": "gfx900"}, ("gfx942",), "aiter.unknown-arch", ["GPU_ARCHS"]),
        ({"GPU_ARCHS": ""}, ("gfx942",), "switch.unreadable", ["GPU_ARCHS"]),
    ],
)
def test_the_arch_that_aiter_takes_must_be_one_of_its_own(
    environ: dict[str, str], known: tuple[str, ...] | None, code: str | None, changes: list[str]
) -> None:
    """What the variable says is unset; what the machine has needs a newer aiter."""
    found = need.arch_known(machine(without(known_archs=known), **environ), Request())
    assert (found and found.code) == code
    assert (fixes(found) if found is not None else []) == changes


def test_a_first_gpu_that_is_not_known() -> None:
    """Where there are GPUs at all; without any another requirement tells."""
    caps = machine().replace(rocminfo_arch=None)
    found = told(need.arch_known, caps)
    assert (found.code, found.verdict, found.changes) == ("device.unknown", "unknown", ())
    assert need.arch_known(caps.replace(devices=()), Request()) is None


def test_every_requirement_waits_for_a_source() -> None:
    """Without one nothing is said but that it is not known."""
    silent: list[Callable[..., Any]] = [
        need.imports, need.plain_takes_pages, need.logits_take_preshuffle, need.cache_takes_preshuffle,
        gluon.gluon_needed, gluon.gluon_inactive, gluon.gluon_runs("base"), plain_compiles,
    ]  # fmt: skip
    for requirement in silent:
        assert requirement(machine(None), Request()) is None
    assert need.plain_takes_pages(machine(without(plain_pages="any")), Request()) is None
    assert told(need.plain_takes_pages, machine(without(plain_pages="one"))).code == "aiter.plain-one-token"
