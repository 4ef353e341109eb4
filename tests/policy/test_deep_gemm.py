"""What row `deepgemm` needs of DeepGEMM, fact by fact."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import Capabilities, Device, Package, Request
from nsa_caps.capabilities.cuda import CudaToolkit, DeepGemmFiles
from nsa_caps.policy.requirements import deep_gemm

if TYPE_CHECKING:
    from nsa_caps import Reason
    from nsa_caps.policy.requirements.common import Requirement

WHOLE = DeepGemmFiles(location="/site/deep_gemm", kernels=("sm90", "sm100"), cuda=13, lacks=(), nvcc="12.3")
NVCC = CudaToolkit(home="/cuda", source="CUDA_HOME", nvcc=True, release="13.0")
INDEX = 'pip install "sgl-deep-gemm>=0.1.5"'


def machine(*archs: str, build: str | None = "13.0", state: Any = "found", **changes: Any) -> Capabilities:
    """Return an NVIDIA machine with a DeepGEMM for CUDA 13."""
    caps = Capabilities(
        platform="cuda",
        build=build,
        devices=tuple(Device(index, arch, f"place {index}") for index, arch in enumerate(archs or ("sm_90",))),
        deep_gemm=Package("deep_gemm", state, "0.1.5", "sgl-deep-gemm", location="/site/deep_gemm"),
        deep_gemm_files=WHOLE,
        cuda_toolkit=NVCC,
    )
    return caps.replace(**changes)


def files(**facts: Any) -> dict[str, Any]:
    """Return the change to files of which some facts are others."""
    return {"deep_gemm_files": replace(WHOLE, **facts)}


def told(requirement: Requirement, caps: Capabilities, heads: int = 64) -> Reason | None:
    """Return the reason that a requirement gives."""
    return requirement(caps, Request(heads=heads))


def test_a_whole_one_has_no_reason_against_it() -> None:
    """Every requirement is met on an H200 and a B200, alone and together."""
    for archs in (("sm_90",), ("sm_100",), ("sm_90", "sm_100"), ("sm_103",)):
        for requirement in (
            deep_gemm.installed, deep_gemm.arch_has_kernel, deep_gemm.imports, deep_gemm.cuda_same,
            deep_gemm.toolkit_found, deep_gemm.nvcc_compiles, deep_gemm.heads_taken,
        ):  # fmt: skip
            assert told(requirement, machine(*archs)) is None


@pytest.mark.parametrize(
    ("changes", "code", "verdict", "observed", "source"),
    [
        ({"deep_gemm_files": None}, "deepgemm.unknown", "unknown", "nothing was read of its files", "/site/deep_gemm"),
        (files(kernels=None), "deepgemm.unknown", "unknown", "its files", "/site/deep_gemm"),
        (files(kernels=()), "deepgemm.no-paged-logits", "unmet", "no such kernel", "/site/deep_gemm"),
    ],
)
def test_one_that_is_not_whole(changes: dict[str, Any], code: str, verdict: str, observed: str, source: str) -> None:
    """Of an old snapshot nothing was read, of a broken one nothing can be, and 1.0.0 of the index is another's."""
    found = told(deep_gemm.installed, machine(**changes))
    assert found is not None
    assert (found.code, found.verdict, found.observed, found.source) == (code, verdict, observed, source)


@pytest.mark.parametrize(
    ("state", "code"), [("missing", "package.missing"), ("broken", "package.broken"), ("unknown", "package.unknown")]
)
def test_one_that_is_not_there(state: str, code: str) -> None:
    """Nothing else is said of it."""
    found = told(deep_gemm.installed, machine(state=state))
    assert found is not None
    assert found.code == code
    for requirement in (deep_gemm.imports, deep_gemm.cuda_same):
        assert told(requirement, machine(state=state, **files(lacks=None, cuda=12))) is None
    assert told(deep_gemm.imports, machine(deep_gemm_files=None)) is None
    assert told(deep_gemm.cuda_same, machine(deep_gemm_files=None)) is None
    assert told(deep_gemm.arch_has_kernel, machine(deep_gemm_files=None)) is None


@pytest.mark.parametrize(
    ("build", "fix"), [("13.0", INDEX), ("13.1", INDEX), (None, INDEX), ("12.9", "build DeepGEMM for CUDA 12.9 from")]
)
def test_the_one_to_install(build: str | None, fix: str) -> None:
    """The index's wheels are for CUDA 13."""
    found = told(deep_gemm.installed, machine(state="missing", build=build))
    assert found is not None
    assert (found.fix or "").startswith(fix)


@pytest.mark.parametrize(
    ("archs", "kernels", "code", "verdict", "observed", "required", "source", "fixes"),
    [
        (("sm_80",), ("sm90",), "device.arch", "unmet", "sm_80", "one of sm_90, sm_100, sm_103, sm_120", "place 0", 0),
        (("sm_90", "sm_80"), ("sm90",), "device.arch", "unmet", "sm_80", "one of sm_90, sm_100, sm_103, sm_120",
            "place 1", 1),
        (("sm_88",), ("sm90",), "device.arch-unproven", "unknown", "sm_88", "one of sm_90, sm_100, sm_103, sm_120",
            "place 0", 0),
        (("sm_88", "sm_80"), ("sm90",), "device.arch", "unmet", "sm_80", "one of sm_90, sm_100, sm_103, sm_120",
            "place 1", 0),
        (("sm_90", "sm_120"), ("sm90", "sm100"), "deepgemm.arch", "unmet", "kernels for sm90, sm100, and sm_120",
            "a kernel for sm120", "/site/deep_gemm", 2),
        (("sm_100", "sm_120"), ("sm90",), "deepgemm.arch", "unmet", "kernels for sm90, and sm_100, sm_120",
            "a kernel for sm100, sm120", "/site/deep_gemm", 1),
    ],
)  # fmt: skip
def test_a_kernel_for_every_gpu(
    archs: tuple[str, ...], kernels: tuple[str, ...], code: str, verdict: str, observed: str, required: str,
    source: str, fixes: int,
) -> None:  # fmt: skip
    """GPUs of which DeepGEMM has none at all, and those of which the one here has none."""
    found = told(deep_gemm.arch_has_kernel, machine(*archs, **files(kernels=kernels)))
    assert found is not None
    assert (found.code, found.verdict, found.observed, found.required) == (code, verdict, observed, required)
    assert (found.source, len(found.changes)) == (source, fixes)
    assert told(deep_gemm.arch_has_kernel, machine("sm_90", **files(kernels=()))) is None


@pytest.mark.parametrize(
    ("lacks", "code", "verdict", "observed", "fix"),
    [
        (None, "deepgemm.unknown", "unknown", "what it imports", None),
        (("tvm_ffi",), "deepgemm.lacks", "unmet", "it imports tvm_ffi, which is not installed",
            "install what its metadata ask for: apache-tvm-ffi"),
        (("tvm_ffi", "packaging"), "deepgemm.lacks", "unmet", "it imports tvm_ffi, packaging, which is not installed",
            "install what its metadata ask for: apache-tvm-ffi, packaging"),
        (("deep_gemm.utils", "tvm_ffi"), "deepgemm.lacks", "unmet",
            "it imports deep_gemm.utils, tvm_ffi, which is not installed", INDEX),
    ],
)  # fmt: skip
def test_what_it_imports(
    lacks: tuple[str, ...] | None, code: str, verdict: str, observed: str, fix: str | None
) -> None:
    """A module of its own is not to be had alone."""
    found = told(deep_gemm.imports, machine(**files(lacks=lacks)))
    assert found is not None
    assert (found.code, found.verdict, found.observed, found.fix) == (code, verdict, observed, fix)


@pytest.mark.parametrize(
    ("cuda", "build", "code", "observed"),
    [
        (13, "13.0", None, None), (13, "13.1", None, None),
        (13, "12.9", "deepgemm.cuda", "DeepGEMM for CUDA 13, torch for CUDA 12.9"),
        (12, "13.0", "deepgemm.cuda", "DeepGEMM for CUDA 12, torch for CUDA 13.0"),
        (None, "13.0", "deepgemm.unknown", "DeepGEMM's CUDA"), (None, None, "deepgemm.unknown", "DeepGEMM's CUDA"),
        (13, None, "deepgemm.unknown", "torch's CUDA"), (13, "cu", "deepgemm.unknown", "torch's CUDA"),
    ],
)  # fmt: skip
def test_both_are_of_one_cuda(cuda: int | None, build: str | None, code: str | None, observed: str | None) -> None:
    """By the major version; of another platform's torch nothing is said."""
    caps = machine(build=build, **files(cuda=cuda))
    found = told(deep_gemm.cuda_same, caps)
    assert (found and found.code, found and found.observed) == (code, observed)
    assert told(deep_gemm.cuda_same, caps.replace(platform="rocm")) is None
    assert told(deep_gemm.cuda_same, machine(build=build, **files(cuda=cuda, kernels=()))) is None
    if code == "deepgemm.cuda" and found is not None:
        assert found.required == f"DeepGEMM for CUDA {str(build)[:2]}"


@pytest.mark.parametrize(
    ("toolkit", "verdict", "observed"),
    [
        (NVCC, None, None),
        (None, "unknown", "not looked for"),
        (CudaToolkit(home=None, source="no CUDA_HOME, no nvcc"), "unmet", "no CUDA_HOME, no nvcc"),
        (CudaToolkit(home="/cuda", source="CUDA_HOME"), "unmet", "/cuda (CUDA_HOME) without bin/nvcc"),
    ],
)
def test_a_toolkit_where_it_looks(toolkit: CudaToolkit | None, verdict: str | None, observed: str | None) -> None:
    """A home without nvcc is none; what was not looked for is not known."""
    found = told(deep_gemm.toolkit_found, machine(cuda_toolkit=toolkit))
    assert (found and found.verdict, found and found.observed) == (verdict, observed)
    assert found is None or found.code == "deepgemm.toolkit"
    assert found is None or len(found.changes) == (verdict == "unmet")


@pytest.mark.parametrize(
    ("archs", "told_by", "release", "least"),
    [
        (("sm_90",), None, "12.3", None), (("sm_90",), None, "12.2", "12.3"), (("sm_90",), "12.9", "12.8", "12.9"),
        (("sm_90",), "12.9", "12.9", None), (("sm_100",), None, "12.7", "12.8"), (("sm_100",), None, "12.8", None),
        (("sm_90", "sm_103"), "12.3", "12.8", "12.9"), (("sm_103", "sm_90"), "12.3", "12.8", "12.9"),
        (("sm_103",), "13.1", "13.0", "13.1"), (("sm_90",), "main", "12.2", "12.3"), (("sm_88",), None, "12.2", "12.3"),
        (("sm_90",), None, None, None), (("sm_90",), None, "unknown", None),
    ],
)  # fmt: skip
def test_the_oldest_nvcc_that_compiles_it(
    archs: tuple[str, ...], told_by: str | None, release: str | None, least: str | None
) -> None:
    """The latest of what DeepGEMM says, of 12.3, and of what the GPUs need; one that tells no release is taken."""
    toolkit = CudaToolkit(home="/cuda", source="CUDA_HOME", nvcc=True, release=release)
    found = told(deep_gemm.nvcc_compiles, machine(*archs, cuda_toolkit=toolkit, **files(nvcc=told_by)))
    if least is None:
        assert found is None
        return
    assert found is not None
    assert (found.code, found.observed, found.required) == (
        "deepgemm.nvcc",
        f"nvcc of CUDA {release}",
        f"nvcc >= {least}",
    )
    assert found.source == "/cuda (CUDA_HOME)"
    assert [change.value for change in found.changes] == [least]
    without = CudaToolkit(home="/cuda", source="CUDA_HOME", nvcc=False, release=release)
    assert told(deep_gemm.nvcc_compiles, machine(*archs, cuda_toolkit=without)) is None
    assert told(deep_gemm.nvcc_compiles, machine(*archs, cuda_toolkit=None)) is None


@pytest.mark.parametrize(
    ("heads", "version", "distribution", "archs", "takes"),
    [
        (32, None, None, ("sm_90",), True), (64, None, None, ("sm_90",), True),
        (8, "0.1.5", "sgl-deep-gemm", ("sm_100",), True), (16, "0.1.5", "sgl-deep-gemm", ("sm_120",), True),
        (16, "0.2.0", "sgl-deep-gemm", ("sm_103", "sm_120"), True),
        (16, "0.1.4", "sgl-deep-gemm", ("sm_100",), False), (16, "0.1.5", "sgl-deep-gemm", ("sm_90",), False),
        (16, "0.1.5", "sgl-deep-gemm", ("sm_100", "sm_90"), False), (24, "0.1.5", "sgl-deep-gemm", ("sm_100",), False),
        (16, "0.1.5", "deep_gemm", ("sm_100",), False), (16, None, "sgl-deep-gemm", ("sm_100",), False),
    ],
)  # fmt: skip
def test_the_heads_that_it_takes(
    heads: int, version: str | None, distribution: str | None, archs: tuple[str, ...], takes: bool
) -> None:
    """32 and 64; 8 and 16 since sgl-deep-gemm 0.1.5 on Blackwell, as its own checks say."""
    package = Package("deep_gemm", "found", version, distribution)
    caps = machine(*archs, deep_gemm=package)
    found = told(deep_gemm.heads_taken, caps, heads)
    assert (found is None) == takes
    if found is not None:
        assert (found.code, found.verdict, found.observed) == ("request.shape-unproven", "unknown", f"{heads} heads")
    if heads in (8, 16):
        assert told(deep_gemm.heads_taken, caps.replace(devices=()), heads) is not None
