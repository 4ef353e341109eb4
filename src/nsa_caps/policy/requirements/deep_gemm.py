"""What row `deepgemm` needs of DeepGEMM: not that a folder of that name is there, but that its kernel will run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from nsa_caps.archs import ARCHS
from nsa_caps.policy.changes import Change
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.requirements.common import not_found
from nsa_caps.policy.requirements.gpu import keep_only, where
from nsa_caps.policy.versions import base_version

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.policy.request import Request

__all__ = [
    "arch_has_kernel",
    "cuda_same",
    "heads_taken",
    "imports",
    "installed",
    "nvcc_compiles",
    "toolkit_found",
]

# Every wheel of the public index that was read (0.0.1 to 0.2.5) asks for the libraries of CUDA 13.
_INDEX_CUDA = 13
_INDEX = Change("deep_gemm", "deep_gemm", "sgl-deep-gemm>=0.1.5")


def installed(caps: Capabilities, _: Request) -> Reason | None:
    """Need DeepGEMM, whole, the one that is meant, and one with paged logits, which came with 2.1."""
    package, files = caps.deep_gemm, caps.deep_gemm_files
    if package.state != "found":
        return not_found(package, "deep_gemm", _install(caps))
    if files is None:
        again = Change("advice", "take the snapshot again, with this release: older ones tell nothing of these files")
        return Reason(
            "deepgemm.unknown",
            "unknown",
            observed="nothing was read of its files",
            required="its headers, its extension and its imports",
            source=package.location,
            changes=(again,),
        )
    if files.kernels is None:
        return Reason(
            "deepgemm.unknown",
            "unknown",
            observed="its files",
            required="files that can be read",
            source=package.location,
        )
    if not files.kernels:
        required = "an include/deep_gemm/impls/sm*_fp8_paged_mqa_logits.cuh"
        return Reason(
            "deepgemm.no-paged-logits",
            "unmet",
            observed="no such kernel",
            required=required,
            source=files.location,
            changes=_install(caps),
        )
    return None


def _install(caps: Capabilities) -> tuple[Change, ...]:
    """Return the DeepGEMM to install for this torch: the index has none for CUDA 12, or without a CUDA."""
    cuda = base_version(caps.build)
    if cuda is None or cuda.major == _INDEX_CUDA:
        return (_INDEX,)
    text = (
        f"build DeepGEMM for CUDA {caps.build} from github.com/deepseek-ai/DeepGEMM, or take a torch for CUDA 13"
        f" (--index-url https://download.pytorch.org/whl/cu130) and then {_INDEX.text}: the index's wheels are for it"
    )
    return (Change("advice", text),)


def arch_has_kernel(caps: Capabilities, _: Request) -> Reason | None:
    """Need a kernel for every visible GPU among DeepGEMM's headers: vllm#38476, sglang#32947, sglang#26087."""
    families = {arch: ARCHS[arch].deep_gemm if arch in ARCHS else None for arch in caps.archs or ()}
    without = [arch for arch, family in families.items() if family is None]
    if without:
        known = [arch for arch in without if arch in ARCHS]
        return Reason(
            "device.arch" if known else "device.arch-unproven",
            "unmet" if known else "unknown",
            observed=", ".join(known or without),
            required=f"one of {', '.join(arch for arch, record in ARCHS.items() if record.deep_gemm)}",
            source=where(caps, (known or without)[0]),
            changes=keep_only(caps, without),
        )
    files = caps.deep_gemm_files
    if files is None or not files.kernels:
        return None
    lacking = [arch for arch, family in families.items() if family not in files.kernels]
    if not lacking:
        return None
    observed = f"kernels for {', '.join(files.kernels)}, and {', '.join(lacking)}"
    changes = (*_install(caps), *keep_only(caps, lacking))
    required = f"a kernel for {', '.join(sorted({str(families[arch]) for arch in lacking}))}"
    return Reason(
        "deepgemm.arch",
        "unmet",
        observed=observed,
        required=required,
        source=files.location,
        changes=changes,
    )


def imports(caps: Capabilities, _: Request) -> Reason | None:
    """Need the packages that DeepGEMM's own `__init__.py` imports."""
    files = caps.deep_gemm_files
    if files is None or caps.deep_gemm.state != "found":
        return None
    if files.lacks is None:
        return Reason(
            "deepgemm.unknown",
            "unknown",
            observed="what it imports",
            required="an __init__.py that can be read",
            source=files.location,
        )
    if not files.lacks:
        return None
    observed = f"it imports {', '.join(files.lacks)}, which is not installed"
    names = {"tvm_ffi": "apache-tvm-ffi"}
    text = f"install what its metadata ask for: {', '.join(names.get(name, name) for name in files.lacks)}"
    halved = any(name.startswith("deep_gemm.") for name in files.lacks)
    return Reason(
        "deepgemm.lacks",
        "unmet",
        observed=observed,
        required="all of its imports",
        source=files.location,
        changes=_install(caps) if halved else (Change("advice", text),),
    )


def cuda_same(caps: Capabilities, _: Request) -> Reason | None:
    """Need DeepGEMM's extension to be built for torch's CUDA: with another one its import fails (sglang#25069)."""
    files, cuda = caps.deep_gemm_files, base_version(caps.build)
    if files is None or caps.deep_gemm.state != "found" or caps.platform != "cuda" or not files.kernels:
        return None
    if files.cuda is None or cuda is None:
        observed = "DeepGEMM's CUDA" if files.cuda is None else "torch's CUDA"
        return Reason(
            "deepgemm.unknown", "unknown", observed=observed, required="the CUDA of both", source=files.location
        )
    if files.cuda == cuda.major:
        return None
    observed = f"DeepGEMM for CUDA {files.cuda}, torch for CUDA {caps.build}"
    changes = _install(caps)
    return Reason(
        "deepgemm.cuda",
        "unmet",
        observed=observed,
        required=f"DeepGEMM for CUDA {cuda.major}",
        source=files.location,
        changes=changes,
    )


def toolkit_found(caps: Capabilities, _: Request) -> Reason | None:
    """Need a CUDA toolkit where DeepGEMM looks for one: its import asserts it, its first call compiles with nvcc."""
    toolkit = caps.cuda_toolkit
    if toolkit is not None and toolkit.nvcc:
        return None
    required = "nvcc below CUDA_HOME, CUDA_PATH, on PATH or below /usr/local/cuda"
    change = Change("toolkit", "toolkit", _least_nvcc(caps))
    if toolkit is None:
        return Reason("deepgemm.toolkit", "unknown", observed="not looked for", required=required)
    observed = toolkit.source if toolkit.home is None else f"{toolkit.home} ({toolkit.source}) without bin/nvcc"
    return Reason(
        "deepgemm.toolkit",
        "unmet",
        observed=observed,
        required=required,
        source="deep_gemm's _find_cuda_home",
        changes=(change,),
    )


def nvcc_compiles(caps: Capabilities, _: Request) -> Reason | None:
    """Need an nvcc that is new enough for DeepGEMM and for every visible GPU; one that tells no release is taken."""
    toolkit, least = caps.cuda_toolkit, _least_nvcc(caps)
    release = base_version(toolkit.release) if toolkit is not None and toolkit.nvcc else None
    if toolkit is None or release is None or release >= Version(least):
        return None
    change = Change("toolkit", "toolkit", least)
    observed, source = f"nvcc of CUDA {toolkit.release}", f"{toolkit.home} ({toolkit.source})"
    return Reason(
        "deepgemm.nvcc", "unmet", observed=observed, required=f"nvcc >= {least}", source=source, changes=(change,)
    )


def _least_nvcc(caps: Capabilities) -> str:
    """Return the oldest nvcc that compiles DeepGEMM's kernel for the visible GPUs."""
    told = caps.deep_gemm_files.nvcc if caps.deep_gemm_files is not None else None
    ours = [ARCHS[arch].ptxas for arch in caps.archs or () if arch in ARCHS]
    known = {text: version for text in (told, "12.3", *ours) if (version := base_version(text)) is not None}
    return str(max(known, key=lambda text: known[text]))


def heads_taken(caps: Capabilities, request: Request) -> Reason | None:
    """Need a number of heads that DeepGEMM's paged kernel takes, by the checks in the extensions that were read.

    SGLang pads to 32 since 0.5.17, but the keys of a prefill alone: its paged call hands over as many as the model has.
    """
    if request.heads in (32, 64):
        return None
    release = base_version(caps.deep_gemm.version) if caps.deep_gemm.distribution == "sgl-deep-gemm" else None
    is_new = release is not None and release.release >= (0, 1, 5)
    archs = caps.archs or ()
    if request.heads in (8, 16) and is_new and archs and all(arch.startswith(("sm_10", "sm_12")) for arch in archs):
        return None
    return Reason(
        "request.shape-unproven",
        "unknown",
        observed=f"{request.heads} heads",
        required="32 or 64 heads; 8 or 16 on sm_10x and sm_12x with sgl-deep-gemm >= 0.1.5",
        source="the request",
    )
