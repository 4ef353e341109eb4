"""Machines laid out in a folder: every file that a probe would read on the real one, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from nsa_caps.capabilities.engines import ENGINE_TABLE
from nsa_caps.capabilities.records import AiterSource, AotKernel, Platform
from nsa_caps.errors import NsaCapsError
from nsa_caps.probes.aiter.files import EXCERPTS
from nsa_caps.probes.host import Host
from nsa_caps.testing.aiter_tree import GENERATIONS, write_aiter_tree
from nsa_caps.testing.nvml import FakeNvml

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

__all__ = ["AOT_FOLDER", "MachineError", "lay_out_gpus", "lay_out_packages", "machine"]

AOT_FOLDER = "aiter/ops/triton/configs/paged_mqa_logits/aot"
"""Where aiter's loader looks for its ahead-of-time kernels, below the import folder."""

_KFD_NODES = "sys/class/kfd/kfd/topology/nodes"
# What each build of torch names in its version.py; the vendors of npu and musa add a plugin to the CPU build.
_BUILDS: Mapping[Platform, tuple[str, str]] = {
    "rocm": ("hip", "7.0.51831-7c9236b16"),
    "cuda": ("cuda", "12.8"),
    "xpu": ("xpu", "20250301"),
}
_PLUGINS: Mapping[Platform, str] = {"npu": "torch_npu", "musa": "torch_musa", "hpu": "habana_frameworks"}
# Those whose torch passes for another vendor's: whose, and the word in its version that tells.
_DISGUISED: Mapping[Platform, tuple[Platform, str]] = {"dcu": ("rocm", "das.opt1"), "metax": ("cuda", "metax3.2.1.3")}
_BUNDLE_STEM = "_gluon_deepgemm_fp8_paged_mqa_logits"


class MachineError(NsaCapsError, ValueError):
    """A machine was described that cannot be laid out; the message names the argument and what it needs."""


def machine(
    folder: str | os.PathLike[str],
    *,
    platform: Platform = "rocm",
    archs: Sequence[str] | None = (),
    torch: str | None = "2.9.1",
    triton: str | None = "3.6.0",
    triton_distributions: Mapping[str, str] | None = None,
    aiter: str | AiterSource | None = None,  # noqa: A002 the package's name
    aiter_version: str | None = None,
    bundle: Sequence[AotKernel] = (),
    deep_gemm: str | None = None,
    flydsl: str | None = None,
    environ: Mapping[str, str] | None = None,
    modules: Mapping[str, object] | None = None,
    engines: Mapping[str, str] | None = None,
) -> Host:
    """Lay out a machine below `folder` and return the host that probes may be asked about.

        >>> host = machine(tmp_path, archs=["gfx942"], aiter="a6bb4993", environ={"SGLANG_USE_AITER": "1"})
        >>> nsa_caps.decide(nsa_caps.probe(host)).chosen
        'aiter-preshuffle'

    Args:
        folder: an empty folder, or one that is not there yet.
        platform: what torch is built for; `unknown`: its version file names no build.
        archs: the GPUs in the order of the driver, such as `gfx942` or `sm_90`; empty: no driver is loaded; None: a
            driver is loaded that does not tell.
        torch: torch's version; None: not installed.
        triton: the text of `triton.__version__`, any text; None: not installed.
        triton_distributions: version by name of the distributions whose metadata lie beside triton; None: `triton`
            alone, of the same version, where that text is one.
        aiter: a key of `GENERATIONS`, or facts that its source shall show; `impostor`: the public index's package of
            that name; None: not installed.
        aiter_version: the version in `aiter/_version.py`; None: there is no such file, as in a checkout.
        bundle: aiter's ahead-of-time kernels; one that is not `complete` lacks its `.hsaco`.
        deep_gemm: DeepGEMM's version, of which a whole one is laid out: kernels for sm_90, sm_100 and sm_120, an
            extension for torch's CUDA, and a toolkit whose nvcc is on the `PATH`, or below the `CUDA_HOME`, of the
            environment; an environment with a `PATH` that names no folder of CUDA has none. None: not installed.
        flydsl: the version of flydsl, from which aiter builds some of its kernels; None: not installed.
        environ: the environment.
        modules: modules that are already imported, by name.
        engines: version by name of the engines that are installed.

    Raises:
        MachineError: the folder is not empty, or two arguments contradict each other.
    """
    place = Path(folder)
    if place.exists() and any(place.iterdir()):
        raise MachineError(f"folder {str(place)!r} is not empty: each machine needs one of its own")
    packages = lay_out_packages(
        place / "site",
        platform=platform,
        torch=torch,
        triton=triton,
        triton_distributions=triton_distributions,
        aiter=aiter,
        aiter_version=aiter_version,
        bundle=bundle,
        deep_gemm=deep_gemm,
        flydsl=flydsl,
        engines=engines,
    )
    loaded = lay_out_gpus(place / "root", archs, nvidia=platform == "cuda")
    variables = dict(environ or {})
    if deep_gemm is not None:
        variables = _lay_out_toolkit(place / "root", variables)
    return Host(
        environ=MappingProxyType(variables),
        search_path=(packages,),
        modules=MappingProxyType({**loaded, **(modules or {})}),
        root=str(place / "root"),
    )


def lay_out_packages(
    folder: str | os.PathLike[str],
    *,
    platform: Platform = "unknown",
    torch: str | None = None,
    triton: str | None = None,
    triton_distributions: Mapping[str, str] | None = None,
    aiter: str | AiterSource | None = None,  # noqa: A002 the package's name
    aiter_version: str | None = None,
    bundle: Sequence[AotKernel] = (),
    deep_gemm: str | None = None,
    flydsl: str | None = None,
    engines: Mapping[str, str] | None = None,
) -> str:
    """Lay out an import folder and return its path; the arguments are `machine`'s, nothing is installed unasked.

    Several such folders make one search path, so that machines that share a package can share its files.

    Raises:
        MachineError: two arguments contradict each other.
    """
    site = Path(folder)
    site.mkdir(parents=True, exist_ok=True)
    _check_packages(platform, torch, aiter, bundle)
    _write(site / EXCERPTS, "What of aiter is put here may be an excerpt: see nsa_caps.probes.aiter.files.\n")
    if torch is not None:
        _lay_out_torch(site, platform, torch)
    if triton is not None:
        _write(site / "triton/__init__.py", f"__version__ = {triton!r}\n")
        if triton_distributions is None:
            triton_distributions = {"triton": triton} if re.fullmatch(r"\d[\w.+]*", triton) else {}
    for name, version in (triton_distributions or {}).items():
        _metadata(site, name, version)
    if deep_gemm is not None:
        _lay_out_deep_gemm(site, deep_gemm, _cuda_of(torch))
    if flydsl is not None:
        _write(site / "flydsl/__init__.py", f"__version__ = {flydsl!r}\n")
        _write(site / "flydsl/utils/smem_allocator.py", "")
        _metadata(site, "flydsl", flydsl)
    if aiter is not None:
        _lay_out_aiter(site, aiter, aiter_version)
    for name, version in (engines or {}).items():
        _lay_out_engine(site, name, version)
    for kernel in bundle:
        _write_kernel(site / AOT_FOLDER, kernel)
    return str(site)


def lay_out_gpus(
    folder: str | os.PathLike[str], archs: Sequence[str] | None, *, nvidia: bool = False
) -> Mapping[str, object]:
    """Lay out what the GPU drivers show below a file-system root, and return the modules that tell the rest.

    AMD's GPUs stand in KFD's topology behind the nodes of two CPUs, with the unique ids 1, 2, ...; NVIDIA's are told by
    a `FakeNvml` under the name `pynvml`, which belongs into `Host.modules`.

    Args:
        folder: the root; made if it is not there.
        archs: as `machine` takes them.
        nvidia: whose driver it is where `archs` is None.

    Raises:
        MachineError: an arch is neither AMD's nor NVIDIA's, or both are there.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    if archs is None:
        if nvidia:
            _write(root / "proc/driver/nvidia/version", "")
        else:
            _write(root / _KFD_NODES / "0/properties", "cpu_cores_count 0\n")
        return {}
    if not archs:
        return {}
    if all(arch.startswith("sm_") for arch in archs):
        _write(root / "proc/driver/nvidia/version", "")
        try:
            return {"pynvml": FakeNvml(tuple(archs))}
        except ValueError as error:
            raise MachineError(str(error)) from error
    _write(root / "dev/kfd", "")
    for index, version in enumerate((0, 0, *map(_target_version, archs))):
        unique = max(0, index - 1)
        render = 126 + index if version else 0
        lines = (
            *(f"cpu_cores_count {0 if version else 96}", f"unique_id {unique}", f"gfx_target_version {version}"),
            f"drm_render_minor {render}",
        )
        _write(root / _KFD_NODES / str(index) / "properties", "\n".join((*lines, "")))
        if render:
            _write(root / f"dev/dri/renderD{render}", "")
    return {}


def _check_packages(
    platform: Platform,
    torch: str | None,
    aiter: str | AiterSource | None,  # noqa: A002 the package's name
    bundle: Sequence[AotKernel],
) -> None:
    if platform not in get_args(Platform):
        raise MachineError(f"platform is {platform!r}, needs one of {', '.join(get_args(Platform))}")
    if torch is None and platform != "unknown":
        raise MachineError(f"platform is {platform!r} and torch None: the platform is a fact of torch's build")
    if isinstance(aiter, str) and aiter != "impostor" and aiter not in GENERATIONS:
        raise MachineError(f"aiter is {aiter!r}, needs 'impostor' or one of {', '.join(GENERATIONS)}")
    if bundle and aiter in (None, "impostor"):
        raise MachineError("bundle needs AMD's aiter, in whose folder it lies")
    for kernel in bundle:
        if not kernel.name.startswith("paged_mqa_logits_"):
            raise MachineError(f"bundle kernel {kernel.name!r} is none of aiter's, needs a name paged_mqa_logits_...")
        if kernel.complete and kernel.arch is None:
            raise MachineError(f"bundle kernel {kernel.name!r} is complete and has no arch, needs one such as gfx942")


def _cuda_of(torch: str | None) -> str:
    """Return the CUDA that a torch is built for, by its version (2.9.1+cu130); the kit's own without one."""
    match = re.search(r"\+cu(\d+)(\d)$", torch or "")
    return f"{match[1]}.{match[2]}" if match else _BUILDS["cuda"][1]


def _lay_out_deep_gemm(site: Path, version: str, cuda: str) -> None:
    package = site / "deep_gemm"
    _write(package / "__init__.py", f"import torch\n__version__ = {version!r}\n")
    _write(package / "_C.so", f"\x7fELF libcudart.so.{cuda.partition('.')[0]}\0")
    for family in ("sm90", "sm100", "sm120"):
        _write(package / f"include/deep_gemm/impls/{family}_fp8_paged_mqa_logits.cuh", "")


def _lay_out_toolkit(root: Path, environ: dict[str, str]) -> dict[str, str]:
    """Lay out nvcc where an environment looks for it, and return the environment, with a `PATH` if it had none."""
    home = environ.get("CUDA_HOME") or environ.get("CUDA_PATH")
    if home is None:
        environ = {"PATH": "/usr/local/cuda-12.9/bin:/usr/bin:/bin", **environ}
        folders = [folder for folder in environ["PATH"].split(":") if "cuda" in folder]
        home = folders[0].removesuffix("/bin") if folders else None
    if home is not None:
        _write(root / home.lstrip("/") / "bin/nvcc", "Cuda compilation tools, release 12.9, V12.9.86\n")
    return environ


def _lay_out_torch(site: Path, platform: Platform, version: str) -> None:
    _write(site / "torch/__init__.py", "")
    _write(site / "torch/version.py", _torch_version(platform, version))
    if platform in _PLUGINS:
        _write(site / _PLUGINS[platform] / "__init__.py", "")


def _lay_out_aiter(site: Path, aiter: str | AiterSource, version: str | None) -> None:  # noqa: A002 the package's name
    if aiter == "impostor":
        _write(site / "aiter/__init__.py", "")
        _metadata(site, "aiter", "0.13.20191203")
        return
    write_aiter_tree(site, GENERATIONS[aiter] if isinstance(aiter, str) else aiter)
    if version is not None:
        _write(site / "aiter/_version.py", f"__version__ = version = {version!r}\n")


def _lay_out_engine(site: Path, name: str, version: str) -> None:
    engine = ENGINE_TABLE.get(name)
    if engine is None or engine.package is None:
        raise MachineError(f"engine {name!r} is no package, needs one of {', '.join(ENGINE_TABLE)} but generic")
    _write(site / engine.package / "__init__.py", "")
    _write(site / engine.package / engine.version_files[0], f"__version__ = {version!r}\n")
    for mark in engine.hallmarks:
        _write(site / engine.package / mark / "__init__.py", "")


def _target_version(arch: str) -> int:
    """Return KFD's `gfx_target_version`: 90010 for gfx90a, 110501 for gfx1151."""
    match = re.fullmatch(r"gfx(\d{1,2})([0-9a-f])([0-9a-f])", arch)
    if match is None:
        raise MachineError(f"arch {arch!r} does not go with the others, needs 'gfx942' on AMD and 'sm_90' on NVIDIA")
    return int(match[1]) * 10000 + int(match[2], 16) * 100 + int(match[3], 16)


def _torch_version(platform: Platform, version: str) -> str:
    if platform == "unknown":
        return f"__version__ = {version!r}\n"
    values: dict[str, str | None] = dict.fromkeys(("cuda", "hip", "xpu"))
    if platform in _DISGUISED:
        platform, word = _DISGUISED[platform]
        version = version if "+" in version else f"{version}+{word}"
    if platform in _BUILDS:
        name, build = _BUILDS[platform]
        values[name] = _cuda_of(version) if name == "cuda" else build
    lines = [f"{name}: Optional[str] = {value!r}" for name, value in values.items()]
    return "\n".join(("from typing import Optional", f"__version__ = {version!r}", "debug = False", *lines, ""))


def _metadata(site: Path, distribution: str, version: str) -> None:
    folder = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    _write(folder / "METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")


def _write_kernel(bundle: Path, kernel: AotKernel) -> None:
    # The name tells the function: `paged_mqa_logits_preshuffle_64x...` is that of `..._preshuffle`.
    variant = re.match(r"paged_mqa_logits((?:_[a-z]+)*)_", kernel.name)
    stem = _BUNDLE_STEM + (variant[1] if variant else "")
    document: dict[str, Any] = {"name": stem, "target": {"backend": "hip", "arch": kernel.arch, "warp_size": 64}}
    _write(bundle / kernel.name / f"{stem}.json", json.dumps(document))
    if kernel.complete:
        _write(bundle / kernel.name / f"{stem}.hsaco", "")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
