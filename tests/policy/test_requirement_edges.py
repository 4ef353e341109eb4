"""What each requirement says at its edges: the verdict, what was found, what is needed, and what to type.

The facts are the field's, written here apart from the library's own tables: what engines hand aiter, and which release
takes it (sglang#23562, sglang#28757, aiter#3226, aiter#5066), Triton's `get_ptxas` of 3.3.1 to 3.9.0, DeepGEMM's own
`__init__.py` and wheels, NVIDIA's table of compute capabilities.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version

from nsa_caps import Capabilities, Device, Package, Request, decide
from nsa_caps.capabilities.aiter_history import AITER_RELEASES
from nsa_caps.capabilities.cuda import Ptxas
from nsa_caps.capabilities.devices import Hidden
from nsa_caps.capabilities.engines import ENGINE_TABLE
from nsa_caps.policy.requirements.handed import other_release
from tests.hand import capabilities
from tests.oracle import Machine

if TYPE_CHECKING:
    from nsa_caps import Reason

UNDERSTOOD = "a source of which every statement is accounted for"
MAIN = "install AMD's aiter from 2026-08-20 on (commit 04907edc), as ROCm images bring it"


def amd(*archs: str, triton: str = "3.7.0", generation: str = "04907edc", **environ: str) -> Capabilities:
    """Return a machine of AMD's, of one MI300X where no arch is named, whose SGLang asks for aiter."""
    told = {"SGLANG_USE_AITER": "1", "VLLM_ROCM_USE_AITER": "1", **environ}
    return capabilities(
        Machine(platform="rocm", archs=archs or ("gfx942",), triton=triton, aiter=generation, environ=told)
    )


def with_source(caps: Capabilities, **facts: Any) -> Capabilities:
    """Return a machine of whose aiter some facts are changed."""
    assert caps.aiter_source is not None
    return caps.replace(aiter_source=replace(caps.aiter_source, **facts))


def nvidia(*archs: str, triton: str | None = "3.6.0", **fields: Any) -> Capabilities:
    """Return a machine of NVIDIA's, of one H100 where no arch is named, with DeepGEMM."""
    machine = Machine(platform="cuda", archs=archs or ("sm_90",), triton=triton, deep_gemm=True)
    return capabilities(machine).replace(**fields)


def told(caps: Capabilities, row: str, code: str, request: Request | None = None) -> Reason | None:
    """Return the reason of a code against a row; None: it is not given."""
    return next((each for each in decide(caps, request).verdict(row).reasons if each.code == code), None)


def said(caps: Capabilities, row: str, code: str) -> tuple[str, str, str, str | None, str | None]:
    """Return all that a reason says."""
    found = told(caps, row, code)
    assert found is not None
    return found.verdict, found.observed, found.required, found.source, found.fix


# --- torch, and the packages


INDEX = "pip install torch --index-url https://download.pytorch.org/whl/"


@pytest.mark.parametrize(
    ("platform", "archs", "row", "fix"),
    [
        ("cpu", ("gfx942",), "portable", f"{INDEX}rocm7.0"),
        ("cpu", ("sm_90",), "portable", f"{INDEX}cu130"),
        ("rocm", ("sm_90",), "deepgemm", f"{INDEX}cu130"),
        ("cpu", ("sm_90",), "aiter-token", None),
        ("cpu", (), "portable", None),
        ("cpu", None, "portable", None),
        ("xpu", ("sm_90",), "portable", None),
        ("dcu", ("gfx936",), "portable", None),
    ],
)
def test_a_torch_for_another_platform(platform: str, archs: tuple[str, ...] | None, row: str, fix: str | None) -> None:
    """The torch for the GPUs that are there is the fix where the row runs on those; a vendor's own torch stays."""
    caps = capabilities(Machine(platform=platform, archs=archs, triton="3.6.0")).replace(platform_source="/torch")
    required = {"portable": "cuda or rocm", "deepgemm": "cuda", "aiter-token": "rocm"}[row]
    assert said(caps, row, "platform.mismatch") == ("unmet", platform, required, "/torch", fix)


def test_a_torch_that_cannot_be_read_is_of_no_known_platform() -> None:
    """That is not known, and no mismatch."""
    caps = nvidia(platform="unknown", platform_source="/torch/version.py")
    answer = ("unknown", "no readable torch", "cuda or rocm", "/torch/version.py", None)
    assert said(caps, "portable", "platform.unknown") == answer
    assert told(caps, "portable", "platform.mismatch") is None


@pytest.mark.parametrize(
    ("platform", "archs", "refused"),
    [
        ("cuda", ("sm_90",), False),
        ("rocm", ("gfx942",), False),
        ("cuda", ("gfx942", "gfx942"), True),
        ("rocm", ("sm_90",), True),
        ("cpu", ("sm_90",), False),
        ("cuda", (), False),
        ("cuda", None, False),
    ],
)
def test_a_torch_sees_the_gpus_of_its_own_vendor(platform: str, archs: tuple[str, ...] | None, refused: bool) -> None:
    """CUDA's sees no gfx, ROCm's no sm_; each arch is named once, with the torch that would see it."""
    caps = capabilities(Machine(platform=platform, archs=archs, triton="3.6.0")).replace(platform_source="/torch")
    found = [each for each in decide(caps).verdict("portable").reasons if "built for" in each.required]
    assert bool(found) == refused
    if refused:
        arch, build = ("gfx942", "rocm7.0") if platform == "cuda" else ("sm_90", "cu130")
        observed = f"{arch}, and a torch built for {platform}"
        answer = ("unmet", observed, "a GPU that this torch is built for", "/torch", f"{INDEX}{build}")
        assert said(caps, "portable", "device.none") == answer


@pytest.mark.parametrize(
    ("archs", "required", "fix"),
    [
        (("gfx942",), "torch, built for the ROCm that is installed", f"{INDEX}rocm7.0"),
        (("sm_90",), "torch, built for a CUDA that the driver takes (nvidia-smi names it)", f"{INDEX}cu130"),
        ((), "torch", f"{INDEX}cpu"),
        (None, "torch", f"{INDEX} and what fits the GPU: rocm7.0, cu130, or cpu where there is none"),
    ],
)
def test_the_torch_to_install_fits_the_gpus(archs: tuple[str, ...] | None, required: str, fix: str) -> None:
    """One for the CPU only where there is known to be no GPU."""
    caps = capabilities(Machine(platform="unknown", archs=archs, torch=False))
    assert said(caps, "reference", "package.missing") == ("unmet", "no package torch", required, None, fix)


@pytest.mark.parametrize(
    ("package", "code", "observed"),
    [
        (Package("aiter", "missing"), "missing", "no package aiter"),
        (Package("aiter", "broken", location="/a"), "broken", "a package aiter that cannot be read at /a"),
        (Package("aiter", "impostor", distribution="aiter"), "impostor", "another project named aiter: aiter"),
        (Package("aiter", "impostor"), "impostor", "another project named aiter: of no known distribution"),
    ],
)
def test_an_aiter_that_is_not_there(package: Package, code: str, observed: str) -> None:
    """Each state says what was found, and the fix is AMD's, from ROCm's images."""
    answer = ("unmet", observed, "AMD's aiter", package.location, MAIN)
    assert said(amd().replace(aiter=package, aiter_source=None), "aiter-token", f"package.{code}") == answer


def test_a_package_that_may_come_from_anywhere_is_not_known() -> None:
    """An import finder may bring it: importing it first tells, and nothing is to be installed over it."""
    caps = nvidia().replace(triton=Package("triton", "unknown", location="/finder"))
    fix = "import triton before asking, or mend what the notes tell of it"
    answer = ("unknown", "which triton an import would bring is not known", "triton", "/finder", fix)
    assert said(caps, "portable", "package.unknown") == answer


@pytest.mark.parametrize(
    ("version", "code", "verdict", "observed", "required"),
    [
        (None, "triton.version-unknown", "unknown", "version None", "a version such as 3.6.0"),
        ("main", "triton.version-unknown", "unknown", "version 'main'", "a version such as 3.6.0"),
        ("3.2.0", "triton.too-old", "unmet", "3.2.0", "Triton >= 3.3.0"),
    ],
)
def test_a_triton_that_will_not_do(version: str | None, code: str, verdict: str, observed: str, required: str) -> None:
    """Our kernels compile from 3.3.0 on; the fix stays within what the installed torch asks for."""
    package = Package("triton", "found", version, source="/triton/__init__.py")
    caps = nvidia(torch_triton="triton==3.4.0").replace(triton=package)
    fix = 'pip install "triton==3.4.0"' if code == "triton.too-old" else None
    assert said(caps, "portable", code) == (verdict, observed, required, "/triton/__init__.py", fix)


def test_the_lowest_triton_of_all_is_taken() -> None:
    """3.3.0 itself compiles, and what is missing is installed as torch asks for it."""
    assert decide(nvidia(triton="3.3.0")).verdict("portable").verdict == "met"
    found = told(nvidia(triton=None, torch_triton="triton==3.7.0"), "portable", "package.missing")
    assert found is not None
    assert found.fix == 'pip install "triton==3.7.0"'


# --- Switches


@pytest.mark.parametrize(
    ("engine", "environ", "observed", "variable"),
    [
        ("sglang", {}, "SGLANG_USE_AITER is not set", "SGLANG_USE_AITER"),
        ("sglang", {"SGLANG_USE_AITER": "0"}, "SGLANG_USE_AITER=0", "SGLANG_USE_AITER"),
        ("sglang", {"NSA_CAPS_USE_AITER": "0"}, "NSA_CAPS_USE_AITER=0", "NSA_CAPS_USE_AITER"),
        ("vllm", {}, "VLLM_ROCM_USE_AITER is not set", "VLLM_ROCM_USE_AITER"),
        ("generic", {}, "NSA_CAPS_USE_AITER is not set", "NSA_CAPS_USE_AITER"),
    ],
)
def test_a_switch_is_turned_on_where_its_engine_reads_it(
    engine: str, environ: dict[str, str], observed: str, variable: str
) -> None:
    """By the variable that decided, else by the engine's own."""
    machine = Machine(
        platform="rocm", archs=("gfx942",), triton="3.7.0", aiter="04907edc", environ=environ, engine=engine
    )
    found = told(capabilities(machine), "aiter-preshuffle", "switch.aiter-off")
    assert found is not None
    assert (found.observed, found.required, found.fix) == (observed, f"{variable}=1", f"export {variable}=1")


def test_switches_that_were_never_read_are_off() -> None:
    """As a snapshot made by hand may have none: aiter has to be asked for, and nothing is turned off."""
    caps = amd().replace(switches={})
    found = told(caps, "aiter-preshuffle", "switch.aiter-off")
    assert found is not None
    assert (found.observed, found.source) == ("SGLANG_USE_AITER is not set", None)
    assert told(caps, "aiter-preshuffle", "switch.preshuffle-off") is None


def test_a_switch_is_turned_off_by_the_variable_that_decided() -> None:
    """The older name of the variable too."""
    for variable in ("SGLANG_DSA_HIP_DISABLE_PRESHUFFLE", "SGLANG_NSA_HIP_DISABLE_PRESHUFFLE"):
        answer = ("unmet", f"{variable}=yes", f"{variable} unset", "SGLang EnvBool", f"unset {variable}")
        assert said(amd(**{variable: "yes"}), "aiter-preshuffle", "switch.preshuffle-off") == answer


# --- GPUs that are not to be had


def without_gpus(**hidden: Any) -> Capabilities:
    """Return an AMD machine whose GPUs are kept from this process."""
    devices = (Device(0, "gfx942", "node 1"), Device(1, "gfx942", "node 2"))
    return amd().replace(devices=(), hidden=Hidden(devices=devices, **hidden))


NEEDED = "a process that may read and write it"
GROUP = "/dev/kfd is not this process's to open; its group is"


@pytest.mark.parametrize(
    ("hidden", "observed", "fix"),
    [
        (
            {"present": True, "group": "render", "gid": 109},
            f"{GROUP} render (109)",
            "sudo usermod -aG render $USER and log in again, or docker run --group-add 109",
        ),
        ({"present": True, "gid": 109}, f"{GROUP} number 109, which has no name here", "docker run --group-add 109"),
        ({"present": True, "gid": 0}, f"{GROUP} number 0, which has no name here", "docker run --group-add 0"),
        (
            {"present": True, "group": "a b;c", "gid": 5},
            f"{GROUP} number 5, which has no name here",
            "docker run --group-add 5",
        ),
        ({"present": True}, f"{GROUP} not known", 'docker run --group-add "$(stat -c %g /dev/kfd)"'),
        ({}, "no /dev/kfd here", "give the container its devices: docker run --device /dev/kfd --device /dev/dri"),
    ],
)
def test_a_device_file_that_this_process_may_not_open(hidden: dict[str, Any], observed: str, fix: str) -> None:
    """AMD's GPUs need the group of /dev/kfd, which in a container has a number and mostly no name."""
    caps = without_gpus(path="/dev/kfd", **hidden)
    assert said(caps, "portable", "device.no-access") == ("unmet", observed, NEEDED, "/dev/kfd", fix)


def test_gpus_that_variables_hide() -> None:
    """Each variable is named and unset, and nothing is said of files."""
    caps = without_gpus(variables=("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"))
    names = "HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES"
    answer = ("unmet", f"{names} leave none of 2", "a visible GPU", names, f"unset {names}")
    assert said(caps, "portable", "device.none") == answer
    assert told(caps, "portable", "device.no-access") is None


def test_no_gpu_and_none_known() -> None:
    """That there is none is known; a list that could not be read is not."""
    assert said(amd().replace(devices=()), "portable", "device.none") == ("unmet", "none", "a visible GPU", None, None)
    caps = amd().replace(devices=None)
    found = told(caps, "portable", "device.unknown")
    assert found is not None
    assert (found.verdict, found.observed, found.required) == (
        "unknown",
        "no GPU list",
        "the arch of every visible GPU",
    )
    of_dialects = [each.required for each in decide(caps).verdict("reference").reasons]
    assert of_dialects == ["GPUs whose fp8 dialect is known"]


# --- GPUs that kernels were compiled for


NVIDIAS = "sm_80, sm_86, sm_87, sm_89, sm_90, sm_100, sm_103, sm_107, sm_110, sm_120, sm_121"
AMDS = (
    "gfx90a, gfx942, gfx950, gfx1100, gfx1101, gfx1102, gfx1103, gfx1150, gfx1151, gfx1152, gfx1153, gfx1200, gfx1201,"
    " gfx1250"
)


@pytest.mark.parametrize(
    ("arch", "code", "verdict", "required"),
    [
        ("sm_75", "device.arch", "unmet", "sm_80 or later, as Triton itself"),
        ("sm_79", "device.arch", "unmet", "sm_80 or later, as Triton itself"),
        ("sm_81", "device.arch-unproven", "unknown", f"one of {NVIDIAS}"),
        ("sm_88", "device.arch-unproven", "unknown", f"one of {NVIDIAS}"),
        ("gfx908", "device.arch-unproven", "unknown", f"one of {AMDS}"),
        ("gfx1300", "device.arch-unproven", "unknown", f"one of {AMDS}"),
    ],
)
def test_an_arch_that_our_kernels_were_not_compiled_for(arch: str, code: str, verdict: str, required: str) -> None:
    """Below 8.0 Triton itself refuses; others are not known, and those of the same vendor are named that are."""
    good = "sm_90" if arch.startswith("sm_") else "gfx942"
    machine = (nvidia if good == "sm_90" else amd)(good, arch)
    devices = (Device(0, good, "first"), Device(1, arch, "second", physical=5), Device(2, arch, "third", physical=3))
    variable = "export CUDA_VISIBLE_DEVICES=0"
    if good == "gfx942":
        variable = "unset HIP_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES; export ROCR_VISIBLE_DEVICES=0"
    assert said(machine.replace(devices=devices), "portable", code) == (verdict, arch, required, "second", variable)


def test_the_gpus_to_keep_are_named_by_the_drivers_numbers() -> None:
    """A visible-device variable counts before any other was applied."""
    devices = (
        Device(0, "sm_75", "a", physical=4),
        Device(1, "sm_90", "b", physical=6),
        Device(2, "sm_90", "c", physical=7),
    )
    found = told(nvidia().replace(devices=devices), "portable", "device.arch")
    assert found is not None
    assert found.fix == "export CUDA_VISIBLE_DEVICES=6,7"


TRITON_TOOLS = ("TRITON_PTXAS_PATH", "TRITON_PTXAS-BLACKWELL_PATH", "TRITON_PTXAS_BLACKWELL_PATH")
PLAIN, HYPHEN, BLACKWELL = TRITON_TOOLS


@pytest.mark.parametrize(
    ("triton", "arch", "variable"),
    [
        ("3.3.0", "sm_90", PLAIN),
        ("3.3.1", "sm_100", HYPHEN),
        ("3.3.1", "sm_120", HYPHEN),
        ("3.4.0", "sm_100", PLAIN),
        ("3.5.1", "sm_100", PLAIN),
        ("3.5.1", "sm_90", PLAIN),
        ("3.6.0", "sm_90", PLAIN),
        ("3.6.0", "sm_100", BLACKWELL),
        ("3.6.0", "sm_120", BLACKWELL),
        ("3.8.0", "sm_90", PLAIN),
        ("3.9.0", "sm_89", PLAIN),
        ("3.9.0", "sm_90", BLACKWELL),
        ("3.9.0", "sm_100", BLACKWELL),
        (None, "sm_90", PLAIN),
        (None, "sm_100", BLACKWELL),
    ],
)
def test_the_variable_by_which_a_triton_is_told_of_an_assembler(triton: str | None, arch: str, variable: str) -> None:
    """`get_ptxas` of Triton 3.3.1 to 3.9.0: Blackwell's has a name of its own, misspelt at first; Hopper's joins it."""
    tools = tuple(Ptxas(variable=name, path="/ptxas", present=True, release="10.2") for name in TRITON_TOOLS)
    caps = nvidia(arch, ptxas=tools).replace(triton=Package("triton", "found", triton))
    needed = {"sm_89": "11.8", "sm_90": "12.0"}.get(arch, "12.8")
    answer = (
        "unmet",
        f"{variable}=/ptxas, of CUDA 10.2",
        f"a ptxas of CUDA >= {needed} for {arch}",
        f"{variable}=/ptxas",
        f"unset {variable}, which leaves Triton's own",
    )
    assert said(caps, "portable", "triton.ptxas") == answer


@pytest.mark.parametrize(
    ("archs", "triton", "release", "code"),
    [
        (("sm_90", "sm_103"), "3.6.0", "12.8", "triton.ptxas"),
        (("sm_90", "sm_103"), "3.6.0", "12.9", None),
        (("sm_90", "sm_103"), "3.6.0", None, "triton.ptxas-unknown"),
        (("sm_75",), "3.6.0", None, None),
        (("sm_199",), "3.6.0", None, None),
        (("gfx942",), "3.6.0", None, None),
        (("sm_100",), "3.4.0", "12.9", None),
        (("sm_100",), "3.4.0", "13.0", "triton.ptxas"),
        (("sm_100",), "3.5.0", "13.0", None),
        (("sm_100",), "3.5", "13.0", None),
        (("sm_100",), None, "13.0", None),
        (("sm_100",), "3.4.0", "14.0", "triton.ptxas"),
    ],
)
def test_what_an_assembler_must_know(
    archs: tuple[str, ...], triton: str | None, release: str | None, code: str | None
) -> None:
    """Every GPU that it is taken for; and Triton's compiler raises on CUDA 13 before 3.5."""
    variable = BLACKWELL if triton in ("3.6.0", None) else PLAIN
    if archs == ("sm_75",):
        variable = PLAIN
    tool = Ptxas(variable=variable, path="/ptxas", present=True, release=release)
    caps = nvidia(*archs, ptxas=(tool,)).replace(triton=Package("triton", "found", triton))
    found = [each.code for each in decide(caps).verdict("portable").reasons if "ptxas" in each.code]
    assert found == ([] if code is None else [code])
    if release in ("13.0", "14.0") and code is not None:
        observed = f"{variable}=/ptxas, of CUDA {release}, and Triton 3.4.0"
        assert said(caps, "portable", code)[:2] == ("unmet", observed)
    absent = caps.replace(ptxas=(replace(tool, present=False),))
    assert not any("ptxas" in each.code for each in decide(absent).verdict("portable").reasons)


@pytest.mark.parametrize(
    ("arch", "triton", "variable", "release"),
    [
        ("sm_103", "3.3.1", None, None),
        ("sm_103", "3.4.0", PLAIN, "12.9"),
        ("sm_103", "3.5.1", PLAIN, "12.9"),
        ("sm_110", "3.4.0", None, None),
        ("sm_110", "3.5.0", PLAIN, "13.0"),
        ("sm_110", "3.7.0", BLACKWELL, "13.0"),
        ("sm_107", "3.8.0", BLACKWELL, "13.4"),
    ],
)
def test_an_assembler_may_stand_in_for_a_newer_triton(
    arch: str, triton: str, variable: str | None, release: str | None
) -> None:
    """Where Triton itself is new enough and only its ptxas is not, the variable is told by its name."""
    floor = {"sm_103": "3.6.0", "sm_110": "3.7.1", "sm_107": "3.9.0"}[arch]
    found = told(nvidia(arch, triton=triton), "portable", "triton.too-old")
    assert found is not None
    assert (found.observed, found.required) == (triton, f"Triton >= {floor}")
    texts = [change.text for change in found.changes]
    assert texts[0] == f'pip install "triton>={floor},<3.10"'
    by_tool = f"export {variable}=/usr/local/cuda/bin/ptxas, where that is of CUDA >= {release}"
    assert texts[1:] == ([] if variable is None else [by_tool])
    if variable is not None:
        tool = Ptxas(variable=variable, path="/ptxas", present=True, release=release)
        assert decide(nvidia(arch, triton=triton, ptxas=(tool,))).verdict("portable").verdict == "met"


# --- What engines hand aiter


def engine_machine(engine: str, release: str | None, *archs: str, **facts: Any) -> Capabilities:
    """Return a machine of AMD's with an engine, aiter asked for, of whose aiter some facts are changed."""
    caps = with_source(amd(*archs), **facts)
    switches = capabilities(Machine(platform="rocm", environ=caps.variables, engine=engine)).switches
    return caps.replace(engine=engine, switches=switches, engines=(Package(engine, "found", release),))


RAGGED, CLEAN = "fp8_mqa_logits", "fp8_mqa_logits(clean_logits)"
ROPE, ALL_ROPE = "indexer_qk_rope_quant_and_cache", "indexer_qk_rope_quant_and_cache(compute_all_q_rope)"
STORE, FLYDSL = "indexer_k_quant_and_cache(preshuffle)", "flydsl_fp8_mqa_logits"
NO_FUSED = "SGLANG_DISABLE_AITER_FUSED_FP8_DSA_INDEXER"


@pytest.mark.parametrize(
    ("engine", "release", "archs", "takes", "keyword", "fix"),
    [
        ("sglang", "0.5.14", ("gfx942",), (RAGGED,), None, None),
        ("sglang", "0.5.15", ("gfx942",), (RAGGED,), CLEAN, ">= 0.1.15"),
        ("sglang", "0.5.15rc1", ("gfx942",), (RAGGED,), CLEAN, ">= 0.1.15"),
        ("sglang", "0.5.24", ("gfx942",), (RAGGED,), CLEAN, ">= 0.1.15"),
        ("sglang", "0.5.15", ("gfx942",), (RAGGED, CLEAN), None, None),
        ("sglang", "0.5.20", ("gfx950",), (CLEAN, ROPE), None, None),
        ("sglang", "0.5.21", ("gfx950",), (CLEAN, ROPE), ALL_ROPE, None),
        ("sglang", "0.5.21", ("gfx950",), (CLEAN, ROPE, ALL_ROPE), None, None),
        ("sglang", "0.5.21", ("gfx950",), (CLEAN,), None, None),
        ("sglang", "0.5.21", ("gfx942",), (CLEAN, ROPE), None, None),
        ("vllm", "0.29.0", ("gfx942",), (RAGGED,), None, None),
        ("vllm", "0.30.0", ("gfx942",), (RAGGED,), FLYDSL, ">= 0.1.18"),
        ("vllm", "0.30.0", ("gfx950",), (RAGGED,), None, None),
        ("vllm", "0.32.0", ("gfx950",), (RAGGED,), None, None),
        ("vllm", "0.33.0", ("gfx950",), (RAGGED,), CLEAN, ">= 0.1.15"),
        ("vllm", "0.33.0", ("gfx942",), (FLYDSL,), None, None),
        ("vllm", "0.33.0", ("gfx942", "gfx950"), (FLYDSL,), CLEAN, ">= 0.1.15"),
        ("generic", "1.0", ("gfx942",), (), None, None),
    ],
)
def test_a_keyword_that_this_aiter_does_not_take(
    engine: str, release: str, archs: tuple[str, ...], takes: tuple[str, ...], keyword: str | None, fix: str | None
) -> None:
    """From the engine's first release that hands it, on the archs where it does; the first aiter with it is the fix."""
    caps = engine_machine(engine, release, *archs, takes=takes)
    if keyword is None:
        assert told(caps, "aiter-token", "engine.keyword") is None
        return
    title = {"sglang": "SGLang", "vllm": "vLLM"}[engine]
    verdict, observed, required, _, change = said(caps, "aiter-token", "engine.keyword")
    assert (verdict, observed) == ("unmet", f"{title} {release} hands it {keyword}")
    if keyword == ALL_ROPE:
        assert (required, change) == (f"an aiter that takes {keyword}, or {NO_FUSED}=1", f"export {NO_FUSED}=1")
    else:
        image = f"install AMD's aiter {fix}, as ROCm images bring it"
        assert (required, change) == (f"an aiter that takes {keyword}", image)


def test_a_store_that_knows_no_preshuffle_is_a_keyword_too() -> None:
    """SGLang hands `preshuffle` at page 1 too since 0.5.12, with aiter on; vLLM has a store of its own."""
    for release, refused in (("0.5.11", False), ("0.5.12", True)):
        found = told(engine_machine("sglang", release, store_preshuffle=False), "aiter-token", "engine.keyword")
        assert (found is not None) == refused
    found = told(engine_machine("sglang", "0.5.12", store_preshuffle=False), "aiter-token", "engine.keyword")
    assert found is not None
    assert (found.observed, found.source) == (f"SGLang 0.5.12 hands it {STORE}", "sglang#23562")
    assert found.fix == "install AMD's aiter >= 0.1.13, as ROCm images bring it"
    known = engine_machine("sglang", "0.5.12", store_preshuffle=True)
    assert told(known, "aiter-token", "engine.keyword") is None
    off = engine_machine("sglang", "0.5.12", store_preshuffle=False).replace(
        switches=amd(SGLANG_USE_AITER="0").switches
    )
    assert told(off, "aiter-token", "engine.keyword") is None
    vllm = engine_machine("vllm", "0.33.0", "gfx950", store_preshuffle=False)
    assert told(vllm, "aiter-token", "engine.keyword") is None


def test_what_is_switched_off_is_not_handed() -> None:
    """SGLang's fused indexer by its own variable, or with aiter; vLLM's everything with aiter."""
    fused = engine_machine("sglang", "0.5.23", "gfx950", takes=(CLEAN, ROPE))
    assert told(fused, "aiter-token", "engine.keyword") is not None
    for environ in ({NO_FUSED: "1"}, {"SGLANG_USE_AITER": "0"}):
        switches = amd(**environ).switches
        assert told(fused.replace(switches=switches), "aiter-token", "engine.keyword") is None
    vllm = engine_machine("vllm", "0.33.0", "gfx950", takes=(RAGGED,))
    off = capabilities(Machine(platform="rocm", engine="vllm", environ={"VLLM_ROCM_USE_AITER": "0"})).switches
    assert told(vllm.replace(switches=off), "aiter-token", "engine.keyword") is None


def test_a_release_or_an_aiter_that_is_not_known_makes_it_unknown() -> None:
    """An engine of no known release is taken for the newest read, which this one may be or not."""
    found = told(engine_machine("sglang", None, takes=(RAGGED,)), "aiter-token", "engine.keyword")
    assert found is not None
    observed = f"SGLang's release is not known; SGLang 0.5.23 hands it {CLEAN}"
    assert (found.verdict, found.observed) == ("unknown", observed)
    found = told(engine_machine("vllm", None, "gfx950", takes=(RAGGED,)), "aiter-token", "engine.keyword")
    assert found is not None
    assert found.observed == f"vLLM's release is not known; vLLM 0.33.0 hands it {CLEAN}"
    unread = told(engine_machine("sglang", "0.5.23", takes=None), "aiter-token", "engine.keyword")
    assert unread is not None
    assert (unread.verdict, unread.observed) == ("unknown", f"SGLang 0.5.23 hands it {CLEAN}")


def test_an_engine_that_is_not_installed_hands_nothing() -> None:
    """Nor does another one that is, nor any where there is no aiter's source to hold it against."""
    caps = engine_machine("sglang", "0.5.23", takes=(RAGGED,))
    assert told(caps.replace(engines=()), "aiter-token", "engine.keyword") is None
    assert told(caps.replace(engines=(Package("vllm", "found", "0.33.0"),)), "aiter-token", "engine.keyword") is None
    assert told(caps.replace(aiter_source=None), "aiter-token", "engine.keyword") is None


def test_where_the_gpus_are_not_known_what_most_of_them_get_counts() -> None:
    """VLLM hands `clean_logits` everywhere but on gfx942."""
    caps = engine_machine("vllm", "0.33.0", "gfx950", takes=(RAGGED,))
    assert told(caps.replace(devices=None), "aiter-token", "engine.keyword") is not None


def test_every_engine_that_hands_aiter_anything_tells_releases_that_can_be_compared() -> None:
    """What is handed since when, and which aiter takes it, are versions and names of the table of releases."""
    for engine in ENGINE_TABLE.values():
        if engine.hands:
            assert [Version(release) for release in engine.releases] == sorted(map(Version, engine.releases))
        for handed in engine.hands:
            assert Version(handed.since) <= Version(engine.releases[-1])
            assert handed.aiter is None or handed.aiter in AITER_RELEASES


NEWER, SINCE_15 = "is newer than any that was read", "(aiter 0.1.15 has it)"


@pytest.mark.parametrize(
    ("caps", "text"),
    [
        (engine_machine("sglang", "0.5.23"), None),
        (engine_machine("sglang", "0.5.22"), None),
        (engine_machine("sglang", "0.5.12"), None),
        (engine_machine("sglang", "0.5.23", takes=(RAGGED,)), None),
        (engine_machine("sglang", "0.5.24"), f"SGLang 0.5.24 {NEWER}: it was judged as 0.5.23"),
        (engine_machine("vllm", "0.34.0"), f"vLLM 0.34.0 {NEWER}: it was judged as 0.33.0"),
        (engine_machine("sglang", None), "SGLang's release is not known: it was judged as 0.5.23"),
        (engine_machine("sglang", "main"), "SGLang's release is not known: it was judged as 0.5.23"),
        (engine_machine("sglang", "0.5.23").replace(engines=()), None),
        (engine_machine("sglang", None).replace(engines=(Package("vllm", "found", None),)), None),
        (
            engine_machine("sglang", None, takes=(RAGGED,)).replace(engines=()),
            f"SGLang is not installed here: 0.5.23 hands aiter {CLEAN}, which this aiter lacks {SINCE_15}",
        ),
        (
            engine_machine("sglang", None, takes=(RAGGED,), store_preshuffle=False).replace(engines=()),
            f"SGLang is not installed here: 0.5.23 hands aiter {STORE} and {CLEAN}, which this aiter lacks {SINCE_15}",
        ),
        (
            engine_machine("sglang", None, "gfx950", takes=(CLEAN, ROPE)).replace(engines=()),
            f"SGLang is not installed here: 0.5.23 hands aiter {ALL_ROPE}, which this aiter lacks",
        ),
        (
            engine_machine("sglang", "0.6.0", takes=(RAGGED,)),
            f"SGLang 0.6.0 {NEWER}: 0.5.23 hands aiter {CLEAN}, which this aiter lacks {SINCE_15}",
        ),
        (
            engine_machine("vllm", None, takes=(RAGGED,)).replace(engines=()),
            f"vLLM is not installed here: 0.33.0 hands aiter {FLYDSL}, which this aiter lacks (aiter 0.1.18 has it)",
        ),
        (engine_machine("generic", "1.0"), None),
        (engine_machine("sglang", "0.6.0").replace(aiter_source=None), None),
    ],
)
def test_what_to_mind_of_an_engine_that_was_not_read(caps: Capabilities, text: str | None) -> None:
    """Where none is installed, what this aiter lacks for the newest read; a release newer than that is always told."""
    assert other_release(caps) == text


# --- flydsl


def with_flydsl(needs: str | None, package: Package, *archs: str) -> Capabilities:
    """Return a machine whose `import aiter` runs the check of flydsl."""
    return with_source(amd(*archs), imports_flydsl=True, flydsl_needs=needs).replace(flydsl=package)


@pytest.mark.parametrize(
    ("needs", "version", "verdict", "fix"),
    [
        (">=0.2.4", "0.2.4", None, None),
        (">=0.2.4", "0.2.4+rocm7.0", None, None),
        (">=0.2.4", "0.3.0", None, None),
        (">=0.2.4", "0.2.3", "unmet", "flydsl==0.2.4"),
        (">=0.2.4", "0.2.4.dev1", "unmet", "flydsl==0.2.4"),
        (">=0.2.4", None, "unknown", "flydsl==0.2.4"),
        (">=0.2.4", "main", "unknown", "flydsl==0.2.4"),
        (">=main", "0.2.4", "unknown", None),
        (">=0.1.8", "0.1.7", "unmet", "flydsl==0.2.2"),
        (">=0.1.5.dev515", "0.1.4", "unmet", "flydsl==0.1.7"),
        (">=0.1.3", "0.1.2", "unmet", "flydsl==0.1.4"),
        (">=9", "0.2.4", "unmet", None),
        ("===0.1.1.dev409", "0.1.1.dev409", None, None),
        ("===0.1.1.dev409", "0.1.1.dev409+x", "unmet", "flydsl==0.1.1.dev409"),
        ("===0.1.1.dev409", "0.2.0", "unmet", "flydsl==0.1.1.dev409"),
        ("===0.1.1.dev409", None, "unknown", "flydsl==0.1.1.dev409"),
        ("==0.1.1", "0.1.1+x", None, None),
        ("==0.1.1", "0.1.2", "unmet", "flydsl==0.1.1"),
        ("==0.1.1", "0.1.0", "unmet", "flydsl==0.1.1"),
        ("none", "0.0.1", None, None),
        ("none", None, None, None),
        (None, "0.2.4", "unknown", None),
    ],
)
def test_the_flydsl_that_an_aiter_takes(
    needs: str | None, version: str | None, verdict: str | None, fix: str | None
) -> None:
    """By the comparison that stands in its source; the fix is what its own `setup.py` pins beside it."""
    caps = with_flydsl(needs, Package("flydsl", "found", version))
    if verdict is None:
        assert told(caps, "aiter-token", "aiter.flydsl") is None
        return
    required = UNDERSTOOD if needs is None else f"flydsl{needs}"
    pip = None if fix is None else f"pip install {fix}"
    answer = (verdict, f"flydsl {version or 'of unknown version'}", required, "aiter/ops/flydsl/__init__.py", pip)
    assert said(caps, "aiter-token", "aiter.flydsl") == answer


def test_the_check_of_flydsl_is_reached_on_some_archs_alone() -> None:
    """Elsewhere aiter since 044f906a does as if flydsl were not there, so that it is not known to fail."""
    old = Package("flydsl", "found", "0.1.0")
    for archs, verdict in (
        (("gfx942",), "unmet"),
        (("gfx950", "gfx942"), "unmet"),
        (("gfx1201",), "unmet"),
        (("gfx1100",), "unknown"),
        (("gfx942", "gfx1100"), "unknown"),
    ):
        assert said(with_flydsl(">=0.2.4", old, *archs), "aiter-token", "aiter.flydsl")[0] == verdict
    unknown = with_flydsl(">=0.2.4", old).replace(devices=None)
    assert said(unknown, "aiter-token", "aiter.flydsl")[0] == "unknown"


def test_flydsl_is_optional_to_the_import_of_aiter() -> None:
    """Where it is missing aiter asks nothing of it, unless what it asks is not known; a broken one may do or not."""
    missing, broken = Package("flydsl", "missing"), Package("flydsl", "broken", "0.2.4")
    assert told(with_flydsl(">=0.2.4", missing), "aiter-token", "aiter.flydsl") is None
    assert said(with_flydsl(None, missing), "aiter-token", "aiter.flydsl")[:3] == ("unknown", "missing", UNDERSTOOD)
    assert said(with_flydsl(">=0.2.4", broken), "aiter-token", "aiter.flydsl")[:2] == ("unknown", "broken")
    unread = with_flydsl(">=0.2.4", Package("flydsl", "found", "0.1.0"))
    assert told(with_source(unread, imports_flydsl=False), "aiter-token", "aiter.flydsl") is None
    assert told(unread.replace(aiter_source=None), "aiter-token", "aiter.flydsl") is None


@pytest.mark.parametrize(("release", "verdict"), [("0.30.0", "unmet"), ("0.33.0", "unmet"), (None, "unknown")])
def test_vllm_on_gfx942_needs_flydsl(release: str | None, verdict: str) -> None:
    """It imports aiter's kernel of flydsl, which is there only where flydsl is, and new enough."""
    caps = engine_machine("vllm", release, "gfx942")
    required = f"flydsl, for the {FLYDSL} that vLLM {release or '0.33.0'} imports"
    answer = (verdict, "no package flydsl", required, None, "pip install flydsl==0.2.4")
    assert said(caps, "aiter-token", "package.missing") == answer
    old = caps.replace(flydsl=Package("flydsl", "found", "0.2.3"))
    assert said(old, "aiter-token", "aiter.flydsl")[:3] == (verdict, "flydsl 0.2.3", "flydsl>=0.2.4")
    new = caps.replace(flydsl=Package("flydsl", "found", "0.2.4"))
    assert not {"package.missing", "aiter.flydsl"} & {each.code for each in decide(new).verdict("aiter-token").reasons}
    for other in (engine_machine("vllm", "0.33.0", "gfx950"), engine_machine("sglang", "0.5.23", "gfx942")):
        assert told(other, "aiter-token", "package.missing") is None
