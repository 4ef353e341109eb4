"""The fakes of `nsa_caps.testing`: what they lay out is what the probes find, and what cannot be is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsa_caps import AotKernel, Host, decide, probe
from nsa_caps.capabilities.records import PLATFORMS, Platform
from nsa_caps.testing import (
    GENERATIONS,
    FakeNvml,
    FakeNvmlError,
    MachineError,
    lay_out_gpus,
    lay_out_packages,
    machine,
    write_aiter_tree,
)
from tests.hand import lay_out_nvcc

TILED = AotKernel("paged_mqa_logits_preshuffle_64x256x128_B64PFW2", complete=True, arch="gfx942")


def test_a_machine_is_what_was_said(tmp_path: Path) -> None:
    """Every argument comes back from the probes, and no probe has anything to remark."""
    environ = {"SGLANG_USE_AITER": "1"}
    host = machine(
        tmp_path / "m",
        platform="rocm",
        archs=["gfx942", "gfx90a", "gfx1151", "gfx1250"],
        torch="2.9.1+rocm7.0",
        triton="3.5.1+rocm7.2.4.gita272dfa8",
        aiter="a6bb4993",
        aiter_version="0.1.13",
        bundle=[TILED],
        deep_gemm="2.1.1",
        environ=environ,
    )
    caps = probe(host)
    assert caps.platform == "rocm"
    assert caps.archs == ("gfx942", "gfx90a", "gfx1151", "gfx1250")
    assert [package.version for package in (caps.torch, caps.triton, caps.aiter, caps.deep_gemm)] == [
        "2.9.1+rocm7.0", "3.5.1+rocm7.2.4.gita272dfa8", "0.1.13", "2.1.1",
    ]  # fmt: skip
    assert caps.triton.distribution == "triton"
    assert caps.aiter_source == replace(GENERATIONS["a6bb4993"], location=str(caps.aiter.location))
    assert caps.aot_bundle.kernels == (TILED,)
    assert dict(caps.variables) == environ
    assert caps.notes == ()


def test_the_default_machine_is_a_node_without_a_gpu(tmp_path: Path) -> None:
    """With nothing said it is a ROCm build on a node without a GPU, and without aiter."""
    caps = probe(machine(tmp_path / "m"))
    assert (caps.platform, caps.devices, caps.aiter.state, caps.notes) == ("rocm", (), "missing", ())


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_platform_can_be_laid_out(tmp_path: Path, platform: Platform) -> None:
    """The platform that is named is the one that is found."""
    assert probe(machine(tmp_path / "m", platform=platform)).platform == platform


@pytest.mark.parametrize("platform", ["rocm", "cuda"])
def test_gpus_that_are_not_known(tmp_path: Path, platform: Platform) -> None:
    """A driver that does not tell leaves the GPUs unknown, on either vendor's machine."""
    assert probe(machine(tmp_path / "m", platform=platform, archs=None)).devices is None


def test_several_tritons(tmp_path: Path) -> None:
    """Any number of distributions can lie beside triton."""
    host = machine(tmp_path / "m", triton="3.4.0", triton_distributions={"triton": "3.5.1", "amd-triton": "3.4.0"})
    assert probe(host).triton.distribution == "amd-triton"


@pytest.mark.parametrize("triton", ["unknown", "", "3.4.0'; import os #", "ä\n"])
def test_any_text_can_be_tritons_version(tmp_path: Path, triton: str) -> None:
    """The version is written as a literal, whatever it says."""
    assert probe(machine(tmp_path / "m", triton=triton)).triton.version == triton


def test_an_imported_module_can_be_put_in(tmp_path: Path) -> None:
    """Modules that are handed in stand beside those that the GPUs bring."""
    host = machine(tmp_path / "m", platform="cuda", archs=["sm_90"], modules={"triton": 3})
    assert set(host.modules) == {"pynvml", "triton"}


def test_folders_can_be_shared(tmp_path: Path) -> None:
    """Several import folders make one machine, so that thousands of machines need few files."""
    path = (
        lay_out_packages(tmp_path / "torch", platform="cuda", torch="2.9.1"),
        lay_out_packages(tmp_path / "deep_gemm", deep_gemm="2.1.1", triton="3.6.0"),
    )
    modules = lay_out_gpus(tmp_path / "root", ["sm_90"])
    lay_out_nvcc(tmp_path / "root")
    caps = probe(Host({}, path, modules, str(tmp_path / "root")))
    assert decide(caps).chosen == "deepgemm"
    assert caps.aiter.state == "missing"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"platform": "amd"}, "platform is 'amd', needs one of rocm, cuda"),
        ({"torch": None}, "platform is 'rocm' and torch None"),
        ({"aiter": "0.1.13"}, "aiter is '0.1.13', needs 'impostor' or one of d36601a9, fe927e8d"),
        ({"bundle": [TILED]}, "bundle needs AMD's aiter"),
        ({"bundle": [TILED], "aiter": "impostor"}, "bundle needs AMD's aiter"),
        ({"aiter": "a6bb4993", "bundle": [AotKernel("x", complete=False)]}, "'x' is none of aiter's"),
        ({"aiter": "a6bb4993", "bundle": [replace(TILED, arch=None)]}, "is complete and has no arch"),
        ({"archs": ["gfx942", "sm_90"]}, "arch 'sm_90' does not go with the others"),
        ({"archs": ["mi300x"]}, "arch 'mi300x' does not go with the others"),
        ({"archs": ["sm_ninety"]}, "arch 'sm_ninety' is none of NVIDIA's"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    """Arguments that contradict each other are refused by name, with what is needed."""
    with pytest.raises(MachineError, match=message):
        machine(tmp_path / "m", **arguments)


def test_each_machine_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """A folder with something in it is refused: two machines would become one."""
    machine(tmp_path / "m")
    with pytest.raises(MachineError, match="is not empty"):
        machine(tmp_path / "m")


def test_a_laid_out_aiter_is_not_aiters_code(tmp_path: Path) -> None:
    """The tree holds gates and signatures alone: no kernel, a few hundred bytes a file."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    sizes = {path.name: path.stat().st_size for path in Path(tmp_path).rglob("*.py")}
    assert max(sizes.values()) < 2500, sizes


def test_the_nvml_of_ones_own() -> None:
    """The fake answers as nvidia-ml-py does, and fails where it is told to."""
    nvml = FakeNvml(("sm_90", "sm_120"), ("GPU-a", "GPU-b"))
    nvml.nvmlInit()
    assert nvml.nvmlDeviceGetCount() == 2
    handle = nvml.nvmlDeviceGetHandleByIndex(1)
    assert nvml.nvmlDeviceGetCudaComputeCapability(handle) == (12, 0)
    assert (nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)) == ("GPU-b", "fake sm_120")
    nvml.nvmlShutdown()
    for fails in ("library", "nvmlInit"):
        with pytest.raises(FakeNvmlError):
            replace(nvml, fails=fails).nvmlInit()
    with pytest.raises(FakeNvml.NVMLError):
        replace(nvml, fails="nvmlDeviceGetName").nvmlDeviceGetName(0)
    with pytest.raises(ValueError, match="sm-90"):
        FakeNvml(("sm-90",))
