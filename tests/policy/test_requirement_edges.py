"""What requirements say at their edges: the verdict, what was found, what is needed, and what to type.

torch, packages, switches, GPUs and DeepGEMM; what aiter's rows need is in `test_aiter_edges.py`. The facts are the
field's, written here apart from the library's own tables: Triton's `get_ptxas` of 3.3.1 to 3.9.0, DeepGEMM's own
`__init__.py` and wheels, NVIDIA's table of compute capabilities. What each function answers by itself is in
`test_gpu.py` and `test_deep_gemm.py`; here it is asked for as users see it, through a decision.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nsa_caps import Capabilities, Device, Package, Request, decide
from nsa_caps.capabilities.cuda import CudaToolkit, DeepGemmFiles, Ptxas
from nsa_caps.capabilities.devices import Hidden
from tests.hand import capabilities
from tests.oracle import Machine
from tests.policy.edges import MAIN, amd, nvidia, said, told

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


def test_a_triton_below_all_is_too_old_for_any_gpu() -> None:
    """One that no record is of, too."""
    assert said(nvidia("sm_99", triton="3.2.0"), "portable", "triton.too-old")[:3] == (
        "unmet",
        "3.2.0",
        "Triton >= 3.3.0",
    )
    assert told(nvidia("sm_99", triton="3.3.0"), "portable", "triton.too-old") is None


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
        ("3.4", "sm_100", PLAIN),
        ("3.5.1", "sm_100", PLAIN),
        ("3.5.1", "sm_90", PLAIN),
        ("3.6.0", "sm_90", PLAIN),
        ("3.6.0", "sm_100", BLACKWELL),
        ("3.6", "sm_100", BLACKWELL),
        ("3.6.0", "sm_120", BLACKWELL),
        ("3.8.0", "sm_90", PLAIN),
        ("3.9.0", "sm_89", PLAIN),
        ("3.9.0", "sm_90", BLACKWELL),
        ("3.9", "sm_90", BLACKWELL),
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
    # `unset` of a name with a hyphen leaves it set, without a word.
    way = "start the process with env -u" if variable == HYPHEN else "unset"
    answer = (
        "unmet",
        f"{variable}=/ptxas, of CUDA 10.2",
        f"a ptxas of CUDA >= {needed} for {arch}",
        f"{variable}=/ptxas",
        f"{way} {variable}, which leaves Triton's own",
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


# --- DeepGEMM


HOME = "/site/deep_gemm"
TOOLKIT = "nvcc below CUDA_HOME, CUDA_PATH, on PATH or below /usr/local/cuda"
SGL = 'pip install "sgl-deep-gemm>=0.1.5"'
HAVE_KERNELS = "one of sm_90, sm_100, sm_103, sm_120"


def with_deep_gemm(*archs: str, build: str | None = "13.0", **files: Any) -> Capabilities:
    """Return a machine of NVIDIA's with a whole DeepGEMM for CUDA 13, of whose files some facts are changed."""
    whole = DeepGemmFiles(location=HOME, kernels=("sm90", "sm100", "sm120"), cuda=13, lacks=())
    package = Package("deep_gemm", "found", "0.1.5", "sgl-deep-gemm", HOME)
    return nvidia(*archs, build=build, deep_gemm=package, deep_gemm_files=replace(whole, **files))


@pytest.mark.parametrize(
    ("files", "code", "verdict", "observed", "required", "fix"),
    [
        ({"kernels": None}, "deepgemm.unknown", "unknown", "its files", "files that can be read", None),
        (
            {"kernels": ()},
            "deepgemm.no-paged-logits",
            "unmet",
            "no such kernel",
            "an include/deep_gemm/impls/sm*_fp8_paged_mqa_logits.cuh",
            SGL,
        ),
        (
            {"kernels": ("sm100", "sm120")},
            "deepgemm.arch",
            "unmet",
            "kernels for sm100, sm120, and sm_90",
            "a kernel for sm90",
            SGL,
        ),
        ({"cuda": None}, "deepgemm.unknown", "unknown", "DeepGEMM's CUDA", "the CUDA of both", None),
        (
            {"cuda": 12},
            "deepgemm.cuda",
            "unmet",
            "DeepGEMM for CUDA 12, torch for CUDA 13.0",
            "DeepGEMM for CUDA 13",
            SGL,
        ),
        (
            {"cuda": 14},
            "deepgemm.cuda",
            "unmet",
            "DeepGEMM for CUDA 14, torch for CUDA 13.0",
            "DeepGEMM for CUDA 13",
            SGL,
        ),
        ({"lacks": None}, "deepgemm.unknown", "unknown", "what it imports", "an __init__.py that can be read", None),
        (
            {"lacks": ("tvm_ffi", "numpy")},
            "deepgemm.lacks",
            "unmet",
            "it imports tvm_ffi, numpy, which is not installed",
            "all of its imports",
            "install what its metadata ask for: apache-tvm-ffi, numpy",
        ),
        (
            {"lacks": ("numpy", "deep_gemm.utils")},
            "deepgemm.lacks",
            "unmet",
            "it imports numpy, deep_gemm.utils, which is not installed",
            "all of its imports",
            SGL,
        ),
    ],
)
def test_what_a_deep_gemm_may_lack(
    files: dict[str, Any], code: str, verdict: str, observed: str, required: str, fix: str | None
) -> None:
    """Each fact of its files is one reason; the index's wheel is the fix beside a torch for CUDA 13."""
    caps = with_deep_gemm(**files)
    assert said(caps, "deepgemm", code) == (verdict, observed, required, HOME, fix)
    assert len(decide(caps).verdict("deepgemm").reasons) == 1


def test_a_whole_deep_gemm_is_met() -> None:
    """For one CUDA with torch, of whichever minor release."""
    for build in ("13.0", "13.2"):
        assert decide(with_deep_gemm(build=build)).verdict("deepgemm").verdict == "met"
    answer = ("unknown", "torch's CUDA", "the CUDA of both", HOME, None)
    assert said(with_deep_gemm(build=None), "deepgemm", "deepgemm.unknown") == answer


def test_files_that_no_snapshot_tells_of() -> None:
    """Of an older release's snapshot: it is to be taken again, and nothing is said of what was not read."""
    caps = with_deep_gemm().replace(deep_gemm_files=None)
    fix = "take the snapshot again, with this release: older ones tell nothing of these files"
    required = "its headers, its extension and its imports"
    answer = ("unknown", "nothing was read of its files", required, HOME, fix)
    assert said(caps, "deepgemm", "deepgemm.unknown") == answer
    assert len(decide(caps).verdict("deepgemm").reasons) == 1


def test_of_a_deep_gemm_that_is_not_there_only_that_is_told() -> None:
    """Whatever files are left of it."""
    caps = with_deep_gemm(cuda=12, lacks=("numpy",)).replace(deep_gemm=Package("deep_gemm", "missing"))
    assert [each.code for each in decide(caps).verdict("deepgemm").reasons] == ["package.missing"]
    assert said(caps, "deepgemm", "package.missing") == ("unmet", "no package deep_gemm", "deep_gemm", None, SGL)


def test_the_index_has_a_deep_gemm_for_cuda_13_alone() -> None:
    """For another CUDA it is built, or torch is changed too; without one the index's is as good as any."""
    for build, by_index in (("13.0", True), ("13.1", True), (None, True), ("12.8", False), ("14.0", False)):
        missing = with_deep_gemm(build=build).replace(deep_gemm=Package("deep_gemm", "missing"))
        found = told(missing, "deepgemm", "package.missing")
        assert found is not None
        built = (
            f"build DeepGEMM for CUDA {build} from github.com/deepseek-ai/DeepGEMM, or take a torch for CUDA 13"
            f" (--index-url https://download.pytorch.org/whl/cu130) and then {SGL}: the index's wheels are for it"
        )
        assert found.fix == (SGL if by_index else built)


@pytest.mark.parametrize(
    ("archs", "code", "verdict", "observed", "keep"),
    [
        (("sm_80",), "device.arch", "unmet", "sm_80", None),
        (("sm_90", "sm_80"), "device.arch", "unmet", "sm_80", "0"),
        (("sm_121", "sm_107", "sm_110"), "device.arch", "unmet", "sm_121, sm_107, sm_110", None),
        (("sm_99",), "device.arch-unproven", "unknown", "sm_99", None),
        (("sm_99", "sm_90", "sm_98"), "device.arch-unproven", "unknown", "sm_99, sm_98", "1"),
        (("sm_99", "sm_80", "sm_90"), "device.arch", "unmet", "sm_80", "2"),
    ],
)
def test_the_gpus_that_deep_gemm_has_no_kernel_for(
    archs: tuple[str, ...], code: str, verdict: str, observed: str, keep: str | None
) -> None:
    """What is known to have none is told before what is not known."""
    devices = tuple(Device(index, arch, f"read {arch}") for index, arch in enumerate(archs))
    fix = None if keep is None else f"export CUDA_VISIBLE_DEVICES={keep}"
    source = f"read {observed.partition(',')[0]}"
    for files in (with_deep_gemm(*archs), with_deep_gemm(*archs, kernels=())):
        assert said(files.replace(devices=devices), "deepgemm", code) == (verdict, observed, HAVE_KERNELS, source, fix)


def test_a_deep_gemm_without_some_of_the_kernels_here() -> None:
    """sgl-deep-gemm has sm120 from 0.1.5 on; hiding those GPUs does as well."""
    caps = with_deep_gemm("sm_90", "sm_120", "sm_103", kernels=("sm90",))
    observed, required = "kernels for sm90, and sm_120, sm_103", "a kernel for sm100, sm120"
    fix = f"{SGL} or export CUDA_VISIBLE_DEVICES=0"
    assert said(caps, "deepgemm", "deepgemm.arch") == ("unmet", observed, required, HOME, fix)


LOOKED = "deep_gemm's _find_cuda_home"


@pytest.mark.parametrize(
    ("toolkit", "verdict", "observed", "source"),
    [
        (None, "unknown", "not looked for", None),
        (CudaToolkit(home=None, source="neither CUDA_HOME nor nvcc"), "unmet", "neither CUDA_HOME nor nvcc", LOOKED),
        (CudaToolkit(home="/cuda", source="CUDA_HOME"), "unmet", "/cuda (CUDA_HOME) without bin/nvcc", LOOKED),
    ],
)
def test_a_cuda_toolkit_that_is_not_found(
    toolkit: CudaToolkit | None, verdict: str, observed: str, source: str | None
) -> None:
    """DeepGEMM's import asserts one in four places; where nothing was looked at it may be there."""
    fix = "install the CUDA toolkit, nvcc >= 12.3, and export CUDA_HOME to its folder" if toolkit else None
    answer = (verdict, observed, TOOLKIT, source, fix)
    assert said(with_deep_gemm().replace(cuda_toolkit=toolkit), "deepgemm", "deepgemm.toolkit") == answer


@pytest.mark.parametrize(
    ("archs", "own", "least"),
    [
        (("sm_90",), None, "12.3"),
        (("sm_90",), "12.9", "12.9"),
        (("sm_90",), "11.8", "12.3"),
        (("sm_90",), "12.10", "12.10"),
        (("sm_100",), None, "12.8"),
        (("sm_100",), "12.3", "12.8"),
        (("sm_90", "sm_103"), None, "12.9"),
        (("sm_99",), None, "12.3"),
    ],
)
def test_the_oldest_nvcc_that_compiles_deep_gemm(archs: tuple[str, ...], own: str | None, least: str) -> None:
    """By its own word, 12.3 at least, and what knows every GPU here: the newest of these counts."""
    caps = with_deep_gemm(*archs, nvcc=own)
    major, minor = map(int, least.split("."))
    for release, refused in ((f"{major}.{minor}", False), (f"{major}.{minor - 1}", True), (f"{major + 1}.0", False)):
        toolkit = CudaToolkit(home="/cuda", source="CUDA_HOME", nvcc=True, release=release)
        told_of = caps.replace(cuda_toolkit=toolkit)
        if refused:
            fix = f"install the CUDA toolkit, nvcc >= {least}, and export CUDA_HOME to its folder"
            answer = ("unmet", f"nvcc of CUDA {release}", f"nvcc >= {least}", "/cuda (CUDA_HOME)", fix)
            assert said(told_of, "deepgemm", "deepgemm.nvcc") == answer
        else:
            assert told(told_of, "deepgemm", "deepgemm.nvcc") is None


def test_the_heads_that_are_not_known_to_be_taken() -> None:
    """sgl-deep-gemm 0.1.5 checks for 8 and 16 beside 32 and 64, off Hopper."""
    found = told(with_deep_gemm(), "deepgemm", "request.shape-unproven", Request(heads=16))
    assert found is not None
    required = "32 or 64 heads; 8 or 16 on sm_10x and sm_12x with sgl-deep-gemm >= 0.1.5"
    assert (found.verdict, found.observed, found.required) == ("unknown", "16 heads", required)
