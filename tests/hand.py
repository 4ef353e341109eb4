"""Capabilities made by hand of a short description, as the probes would find them on such a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps import AotBundle, Capabilities, Device, Package
from nsa_caps.capabilities.cuda import CudaToolkit, DeepGemmFiles
from nsa_caps.capabilities.records import AotKernel, PackageState
from nsa_caps.capabilities.switches import resolve
from nsa_caps.testing import GENERATIONS

if TYPE_CHECKING:
    from pathlib import Path

    from .oracle import Machine

BUNDLES = ("absent", "complete", "partial", "only-token", "only-preshuffle", "other-heads", "other-arch")


def bundle_of(state: str, arch: str, generation: str | None) -> tuple[AotKernel, ...]:
    """Return the kernels that a bundle in this state holds, for requests of 64 heads and of 32."""
    waves = "W4" if generation == "04907edc" else "W2"
    tiled, token = (waves, "W1") if arch == "gfx1250" else ("W2", "W2")
    kernels = []
    for heads in (128,) if state == "other-heads" else (64, 32):
        both = (f"preshuffle_{heads}x256x128_B64PF{tiled}", f"{heads}x256x128_B1PF{token}")
        suffixes = {"only-preshuffle": both[:1], "only-token": both[1:], "absent": ()}.get(state, both)
        other = {"gfx942": "gfx950"}.get(arch, "gfx942")
        for suffix in suffixes:
            kernel_arch = other if state == "other-arch" else arch
            kernels.append(AotKernel(f"paged_mqa_logits_{suffix}", state != "partial", kernel_arch))
    return tuple(kernels)


def lay_out_nvcc(root: Path) -> None:
    """Lay out the compiler of a CUDA toolkit where DeepGEMM looks for one last."""
    nvcc = root / "usr/local/cuda/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("Cuda compilation tools, release 12.9, V12.9.86\n")


def capabilities(machine: Machine) -> Capabilities:
    """Return what the probes would find on a machine."""
    archs = machine.archs
    state: PackageState = {None: "missing", "impostor": "impostor"}.get(machine.aiter, "found")  # type: ignore[assignment]
    source = GENERATIONS[str(machine.aiter)] if state == "found" else None
    bundle = (
        AotBundle("", bundle_of(machine.bundle, (archs or ("gfx942",))[0], machine.aiter)) if source else AotBundle()
    )
    amd = machine.rocminfo_arch or next((arch for arch in archs or () if arch.startswith("gfx")), None)
    files = (
        DeepGemmFiles(location="", kernels=("sm90", "sm100", "sm120"), cuda=12, lacks=()) if machine.deep_gemm else None
    )
    return Capabilities(
        engine=machine.engine,
        platform=machine.platform,  # type: ignore[arg-type]  # the oracle knows no types of ours
        devices=None if archs is None else tuple(Device(index, arch, "by hand") for index, arch in enumerate(archs)),
        rocminfo_arch=amd,
        torch=Package("torch", "found", "2.9.1") if machine.torch else Package("torch", "missing"),
        triton=Package("triton", "missing" if machine.triton is None else "found", machine.triton),
        aiter=Package("aiter", state),
        deep_gemm=Package("deep_gemm", "found" if machine.deep_gemm else "missing"),
        flydsl=Package("flydsl", "missing"),
        build="12.8" if machine.platform == "cuda" else None,
        deep_gemm_files=files,
        cuda_toolkit=CudaToolkit(home="/usr/local/cuda", source="CUDA_HOME", nvcc=True),
        aiter_source=source,
        aot_bundle=bundle,
        variables=machine.environ,
        switches=resolve(machine.environ, machine.engine)[0],
    )
